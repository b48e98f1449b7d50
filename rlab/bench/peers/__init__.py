"""Other people's way of training the same agents, for measurements beside ours."""
