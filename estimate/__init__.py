"""Estimates: the cost of a month and of a bad day, and the share of a peak load that gets a token. Only Python is needed."""
