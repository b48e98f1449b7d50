"""The crawler that is paid for walking: environment and mechanics."""
