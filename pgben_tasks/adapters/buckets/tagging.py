"""The tags of objects, which have requests of their own."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from hashlib import md5
from typing import Final
from xml.etree import ElementTree as ET

import urllib3

from pgben_tasks.adapters.s3.client import S3Request, S3Sender, error_code, succeeded
from pgben_tasks.adapters.s3.xml import text_of
from pgben_tasks.errors import ObjectRefused

#: The header that gives a new object its tags.
TAGS_HEADER: Final = "x-amz-tagging"
_QUERY: Final = {"tagging": ""}
_NONE: Final = "NoSuchTagSet"
_REFUSED: Final = frozenset({"NotImplemented", "MethodNotAllowed"})


def read_tags(sender: S3Sender, key: str) -> dict[str, str]:
    """Return the tags of an object."""
    request = S3Request(method="GET", key=key, query=_QUERY)
    answer = sender.ask(request)
    if error_code(answer) == _NONE:
        return {}
    return {
        text_of(tag, "Key"): text_of(tag, "Value")
        for tag in sender.document(request, answer, "Tagging").iterfind("TagSet/Tag")
    }


def knows_tags(sender: S3Sender, key: str, looked_at: urllib3.BaseHTTPResponse) -> bool:
    """Return whether a server knows tags, from its answers to HEAD and to a request for tags.

    One that does not says so, or overlooks what was asked for and answers with the object itself.
    Any other error is raised, above all that tags may not be read.
    """
    request = S3Request(method="GET", key=key, query=_QUERY, stream=True)
    answer = sender.ask(request)
    try:
        if not succeeded(answer):
            code = error_code(answer)
            if code not in _REFUSED and code != _NONE:
                raise sender.error(request, answer)
            return code == _NONE
        dated = answer.headers.get("last-modified")
        return dated is None or any(
            answer.headers.get(name) != looked_at.headers.get(name)
            for name in ("last-modified", "content-length")
        )
    finally:
        answer.close()


def ask_to_store(sender: S3Sender, request: S3Request) -> urllib3.BaseHTTPResponse:
    """Ask for a new object; once more without its tags where a server refuses to know them."""
    answer = sender.ask(request)
    if TAGS_HEADER not in request.headers or error_code(answer) not in _REFUSED:
        return answer
    plain = {name: value for name, value in request.headers.items() if name != TAGS_HEADER}
    return sender.ask(replace(request, headers=plain))


def write_tags(sender: S3Sender, key: str, tags: Mapping[str, str]) -> None:
    """Replace the tags of an object; none removes them.

    Raises ``ObjectRefused`` where they stay whatever is done.
    """
    if tags:
        _store_tags(sender, key, tags)
        return
    with suppress(ObjectRefused):
        sender.send(S3Request(method="DELETE", key=key, query=_QUERY))
        # Ceph's gateway (16) says so of a versioned bucket too, and keeps the tags.
        if not read_tags(sender, key):
            return
    # Not at first: moto answers an empty set by 500, which is asked again until patience ends.
    _store_tags(sender, key, {})
    if read_tags(sender, key):
        raise ObjectRefused(
            f"'{sender.store}' still has tags of '{key}' that were removed",
            "neither DELETE nor an empty set removed them; look at that server",
        )


def _store_tags(sender: S3Sender, key: str, tags: Mapping[str, str]) -> None:
    root = ET.Element("Tagging")
    tag_set = ET.SubElement(root, "TagSet")
    for name, value in tags.items():
        tag = ET.SubElement(tag_set, "Tag")
        ET.SubElement(tag, "Key").text = name
        ET.SubElement(tag, "Value").text = value
    body = bytes(ET.tostring(root, encoding="utf-8"))
    headers = {"content-md5": body_digest(body), "content-type": "application/xml"}
    sender.send(S3Request(method="PUT", key=key, query=_QUERY, headers=headers, body=body))


def body_digest(body: bytes) -> str:
    """Return the Content-MD5 that servers want of small documents; all of them know this one."""
    return b64encode(md5(body, usedforsecurity=False).digest()).decode()
