"""Protected buckets: what their objects are is foreign, and everything that they carry is data."""

from pgben_tasks.adapters.buckets.s3 import S3Bucket

__all__ = ["S3Bucket"]
