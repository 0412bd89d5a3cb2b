"""Sealed files: tars of members, compressed and encrypted, made and opened in child processes.

What a pack holds is decided in ``operations``; where it is stored, in ``adapters.stores``.
"""
