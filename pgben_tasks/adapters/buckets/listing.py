"""One page of a listing, read by a parser of its own: listings are most of what unchanged costs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from html import unescape
from typing import Final
from urllib.parse import parse_qsl, unquote_plus
from xml.parsers import expat

from pgben_tasks.adapters.s3.xml import local, strict_parser
from pgben_tasks.ports.buckets import ListedObject

_NEEDED: Final = ("Key", "LastModified", "ETag", "Size")
_METADATA: Final = "UserMetadata"
_TAGS: Final = "UserTags"
_OBJECT: Final = frozenset({*_NEEDED, _TAGS})
_PAGE: Final = frozenset({"IsTruncated", "NextContinuationToken", "EncodingType"})
#: Most keys are as they are.
_QUOTED: Final = re.compile(r"[%+]").search
_ENTRY_DEPTH: Final = 2
_FIELD_DEPTH: Final = 3

#: Nothing that was taken is given back (``*+``), or a broken page could take minutes.
_MORE: Final = (
    r"(?:<(?!(?:Key|LastModified|ETag|Size|UserMetadata|UserTags)>)\w++>[^<]*+</\w++>\s*+)*+"
)
#: What MinIO adds when it is asked for metadata. There is always some, and tags if any.
_TAGGED: Final = (
    r"(?:(<UserMetadata>)(?:\s*+<[\w.-]++>[^<]*+</[\w.-]++>)*+\s*+</UserMetadata>\s*+"
    r"(?:<UserTags>([^<]*+)</UserTags>\s*+)?+(?:<Internal>\s*+(?:<\w++>[^<]*+</\w++>\s*+)*+"
    r"</Internal>\s*+)?+)?+"
)
_QUOTE: Final = r"(?:\"|&quot;|&#34;)?"
#: An object as every server known writes it: these four in this order, others between and behind
#: them, nothing within those. A page is read in less than half the time that XML takes, which was
#: half of an unchanged night.
_PLAIN: Final = re.compile(
    r"<Contents>\s*+<Key>([^<&]++)</Key>\s*+<LastModified>([^<&]++)</LastModified>\s*+"
    rf"<ETag>{_QUOTE}([^<&\"]*+){_QUOTE}</ETag>\s*+{_MORE}<Size>([0-9]++)</Size>\s*+"
    rf"{_MORE}{_TAGGED}{_MORE}</Contents>"
)
_STEP: Final = _PLAIN.groups + 1
#: Key, date, etag, size; whether tags were listed, and which.
_Found = tuple[str, str, str, str, str | None, str | None]


class Page:
    """What one answer to ListObjectsV2 says.

    Raises ``ExpatError``, ``KeyError`` or ``ValueError`` for what is no whole answer.
    """

    def __init__(self, body: bytes, *, server: str = "") -> None:
        """Read the answer of a ``server`` that is called so."""
        self.server = server
        self._depth = 0
        self._text: str | None = None
        self._found: dict[str, str] = {}
        self._said: dict[str, str] = {}
        self._entries: list[_Found] = []
        self._root = ""
        self._read(body.decode())
        if self._root != "ListBucketResult":
            message = f"<{self._root}> is no listing"
            raise ValueError(message)
        #: Whether another page follows.
        self.truncated = self._said["IsTruncated"] == "true"
        #: What asks for the next page.
        self.token = self._said.get("NextContinuationToken", "")

    def objects(self) -> Iterator[ListedObject]:
        """Yield what is listed."""
        quoted = self._said.get("EncodingType") == "url"
        for key, modified, etag, size, tagged, tags in self._entries:
            yield ListedObject(
                # Servers write a space as '+' or as '%20', and a plus always as '%2B'.
                unquote_plus(key, errors="strict") if quoted and _QUOTED(key) else key,
                etag,
                int(size),
                datetime.fromisoformat(modified),
                dict(parse_qsl(tags or "", keep_blank_values=True)) if tagged else None,
            )

    def _read(self, text: str) -> None:
        """Take the plain objects out, and read what is around them as XML.

        When an object is not plain, or may be none, all of it is read as XML.
        """
        around, found = _split(text)
        if "Contents>" in around or "<!" in text:
            around, found = text, []
        parser = strict_parser()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data
        parser.Parse(around, True)  # noqa: FBT003  # pyexpat's arguments have no names
        self._entries += found

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        self._depth += 1
        # What has a prefix is rare; a search in every name is not.
        name = local(name) if ":" in name else name
        if self._depth == 1:
            self._root = name
        elif self._depth == _FIELD_DEPTH and name in _OBJECT:
            self._text = ""
        elif self._depth == _FIELD_DEPTH and name == _METADATA:
            self._found[name] = name
        elif self._depth == _ENTRY_DEPTH:
            if name == "Contents":
                self._found = {}
            elif name in _PAGE:
                self._text = ""

    def _end(self, name: str) -> None:
        name = local(name) if ":" in name else name
        if self._text is not None:
            (self._found if self._depth == _FIELD_DEPTH else self._said)[name] = self._text
            self._text = None
        elif self._depth == _ENTRY_DEPTH and name == "Contents":
            key, modified, etag, size = (self._found[field] for field in _NEEDED)
            tags = (self._found.get(_METADATA), self._found.get(_TAGS))
            self._entries.append((key, modified, etag.strip('"'), size, *tags))
        self._depth -= 1

    def _data(self, text: str) -> None:
        if self._text is not None:
            self._text += text


def _split(text: str) -> tuple[str, list[_Found]]:
    """Return what is around the plain objects, and the fields of each of these."""
    around, *parts = _PLAIN.split(text)
    keys, dates, etags, sizes, tagged, tags, between = (parts[at::_STEP] for at in range(_STEP))
    plain = [None if one is None else unescape(one) for one in tags]
    found = list(zip(keys, dates, etags, sizes, tagged, plain, strict=True))
    return "".join((around, *between)), found


READING_ERRORS: Final = (expat.ExpatError, KeyError, ValueError)
