"""Backups of PGBen that prove themselves. See docs/architecture.md."""

__version__ = "0.1.0"
