"""Signed requests to S3 servers and the translation of their errors.

Nothing here knows what an object means: see ``adapters.buckets`` and ``adapters.stores``.
"""
