"""Back up and restore buckets: list, compare, copy, seal; put back beside or in place."""
