"""Work in one process, without a broker and without workers.

Direct mode does one job with a repository, keys and a server, and no catalog. ``jobs`` does those
that a catalog's ledger has.
"""
