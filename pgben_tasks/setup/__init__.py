"""Setting an installation up: `pgben init`, the recovery card, and the catalog's index rebuilt."""
