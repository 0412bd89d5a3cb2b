"""What the errors of S3 servers and their clients mean to the operator. No requests here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from obstore import exceptions

from pgben_tasks.errors import (
    ConfigurationError,
    ObjectExists,
    ObjectMissing,
    ObjectRefused,
    PermanentError,
    PgbenError,
    StoreUnavailable,
)

_CODE: Final = re.compile(r"<Code>(\w{1,64})</Code>")
_STATUS: Final = re.compile(r"(?:non-2xx status|Response) code: (\d{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What hints tell the operator to look at: the repository's settings, or the bucket's."""

    keys: str
    name: str
    ca_file: str
    absent: str
    full: str
    gone: str


REPOSITORY: Final = Side(
    keys="PGBEN_REPOSITORY_ACCESS_KEY and PGBEN_REPOSITORY_SECRET_KEY",
    name="PGBEN_REPOSITORY",
    ca_file="PGBEN_REPOSITORY_CA_FILE",
    absent="`pgben init` makes it; or correct PGBEN_REPOSITORY",
    full="free or add space there; `pgben prune --dry-run` shows what may go",
    gone="verify the target",
)
PROTECTED: Final = Side(
    keys="PGBEN_MINIO_ACCESS_KEY and PGBEN_MINIO_SECRET_KEY",
    name="PGBEN_BUCKETS",
    ca_file="PGBEN_MINIO_CA_FILE",
    absent="correct PGBEN_BUCKETS or PGBEN_MINIO_HOST",
    full="free or add space there",
    gone="it was removed, or never stored",
)


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a group of codes and statuses means; ``{store}``, ``{what}``, ``{side}`` are filled in.

    ``{side}`` stands in hints only.
    """

    error: type[PgbenError]
    sentence: str
    hint: str
    codes: frozenset[str]

    def tell(self, what: str, store: str, side: Side) -> PgbenError:
        sentence = self.sentence.format(what=what, store=store)
        return self.error(sentence, self.hint.format(side=side))


_FORBIDDEN: Final = _Meaning(
    ConfigurationError,
    "'{store}' refuses the credentials for '{what}'",
    "check {side.keys}, and what the key may do",
    frozenset(
        {
            "AccessDenied",
            "AccountProblem",
            "ExpiredToken",
            "InvalidAccessKeyId",
            "InvalidToken",
            "SignatureDoesNotMatch",
            "Unauthorized",
            "401",
            "403",
        }
    ),
)
_EXISTS: Final = _Meaning(
    ObjectExists,
    "'{what}' exists already",
    "objects are never replaced",
    frozenset({"PreconditionFailed", "409", "412"}),
)
_MISSING: Final = _Meaning(
    ObjectMissing,
    "'{what}' is not in '{store}'",
    "{side.gone}",
    frozenset({"NoSuchKey", "NoSuchUpload", "404"}),
)
_MEANINGS: Final = (
    _FORBIDDEN,
    _EXISTS,
    _MISSING,
    _Meaning(
        ConfigurationError,
        "the bucket of '{store}' does not exist",
        "{side.absent}",
        frozenset({"NoSuchBucket"}),
    ),
    _Meaning(
        ConfigurationError,
        "the bucket of '{store}' has a name that S3 does not take",
        "correct {side.name}",
        frozenset({"InvalidBucketName"}),
    ),
    _Meaning(
        ConfigurationError,
        "the clock here and the clock of '{store}' differ too much",
        "set both by NTP",
        frozenset({"RequestTimeTooSkewed"}),
    ),
    _Meaning(
        PermanentError,
        "'{store}' has no room left",
        "{side.full}",
        frozenset(
            {
                "InsufficientCapacity",
                "QuotaExceeded",
                "XMinioAdminBucketQuotaExceeded",
                "XMinioStorageFull",
                "507",
            }
        ),
    ),
    _Meaning(
        ObjectRefused,
        "'{store}' does not take '{what}' as it is",
        "its key, size, metadata or tags go beyond what that server knows",
        frozenset(
            {
                "EntityTooLarge",
                "InvalidArgument",
                "InvalidRequest",
                "InvalidTag",
                "InvalidURI",
                "KeyTooLongError",
                "MetadataTooLarge",
                "NotImplemented",
                "XMinioInvalidObjectName",
                "405",
                "413",
                "414",
                "431",
                "501",
            }
        ),
    ),
)
_BY_CODE: Final = {code: meaning for meaning in _MEANINGS for code in meaning.codes}

_UNTRUSTED_CERTIFICATE: Final = _Meaning(
    ConfigurationError,
    "the certificate of '{store}' is not trusted",
    "give the CA that signed it: {side.ca_file}",
    frozenset(),
)
_ALIEN_KEY: Final = _Meaning(
    PermanentError,
    "'{store}' holds a key at '{what}' that pgben cannot have written",
    "look at the bucket with another S3 client and remove it",
    frozenset(),
)
_UNUSABLE: Final = _Meaning(
    ConfigurationError,
    "'{store}' cannot be spoken to",
    "check the settings of the repository",
    frozenset(),
)
_UNAVAILABLE: Final = _Meaning(
    StoreUnavailable,
    "'{store}' does not answer as it should for '{what}'",
    "check that the server runs and can be reached from here",
    frozenset(),
)


def by_code(code: str, what: str, *, store: str, side: Side = REPOSITORY) -> PgbenError:
    """Tell an error code or status of S3 in our own words."""
    return _BY_CODE.get(code, _UNAVAILABLE).tell(what, store, side)


def code_of(body: str) -> str:
    """Return the code in the body of an answer that is an error; empty when it has none."""
    code = _CODE.search(body)
    return code[1] if code else ""


def by_answer(
    status: int, body: str, what: str, *, store: str, side: Side = REPOSITORY
) -> PgbenError:
    """Tell an answer that is an error: by the code in its body, else by its status."""
    code = code_of(body)
    return by_code(code if code in _BY_CODE else str(status), what, store=store, side=side)


def told(exc: Exception, what: str, *, store: str, side: Side = REPOSITORY) -> PgbenError:
    """Tell a vendor's exception in our own words."""
    return _meaning(exc).tell(what, store, side)


