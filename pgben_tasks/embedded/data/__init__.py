"""The data of the demo: a plausible database and documents, and exact comparisons of them."""
