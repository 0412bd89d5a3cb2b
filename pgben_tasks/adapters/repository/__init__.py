"""The repository format over an object store: manifests, statements, packs, leftovers.

How bytes reach a directory or a bucket is ``adapters.stores``; how packs are sealed,
``adapters.packs``.
"""
