"""The repository format over an object store: manifests, statements, packs, what dead runs left.

How bytes reach a directory or a bucket is ``adapters.stores``; how packs are sealed,
``adapters.packs``.
"""
