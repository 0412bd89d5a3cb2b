"""Recovery points: the backups that one joins, asked for and awaited, and its signed document.

How points are read again is ``operations.repository.points``, for retention needs that too.
"""
