"""Several machines that learn together: items 278-282."""
