"""Making the repository's bucket, for `pgben init`: the one thing obstore cannot do."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from pgben_tasks.adapters.s3.control import control_pool
from pgben_tasks.adapters.s3.errors import by_code, told
from pgben_tasks.adapters.s3.location import S3Location
from pgben_tasks.errors import ConfigurationError

_TAKEN: Final = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})


def ensure_bucket(location: S3Location) -> bool:
    """Make the bucket when it is absent; say whether it was made.

    Raises ``ConfigurationError`` (credentials, name) and ``StoreUnavailable``.
    """
    store = f"s3://{location.bucket}"
    try:
        client = _client(location)
        if client.bucket_exists(location.bucket):
            return False
        client.make_bucket(location.bucket)
    except S3Error as exc:
        if exc.code in _TAKEN:
            return False
        raise by_code(exc.code or "", location.bucket, store=store) from exc
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as exc:
        # What rclone answers reaches minio-py as InvalidResponseError, with the status in its text.
        raise told(exc, location.bucket, store=store) from exc
    except ValueError as exc:
        raise ConfigurationError(
            f"'{store}' is not a bucket that S3 takes", "correct PGBEN_REPOSITORY"
        ) from exc
    return True


def _client(location: S3Location) -> Minio:
    return Minio(
        urlsplit(location.endpoint).netloc,
        access_key=location.access_key,
        secret_key=location.secret_key,
        secure=location.secure,
        region=location.region,
        http_client=control_pool(location),
    )
