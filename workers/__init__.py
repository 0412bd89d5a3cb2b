"""The processes: ``python -m workers backup`` starts one with the right flags.

``celery -A workers worker -Q backup`` works as well: the application is in ``workers.celery``.
"""
