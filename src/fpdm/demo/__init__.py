"""A web page on this machine that shows what a budget does."""
