"""One page of a listing, read by a parser of its own: listings are most of what unchanged costs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final
from urllib.parse import unquote_plus
from xml.parsers import expat

from pgben_tasks.adapters.s3_xml import local, strict_parser
from pgben_tasks.ports.bucket import ListedObject

_OBJECT: Final = ("Key", "LastModified", "ETag", "Size")
_PAGE: Final = frozenset({"IsTruncated", "NextContinuationToken", "EncodingType"})
#: Most keys are as they are.
_QUOTED: Final = re.compile(r"[%+]").search
_ENTRY_DEPTH: Final = 2
_FIELD_DEPTH: Final = 3

_MORE: Final = r"(?:<(?!(?:Key|LastModified|ETag|Size)>)\w+>[^<]*</\w+>\s*)*"
_QUOTE: Final = r"(?:\"|&quot;|&#34;)?"
#: An object as every server known writes it: these four in this order, others between and behind
#: them, nothing within those. Seven times as fast as a parser of XML, and half of an unchanged
#: night was the parser.
_PLAIN: Final = re.compile(
    r"\s*<Contents>\s*<Key>([^<&]+)</Key>\s*<LastModified>([^<&]+)</LastModified>\s*"
    rf"<ETag>{_QUOTE}([^<&\"]*){_QUOTE}</ETag>\s*{_MORE}<Size>([0-9]+)</Size>\s*{_MORE}</Contents>"
)


class Page:
    """What one answer to ListObjectsV2 says.

    Raises ``ExpatError``, ``KeyError`` or ``ValueError`` for what is no whole answer.
    """

    def __init__(self, body: bytes) -> None:
        """Read the answer."""
        self._depth = 0
        self._text: str | None = None
        self._found: dict[str, str] = {}
        self._said: dict[str, str] = {}
        self._entries: list[tuple[str, ...]] = []
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
        """Give what is listed."""
        quoted = self._said.get("EncodingType") == "url"
        for key, modified, etag, size in self._entries:
            yield ListedObject(
                # Servers write a space as '+' or as '%20', and a plus always as '%2B'.
                unquote_plus(key, errors="strict") if quoted and _QUOTED(key) else key,
                etag,
                int(size),
                datetime.fromisoformat(modified),
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
            key, modified, etag, size = (self._found[field] for field in _OBJECT)
            self._entries.append((key, modified, etag.strip('"'), size))
        self._depth -= 1

    def _data(self, text: str) -> None:
        if self._text is not None:
            self._text += text


def _split(text: str) -> tuple[str, list[tuple[str, ...]]]:
    """Give what is around the plain objects, and the four fields of each of these."""
    parts = _PLAIN.split(text)
    step = len(_OBJECT) + 1
    fields = (parts[at::step] for at in range(1, step))
    return "".join(parts[::step]), list(zip(*fields, strict=True))


READING_ERRORS: Final = (expat.ExpatError, KeyError, ValueError)
