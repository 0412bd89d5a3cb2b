"""One page of a listing, read by a parser of its own: listings are most of what unchanged costs."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final
from urllib.parse import unquote_plus
from xml.parsers import expat

from pgben_tasks.adapters.s3_xml import local, strict_parser
from pgben_tasks.ports.bucket import ListedObject

_OBJECT: Final = frozenset({"Key", "ETag", "Size", "LastModified"})
_PAGE: Final = frozenset({"IsTruncated", "NextContinuationToken", "EncodingType"})
#: Most keys are as they are.
_QUOTED: Final = re.compile(r"[%+]").search
_ENTRY_DEPTH: Final = 2
_FIELD_DEPTH: Final = 3


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
        self._entries: list[dict[str, str]] = []
        self._root = ""
        parser = strict_parser()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data
        parser.Parse(body, True)  # noqa: FBT003  # pyexpat's arguments have no names
        if self._root != "ListBucketResult":
            message = f"<{self._root}> is no listing"
            raise ValueError(message)
        #: Whether another page follows.
        self.truncated = self._said["IsTruncated"] == "true"
        #: What asks for the next page.
        self.token = self._said.get("NextContinuationToken", "")
        self.objects = self._objects()

    def _objects(self) -> list[ListedObject]:
        quoted = self._said.get("EncodingType") == "url"
        return [
            ListedObject(
                # Servers write a space as '+' or as '%20', and a plus always as '%2B'.
                unquote_plus(key, errors="strict") if quoted and _QUOTED(key) else key,
                one["ETag"].strip('"'),
                int(one["Size"]),
                datetime.fromisoformat(one["LastModified"]),
            )
            for one in self._entries
            for key in (one["Key"],)
        ]

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
            self._entries.append(self._found)
        self._depth -= 1

    def _data(self, text: str) -> None:
        if self._text is not None:
            self._text += text


READING_ERRORS: Final = (expat.ExpatError, KeyError, ValueError)
