"""The settings of a bucket, read and written as the server's own bytes.

Nothing here makes an object of a setting and a document of that again: minio-py 7.2, which does,
loses the bare ``<Prefix>`` of a lifecycle rule, and the rule then removes everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from xml.parsers.expat import ExpatError

from pgben_tasks.adapters.buckets.tagging import body_digest
from pgben_tasks.adapters.s3.client import S3Request, S3Sender, error_code, succeeded
from pgben_tasks.adapters.s3.errors import is_unaskable
from pgben_tasks.adapters.s3.xml import read_xml, text_of
from pgben_tasks.domain.buckets.capture import BucketSettings

if TYPE_CHECKING:
    from pgben_tasks.adapters.s3.administration import BucketAdministration


@dataclass(frozen=True, slots=True)
class _Setting:
    """How one setting is asked for: its query, its document's roots, its code for "not set".

    No root: the document is JSON.
    """

    query: str
    roots: tuple[str, ...]
    absent: str


#: The second root is moto's.
_VERSIONING: Final = _Setting(
    "versioning", ("VersioningConfiguration", "GetBucketVersioningResponse"), ""
)
_STATUSES: Final[Mapping[str, Literal["Enabled", "Suspended"]]] = {
    "enabled": "Enabled",
    "suspended": "Suspended",
}
_OTHERS: Final = {
    "lifecycle": _Setting("lifecycle", ("LifecycleConfiguration",), "NoSuchLifecycleConfiguration"),
    "policy": _Setting("policy", (), "NoSuchBucketPolicy"),
    "tagging": _Setting("tagging", ("Tagging",), "NoSuchTagSet"),
    "encryption": _Setting(
        "encryption",
        ("ServerSideEncryptionConfiguration",),
        "ServerSideEncryptionConfigurationNotFoundError",
    ),
    "lock": _Setting(
        "object-lock", ("ObjectLockConfiguration",), "ObjectLockConfigurationNotFoundError"
    ),
}
_CONFLICT: Final = 409
#: What servers without settings answer, rclone for one: the question is not looked at.
_LISTING: Final = "ListBucketResult"


class _Unknown(Exception):
    """The server cannot be asked for this setting."""


class _Ignored(_Unknown):
    """The server overlooks such questions."""


def read_settings(sender: S3Sender) -> BucketSettings:
    """Ask for each setting; a bucket whose versions cannot be asked for says so in ``unknown``.

    A server that answers one question with a listing is asked none of those after it.
    """
    unknown = []
    found: dict[str, str | None] = {}
    answers = True
    for name, setting in {"versioning": _VERSIONING, **_OTHERS}.items():
        if answers:
            try:
                found[name] = _read(sender, setting)
            except _Ignored:
                answers = False
            except _Unknown:
                pass
        if name not in found:
            unknown.append(name)
    status = _status(found.pop("versioning", None))
    return BucketSettings.model_validate(
        {
            "versioning": next((n for n, written in _STATUSES.items() if written == status), "off"),
            **found,
            "unknown": tuple(unknown),
        }
    )


def apply_settings(
    sender: S3Sender, administration: BucketAdministration, settings: BucketSettings
) -> tuple[str, ...]:
    """Write each setting that is set, and read it back; return the names of those not taken.

    Versions first: a lock needs them. What is not set is left as it is.
    """
    refused = []
    if settings.versioning != "off" and "versioning" not in settings.unknown:
        status = _STATUSES[settings.versioning]
        taken = administration.set_versioning(status)
        if not taken or _status(_read_back(sender, _VERSIONING)) != status:
            refused.append("versioning")
    for name, setting in _OTHERS.items():
        value = getattr(settings, name)
        if value is not None and not (
            _write(sender, setting, value) and _is_there(sender, setting, value)
        ):
            refused.append(name)
    return tuple(refused)


def _status(document: str | None) -> str:
    return text_of(read_xml(document.encode()), "Status") if document else ""


def _read(sender: S3Sender, setting: _Setting) -> str | None:
    """Ask for a setting; raises ``_Unknown`` where the answer speaks of something else."""
    request = S3Request(method="GET", query={setting.query: ""})
    answer = sender.ask(request)
    if not succeeded(answer):
        code = error_code(answer)
        if setting.absent and code == setting.absent:
            return None
        if is_unaskable((code, str(answer.status))):
            raise _Unknown
        raise sender.error(request, answer)
    try:
        text = answer.data.decode()
        root = read_xml(answer.data).tag if setting.roots else None
        known = root in setting.roots if setting.roots else bool(json.loads(text))
    except (ValueError, ExpatError) as exc:
        raise _Unknown from exc
    if root == _LISTING:
        raise _Ignored
    if not known:
        raise _Unknown
    return text


def _write(sender: S3Sender, setting: _Setting, value: str) -> bool:
    body = value.encode()
    kind = "application/xml" if setting.roots else "application/json"
    headers = {"content-md5": body_digest(body), "content-type": kind}
    request = S3Request(method="PUT", query={setting.query: ""}, headers=headers, body=body)
    answer = sender.ask(request)
    if succeeded(answer):
        return True
    code = error_code(answer)
    if answer.status == _CONFLICT or is_unaskable((code, str(answer.status))):
        return False
    raise sender.error(request, answer)


def _read_back(sender: S3Sender, setting: _Setting) -> str | None:
    try:
        return _read(sender, setting)
    except _Unknown:
        return None


def _is_there(sender: S3Sender, setting: _Setting, asked: str) -> bool:
    """Return whether the server has a setting as it was asked for.

    Servers put it in an order and in words of their own, and add to it. What must not be lacking
    are the values.
    """
    found = _read_back(sender, setting)
    return found is not None and _values(setting, asked) <= _values(setting, found)


def _values(setting: _Setting, document: str) -> set[str]:
    """Return the values of a document; those of XML with the names of their elements."""
    if not setting.roots:
        return {str(value).casefold() for value in _scalars(json.loads(document))}
    texts = ((one.tag, (one.text or "").strip()) for one in read_xml(document.encode()).iter())
    return {f"{tag} {text}".casefold() for tag, text in texts if text}


def _scalars(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _scalars(one)
    elif value not in (None, ""):
        yield value
