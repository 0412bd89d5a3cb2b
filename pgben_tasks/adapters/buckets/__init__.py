"""Protected buckets: what their objects are is foreign, and everything that they carry is data."""

from pgben_tasks.adapters.buckets.s3 import BucketFacts, S3Bucket

__all__ = ["BucketFacts", "S3Bucket"]
