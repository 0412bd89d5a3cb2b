"""What the S3 servers of the tests cannot do: the one place that knows their quirks."""

from __future__ import annotations

import secrets
import unicodedata
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

import pytest

from pgben_tasks.adapters.s3.errors import BUCKET_HINTS
from pgben_tasks.adapters.s3.location import S3Location
from pgben_tasks.embedded.s3 import EmbeddedS3

#: Keys that clients and servers are known to change, by what is special about them.
KEYS: Final = {
    "plain": "documents/1/a.pdf",
    "composed": unicodedata.normalize("NFC", "Relatório é.pdf"),
    "decomposed": unicodedata.normalize("NFD", "Relatório é.pdf"),
    "space": "a b",
    "only a space": " ",
    "outer spaces": " a ",
    "plus": "a+b",
    "percent": "a%b",
    "percent code": "a%20b",
    "newline": "a\nb",
    "carriage return": "a\rb",
    "control": "a\x01\x1f\x7f",
    "leading slash": "/a",
    "two leading slashes": "//a",
    "trailing slash": "a/",
    "double slash": "a//b",
    "dot segment": "a/./b",
    "dots segment": "a/../b",
    "upward": "../a",
    "dot": ".",
    "dots": "..",
    "query": "a?uploads&b=1#c",
    "markup": "<a>&\"'</a>",
    "backslash": "a\\b",
    "emoji": "\U0001f600\u2028",
    "longest": "é" * 512,
}


class Trait(StrEnum):
    """What a server may be able to do."""

    CREDENTIALS = "checks credentials"
    ETAGS = "gives etags that tell contents apart"
    EXPIRES = "keeps the header Expires"
    RAW_METADATA = "gives metadata back byte for byte"
    TAGS = "keeps tags"
    SETTINGS = "keeps settings of the bucket"
    VERSIONS = "gives versions of objects"
    PREFIX_AND_KEY = "keeps 'a' beside 'a/b'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One kind of server: what it lacks, and the keys that it does not keep as they are."""

    lacks: frozenset[Trait] = frozenset()
    bad_keys: frozenset[str] = frozenset()


SERVERS: Final = {
    "memory": Server(lacks=frozenset({Trait.CREDENTIALS, Trait.VERSIONS})),
    # It reads metadata as UTF-8 and writes it as Latin-1. It also forgets the tags that an upload
    # in parts began with, which the adapter makes good.
    "ministack": Server(lacks=frozenset({Trait.CREDENTIALS, Trait.RAW_METADATA})),
    # Its routes end at a line break.
    "moto": Server(lacks=frozenset({Trait.CREDENTIALS}), bad_keys=frozenset({"newline"})),
    # It keeps metadata in memory only. PutObjectTagging overwrites the
    # object's bytes with the tags: never send it one. To most questions about the bucket it
    # answers with a listing. Its keys become paths.
    "rclone": Server(
        lacks=frozenset(
            {
                Trait.ETAGS,
                Trait.EXPIRES,
                Trait.TAGS,
                Trait.SETTINGS,
                Trait.VERSIONS,
                Trait.PREFIX_AND_KEY,
            }
        ),
        bad_keys=frozenset(
            {
                "leading slash",
                "two leading slashes",
                "trailing slash",
                "double slash",
                "dot segment",
                "dots segment",
                "upward",
                "dot",
                "dots",
                "longest",
            }
        ),
    ),
}


def need(kind: str, *traits: Trait) -> None:
    """Skip a test that a server cannot pass."""
    for trait in traits:
        if trait in SERVERS[kind].lacks:
            pytest.skip(f"{kind} is not a server that {trait}")


def table() -> str:
    """Return the traits of all servers as a table for people."""
    width = max(len(trait) for trait in Trait)
    lines = ["".join([" " * width, *(f"{kind:>11}" for kind in SERVERS)])]
    for trait in Trait:
        marks = ("no" if trait in server.lacks else "yes" for server in SERVERS.values())
        lines.append(f"{trait:<{width}}" + "".join(f"{mark:>11}" for mark in marks))
    kept = (f"{len(KEYS) - len(s.bad_keys)} of {len(KEYS)}" for s in SERVERS.values())
    lines.append(f"{'strange keys kept':<{width}}" + "".join(f"{mark:>11}" for mark in kept))
    return "\n".join(lines)


def bucket_location(server: EmbeddedS3, **fields: object) -> S3Location:
    """Name a new bucket on a server; it is not made yet."""
    values: dict[str, object] = {
        "endpoint": server.endpoint,
        "bucket": f"pgben-{secrets.token_hex(6)}",
        "access_key": server.access_key,
        "secret_key": server.secret_key,
        "patience": timedelta(milliseconds=500),
    }
    return S3Location(hints=BUCKET_HINTS, **(values | fields))  # type: ignore[arg-type]  # test values by name
