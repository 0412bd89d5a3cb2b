"""What pgben does, as plain functions over ports: no Celery, no environment, no vendor."""
