"""Learning as such, logistic regression, shallow and deep networks: items 001-045."""
