"""Back up and restore databases: dump, pack; load, check, swap."""
