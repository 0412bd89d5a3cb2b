"""The tags of objects, which have requests of their own."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from hashlib import md5
from typing import Final
from xml.etree import ElementTree as ET

from pgben_tasks.adapters.s3_sender import S3Request, S3Sender, error_code, succeeded
from pgben_tasks.adapters.s3_xml import text_of

_QUERY: Final = {"tagging": ""}
_NONE: Final = "NoSuchTagSet"


def read_tags(sender: S3Sender, key: str) -> dict[str, str] | None:
    """Give the tags of an object; None when the server does not know what tags are."""
    request = S3Request(method="GET", key=key, query=_QUERY)
    answer = sender.ask(request)
    if error_code(answer) == _NONE:
        return {}
    if succeeded(answer) and "last-modified" in answer.headers:
        # Tags have no such date: this is the object itself, given by a server (rclone is one) that
        # takes no notice of the question.
        return None
    return {
        text_of(tag, "Key"): text_of(tag, "Value")
        for tag in sender.document(request, answer, "Tagging").iterfind("TagSet/Tag")
    }


def write_tags(sender: S3Sender, key: str, tags: Mapping[str, str]) -> None:
    """Replace the tags of an object; none removes them."""
    if not tags:
        sender.send(S3Request(method="DELETE", key=key, query=_QUERY))
        return
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
    """Give the Content-MD5 that servers want of small documents; all of them know this one."""
    return b64encode(md5(body, usedforsecurity=False).digest()).decode()
