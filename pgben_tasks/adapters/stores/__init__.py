"""Object stores (``ports.ObjectStore``): a directory, a bucket, and one in memory for tests."""
