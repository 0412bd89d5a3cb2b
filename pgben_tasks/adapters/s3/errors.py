"""What the errors of S3 servers and their clients mean to the operator. No requests here.

obstore, minio-py and the signed client of ``client`` meet the same codes and statuses, and one
table says what they mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
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

#: Where the text of an answer or of a vendor's exception names the code and the status.
_CODE: Final = re.compile(r"<Code>(\w{1,64})</Code>")
_STATUS: Final = re.compile(r"(?:non-2xx status|Response) code: (\d{3})")
#: Vendors' exceptions that name neither, and what to look up for them. What no server can say has
#: spaces in it.
_KINDS: Final[tuple[tuple[type[Exception], str, str], ...]] = (
    (FileNotFoundError, "", "404"),
    (exceptions.AlreadyExistsError, "", "412"),
    (exceptions.PreconditionError, "", "412"),
    (exceptions.PermissionDeniedError, "", "403"),
    (exceptions.UnauthenticatedError, "", "401"),
    (Exception, "InvalidCertificate", "untrusted certificate"),
    (Exception, "CERTIFICATE_VERIFY_FAILED", "untrusted certificate"),
    (exceptions.InvalidPathError, "", "alien key"),
    (exceptions.BaseError, "InvalidPath", "alien key"),
    (ValueError, "", "unusable client"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What hints tell the operator to look at: the repository's settings, or the bucket's."""

    endpoint: str
    keys: str
    name: str
    ca_file: str
    absent: str
    full: str
    gone: str


REPOSITORY_HINTS: Final = Hints(
    endpoint="PGBEN_REPOSITORY_ENDPOINT",
    keys="PGBEN_REPOSITORY_ACCESS_KEY and PGBEN_REPOSITORY_SECRET_KEY",
    name="PGBEN_REPOSITORY",
    ca_file="PGBEN_REPOSITORY_CA_FILE",
    absent="correct PGBEN_REPOSITORY; only a new installation begins with `pgben init`",
    full="free or add space there; `pgben prune --dry-run` shows what may go",
    gone="verify the target",
)
BUCKET_HINTS: Final = Hints(
    endpoint="PGBEN_MINIO_HOST",
    keys="PGBEN_MINIO_ACCESS_KEY and PGBEN_MINIO_SECRET_KEY",
    name="PGBEN_BUCKETS",
    ca_file="PGBEN_MINIO_CA_FILE",
    absent="correct PGBEN_BUCKETS or PGBEN_MINIO_HOST",
    full="free or add space there",
    gone="it was removed, or never stored",
)


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a group of codes and statuses means; ``{store}``, ``{what}``, ``{hints}`` are filled in.

    ``{hints}`` stands in hints only.
    """

    error: type[PgbenError]
    sentence: str
    hint: str
    codes: frozenset[str] = frozenset()


#: The one table of what a code or a status means, whichever client met it.
_MEANINGS: Final = (
    _Meaning(
        ConfigurationError,
        "'{store}' refuses the credentials for '{what}'",
        "check {hints.keys}, and what the key may do",
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
    ),
    _Meaning(
        ObjectExists,
        "'{what}' exists already",
        "objects are never replaced",
        frozenset({"PreconditionFailed", "409", "412"}),
    ),
    _Meaning(
        ObjectMissing,
        "'{what}' is not in '{store}'",
        "{hints.gone}",
        frozenset({"NoSuchKey", "NoSuchUpload", "404"}),
    ),
    _Meaning(
        ConfigurationError,
        "the bucket of '{store}' does not exist",
        "{hints.absent}",
        frozenset({"NoSuchBucket"}),
    ),
    _Meaning(
        ConfigurationError,
        "the bucket of '{store}' has a name that S3 does not take",
        "correct {hints.name}",
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
        "{hints.full}",
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
    _Meaning(
        ConfigurationError,
        "the certificate of '{store}' is not trusted",
        "give the CA that signed it: {hints.ca_file}",
        frozenset({"untrusted certificate"}),
    ),
    _Meaning(
        PermanentError,
        "'{store}' holds a key at '{what}' that pgben cannot have written",
        "look at the bucket with another S3 client and remove it",
        frozenset({"alien key"}),
    ),
    _Meaning(
        ConfigurationError,
        "'{store}' cannot be spoken to",
        "check the settings of the repository",
        frozenset({"unusable client"}),
    ),
)
_BY_CODE: Final = {code: meaning for meaning in _MEANINGS for code in meaning.codes}
_UNAVAILABLE: Final = _Meaning(
    StoreUnavailable,
    "'{store}' does not answer as it should for '{what}'",
    "check that the server runs and can be reached from here",
)
#: Statuses of a server that does not know a question about a bucket's settings.
_UNASKABLE: Final = frozenset({"400", "404", "405", "501"})


def error_for(codes: Iterable[str], what: str, *, store: str, hints: Hints) -> PgbenError:
    """Return our error for the first of these codes and statuses that the table has.

    Where it has none, the server is unavailable: a later attempt may be answered.
    """
    known = (_BY_CODE[code] for code in codes if code in _BY_CODE)
    meaning = next(known, _UNAVAILABLE)
    sentence = meaning.sentence.format(what=what, store=store)
    return meaning.error(sentence, meaning.hint.format(hints=hints))


def as_public_error(exc: Exception, what: str, *, store: str, hints: Hints) -> PgbenError:
    """Return our error for an exception of obstore or urllib3."""
    return error_for(codes_of(exc), what, store=store, hints=hints)


def codes_of(exc: Exception) -> Iterator[str]:
    """Yield the code and the status that an exception names, then the code that it stands for."""
    text = str(exc)
    for pattern in (_CODE, _STATUS):
        if match := pattern.search(text):
            yield match[1]
    for kind, words, code in _KINDS:
        if isinstance(exc, kind) and words in text:
            yield code


def code_in(body: str) -> str:
    """Return the code in the body of an answer that is an error; empty when it has none."""
    code = _CODE.search(body)
    return code[1] if code else ""


def is_unaskable(codes: Iterable[str]) -> bool:
    """Return whether these codes of one answer say that a server does not know the question.

    Keys may be good for objects only ("AccessDenied"); wrong keys have other codes.
    """
    found = set(codes)
    if "403" in found:
        return "AccessDenied" in found
    return bool(found & _UNASKABLE) and "NoSuchBucket" not in found
