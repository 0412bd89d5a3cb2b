"""Signature version 4 of S3 requests, over bytes. No requests here.

minio-py's signer takes headers for text and hashes them as UTF-8; metadata that is not UTF-8 could
then not be signed as it is sent. The rules are those of AWS's "Signature Version 4 for S3".
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Final
from urllib.parse import quote

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_SPACES: Final = re.compile(b" +")
#: What stands for itself in a query; in a path the slash does, too.
_PLAIN: Final = "-_.~"


def quoted_path(text: str) -> str:
    """Quote a path once, byte for byte; its slashes and dots stay."""
    return quote(text, safe=f"/{_PLAIN}")


def quoted_query(query: Mapping[str, str]) -> str:
    """Quote a query in the order in which it is signed."""
    pairs = sorted((quote(n, safe=_PLAIN), quote(v, safe=_PLAIN)) for n, v in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


@dataclass(frozen=True, slots=True)
class S3Signer:
    """Signs requests with one pair of keys; safe to use from several threads."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    region: str
    _keys: dict[str, bytes] = field(default_factory=dict, repr=False)

    def signed(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        *,
        body: bytes,
        date: datetime,
    ) -> dict[str, str]:
        """Return the headers of a request with its signature.

        ``target`` is the quoted path and, behind a question mark, the quoted query in its order.
        ``headers`` need ``host``; names are lower case, a value's characters are its bytes.
        """
        digest = sha256(body).hexdigest()
        sent = {
            **headers,
            "x-amz-content-sha256": digest,
            "x-amz-date": f"{date:%Y%m%dT%H%M%SZ}",
        }
        path, _, query = target.partition("?")
        lines = [
            name.encode() + b":" + _SPACES.sub(b" ", sent[name].encode("latin-1")).strip(b" ")
            for name in sorted(sent)
        ]
        names = ";".join(sorted(sent))
        request = b"\n".join(
            [f"{method}\n{path}\n{query}".encode(), *lines, f"\n{names}\n{digest}".encode()]
        )
        day = f"{date:%Y%m%d}"
        scope = f"{day}/{self.region}/s3/aws4_request"
        text = f"{_ALGORITHM}\n{sent['x-amz-date']}\n{scope}\n{sha256(request).hexdigest()}"
        signature = hmac.digest(self._key(day), text.encode(), "sha256").hex()
        sent["authorization"] = (
            f"{_ALGORITHM} Credential={self.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        return sent

    def _key(self, day: str) -> bytes:
        if day not in self._keys:
            key = f"AWS4{self.secret_key}".encode()
            for part in (day, self.region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._keys[day] = key
        return self._keys[day]