def is_not_implemented(exc: Exception) -> bool:
    """Return whether the server does not know what it was asked for."""
    code, status = _CODE.search(str(exc)), _STATUS.search(str(exc))
    return bool((code and code[1] == "NotImplemented") or (status and status[1] == "501"))


def _meaning(exc: Exception) -> _Meaning:
    text = str(exc)
    for pattern in (_CODE, _STATUS):
        match = pattern.search(text)
        if match and match[1] in _BY_CODE:
            return _BY_CODE[match[1]]
    for kinds, words, meaning in (
        (FileNotFoundError, "", _MISSING),
        ((exceptions.AlreadyExistsError, exceptions.PreconditionError), "", _EXISTS),
        ((exceptions.PermissionDeniedError, exceptions.UnauthenticatedError), "", _FORBIDDEN),
        (Exception, "InvalidCertificate", _UNTRUSTED_CERTIFICATE),
        (Exception, "CERTIFICATE_VERIFY_FAILED", _UNTRUSTED_CERTIFICATE),
        (exceptions.InvalidPathError, "", _ALIEN_KEY),
        (exceptions.BaseError, "InvalidPath", _ALIEN_KEY),
        (ValueError, "", _UNUSABLE),
    ):
        if isinstance(exc, kinds) and words in text:
            return meaning
    return _UNAVAILABLE


@contextmanager
def translated(what: str, *, store: str) -> Iterator[None]:
    """Turn the vendor's errors of a block into ours."""
    try:
        yield
    except (exceptions.BaseError, FileNotFoundError, ValueError) as exc:
        raise told(exc, what, store=store) from exc
