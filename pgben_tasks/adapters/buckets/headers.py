"""Which keys objects can have, and what they carry as headers. No requests here.

A header's value is its bytes, one character for each (latin-1), read and written as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote, urlencode

from pgben_tasks.domain.buckets.inventory import LONGEST_KEY
from pgben_tasks.errors import ObjectRefused
from pgben_tasks.ports.buckets import ObjectFacts

STANDARD: Final = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
)
_METADATA: Final = "x-amz-meta-"
_MONTHS: Final = {
    name: at
    for at, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
_DATE: Final = re.compile(
    r"[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT",
    re.ASCII,
)
#: Servers that tell how many tags there are "if any": where they say nothing there are none. They
#: keep silent as well where tags may not be read, which ``tagging.knows_tags`` finds out.
_COUNTS_TAGS: Final = frozenset({"AmazonS3", "MinIO"})
#: Clocks of the machines behind one name may differ by so much.
_FUTURE: Final = timedelta(seconds=5)
#: Characters that a header's name may have (RFC 9110, "token").
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE: Final = re.compile(r"[^\r\n\0\u0100-\U0010ffff]*")


def require_key(key: str) -> str:
    """Return the key; raises ``ObjectRefused`` for one that no object can have.

    An empty one would mean the bucket itself, in a deletion too.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError as exc:
        raise ObjectRefused(f"{key!r} is not a key of an object: it is not UTF-8") from exc
    if not 0 < size <= LONGEST_KEY:
        raise ObjectRefused(
            f"'{key}' is not a key of an object", f"keys have 1 to {LONGEST_KEY} bytes"
        )
    return key


def facts_of(headers: Mapping[str, str]) -> ObjectFacts:
    """Read what an answer says of an object; names in ``headers`` are lower case.

    Raises ``KeyError`` and ``ValueError`` where it does not say what every server must.
    """
    tags = headers.get("x-amz-tagging-count")
    modified = _moment(headers["last-modified"])
    return ObjectFacts(
        etag=headers["etag"].strip('"'),
        size=int(headers["content-length"]),
        modified=modified,
        version=headers.get("x-amz-version-id"),
        headers={name: headers[name] for name in STANDARD if name in headers},
        metadata={
            name.removeprefix(_METADATA): value
            for name, value in headers.items()
            if name.startswith(_METADATA)
        },
        tag_count=_tag_count(tags, headers.get("server", "")),
        just_stored=_is_just_stored(headers.get("date", ""), modified),
    )


def _is_just_stored(date: str, modified: datetime) -> bool:
    """Compare with the server's own clock; one that does not tell it is taken at its word.

    A date far in the future is no matter of seconds, and waiting would not end.
    """
    try:
        now = _moment(date)
    except ValueError:
        return False
    return now <= modified < now + _FUTURE


def _moment(text: str) -> datetime:
    """Read ``Wed, 21 Oct 2015 07:28:00 GMT``, the form that HTTP prescribes, or what is like it.

    The standard library takes any form and 50 µs, which is a tenth of what a small object costs.
    """
    form = _DATE.fullmatch(text)
    if form is None:
        return parsedate_to_datetime(text).replace(tzinfo=UTC)
    day, month, year, hour, minute, second = form.groups()
    return datetime(
        int(year), _MONTHS[month], int(day), int(hour), int(minute), int(second), tzinfo=UTC
    )


def _tag_count(count: str | None, server: str) -> int | None:
    if count is not None:
        return int(count)
    return 0 if server in _COUNTS_TAGS else None


def headers_of(key: str, headers: Mapping[str, str], metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that store an object with what it carries.

    Raises ``ObjectRefused`` for names and values that no header can have.
    """
    unknown = sorted(headers.keys() - set(STANDARD))
    if unknown:
        raise ObjectRefused(f"'{key}' cannot be stored with the header '{unknown[0]}'")
    sent = {**headers, **{f"{_METADATA}{name}": value for name, value in metadata.items()}}
    for name, value in sent.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ObjectRefused(
                f"'{key}' cannot be stored with the header {name!r}",
                "names are lower case, and a value's characters are the bytes of one line",
            )
    return sent


def tags_header(tags: Mapping[str, str]) -> str:
    """Return the value of ``x-amz-tagging``."""
    return urlencode(tags, quote_via=quote, safe="")
