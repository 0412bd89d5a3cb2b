"""Names of buckets: which ones an S3 server can have.

The rule is minio-py's for buckets that exist (``check_bucket_name``, not strict), which is asked
before any bucket is read or a repository begun: capitals and ``_`` are in names older than today's
rules of S3, the other limits are those of all servers.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address
from typing import Annotated, Final

from pydantic import AfterValidator

from pgben_tasks.domain.target import check_name
from pgben_tasks.settings.faults import checked_by

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{1,61}[A-Za-z0-9]")
#: AWS gives these endings to its access points, and minio-py asks for no bucket with one.
_ALIASES: Final = ("-s3alias", "--ol-s3")


def check_bucket(value: str) -> str:
    """Return the name when a bucket can have it; raise ``ValueError`` else."""
    checked_by(check_name)(value)
    if not _may_exist(value):
        raise ValueError(
            f"has '{value}', which no bucket can be called: that takes 3 to 63 letters, digits, "
            "'-', '_' and '.', the first and the last a letter or digit, no '.' beside '-' or "
            "another, and no IP address"
        )
    return value


def _may_exist(name: str) -> bool:
    try:
        IPv4Address(name)
    except AddressValueError:
        odd = any(pair in name for pair in ("..", ".-", "-."))
        return bool(_NAME.fullmatch(name)) and not odd and not name.endswith(_ALIASES)
    return False


BucketName = Annotated[str, AfterValidator(check_bucket)]
