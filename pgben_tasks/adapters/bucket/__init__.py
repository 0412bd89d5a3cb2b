"""Protected buckets: what their objects are is foreign, and everything that they carry is data."""

from pgben_tasks.adapters.bucket.location import BucketLocation
from pgben_tasks.adapters.bucket.memory import MemoryBucket
from pgben_tasks.adapters.bucket.s3 import S3Bucket

__all__ = ["BucketLocation", "MemoryBucket", "S3Bucket"]
