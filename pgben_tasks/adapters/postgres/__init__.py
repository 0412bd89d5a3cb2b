"""PostgreSQL servers and their client programs: capture, restore, swap, and what is known of them.

The catalog is a database of its own, in ``adapters.catalog``.
"""
