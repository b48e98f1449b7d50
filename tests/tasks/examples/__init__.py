"""Tasks of other kinds than classification, each in one file that a user could have written."""
