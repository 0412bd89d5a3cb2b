"""Protected buckets: what their objects are is foreign, and everything that they carry is data."""

from pgben_tasks.adapters.buckets.memory import MemoryBucket
from pgben_tasks.adapters.buckets.s3 import S3Bucket
from pgben_tasks.adapters.s3.location import S3Location

__all__ = ["MemoryBucket", "S3Bucket", "S3Location"]
