"""Estimates: the cost of a month and of a bad day, and how many of a peak load get a token. They need Python alone."""
