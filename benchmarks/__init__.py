"""Measurements; none of them is a test, and none of their numbers is a promise."""
