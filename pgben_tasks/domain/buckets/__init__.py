"""Values and decisions about buckets: captures, inventories, comparisons, restore plans."""
