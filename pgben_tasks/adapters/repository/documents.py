"""Documents with their signatures in an object store: what is read was signed, what is written is.

The rules of who may sign what stand here; where documents stand is ``domain.layout``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final, TypeVar

from pgben_tasks.adapters.keys.signatures import DocumentKind, Signer, Trust
from pgben_tasks.domain.documents import (
    AuditEntry,
    Manifest,
    RecoveryPoint,
    Signature,
    StatementKind,
    Verification,
)
from pgben_tasks.domain.layout import document_path, signature_path
from pgben_tasks.domain.values import Document
from pgben_tasks.errors import (
    ConfigurationError,
    IntegrityError,
    ManifestInvalid,
    ObjectExists,
    ObjectMissing,
    SignatureInvalid,
)
from pgben_tasks.ports import ObjectStore, SigningRole

#: Larger than any manifest of a database with 100,000 tables, in bytes.
DOCUMENT_LIMIT: Final = 256 * 1024 * 1024
SIGNATURE_LIMIT: Final = 64 * 1024

SignedDocument = Manifest | Verification | AuditEntry | RecoveryPoint
_D = TypeVar("_D", Manifest, Verification, AuditEntry, RecoveryPoint)

#: Who may make which statement about a backup; the first role that a key has is the one used.
_STATEMENT_ROLES: Final[dict[StatementKind, tuple[SigningRole, ...]]] = {
    "readback": ("backup",),
    "quick": ("verify", "backup", "restore"),
    "full": ("verify", "backup", "restore"),
    "drill": ("restore",),
    "acknowledgement": ("maintenance",),
    "acknowledged_keys": ("maintenance",),
    "hold": ("maintenance",),
    "release": ("maintenance",),
    "prune": ("maintenance",),
}
_AUDIT_ROLES: Final[tuple[SigningRole, ...]] = ("maintenance", "backup", "restore", "verify")
_KINDS: Final[dict[type[Document], DocumentKind]] = {
    Manifest: "manifest",
    Verification: "verification",
    AuditEntry: "audit",
    RecoveryPoint: "recovery-point",
}


def signing_roles(document: SignedDocument) -> tuple[SigningRole, ...]:
    """Return the roles that may sign a document."""
    if isinstance(document, Manifest | RecoveryPoint):
        return ("backup",)
    if isinstance(document, Verification):
        return _STATEMENT_ROLES[document.kind]
    return _AUDIT_ROLES


def put_once(store: ObjectStore, path: str, data: bytes) -> None:
    """Store a document; one that an earlier try of this very call stored is no clash."""
    try:
        store.put(path, data)
    except ObjectExists:
        # A server may carry out a request, answer with an error, and refuse the repetition.
        if store.get(path, limit=DOCUMENT_LIMIT) != data:
            raise


class SignedDocuments:
    """Read and write signed documents of one repository."""

    def __init__(
        self, store: ObjectStore, repository: str, *, signer: Signer | None, trust: Trust
    ) -> None:
        """Bind the store, the repository's id and the keys.

        Raises ``ConfigurationError`` when the signing key is not trusted: what it signs could not
        be read back.
        """
        self._store = store
        self._repository = repository
        self._signer = signer
        self._trust = trust
        if signer is not None and not trust.roles(signer.fingerprint):
            raise ConfigurationError(
                f"the signing key {signer.fingerprint[:16]}… is not in the trusted keys file",
                "add its public half there, or use the key that belongs to this installation",
            )

    def read(self, kind: type[_D], path: str) -> tuple[_D, bytes]:
        """Return a document with its bytes, after a check of its signature.

        Raises ``ObjectMissing``, ``SignatureInvalid``, ``ManifestInvalid``.
        """
        data = self._store.get(path, limit=DOCUMENT_LIMIT)
        signature = self._signature(path)
        # Decoding before the signature is checked tells damage (it decodes no longer) from
        # forgery. The result leaves this method only after the check.
        document = kind.decode(data, where=path)
        if document.repository != self._repository:
            raise SignatureInvalid(
                f"'{path}' is forged: it was written for the repository '{document.repository}'",
                "a document was moved here from another repository; remove it",
            )
        if document_path(document) != path:
            raise SignatureInvalid(
                f"'{path}' is forged: it describes '{document_path(document)}' and was moved here",
                "remove it, and find out who can write to the repository",
            )
        self._trust.check(
            data,
            signature,
            roles=signing_roles(document),
            kind=_KINDS[kind],
            repository=self._repository,
            path=path,
        )
        return document, data

    def write(self, document: _D) -> bytes:
        """Sign a document and store it, signature first; read both back; return its bytes.

        The same document may be written again; ``ObjectExists`` when another one has the path.
        """
        path = document_path(document)
        signature = self._sign(document, path).encode()
        data = document.encode()
        try:
            present = self._store.get(path, limit=DOCUMENT_LIMIT)
        except ObjectMissing:
            self._put_signature(signature_path(path), signature)
            put_once(self._store, path, data)
        else:
            if present != data:
                raise ObjectExists(
                    f"'{path}' exists already and says something else",
                    "the id was used twice; start the job again",
                )
        _, stored = self.read(type(document), path)
        if stored != data:
            raise IntegrityError(
                f"'{path}' reads back otherwise than it was written",
                "the store is not reliable; look at it before the next backup",
            )
        return data

    def may_sign(self, kind: StatementKind) -> bool:
        """Return whether the key at hand may sign statements of this kind."""
        return self._role(_STATEMENT_ROLES[kind]) is not None

    def _role(self, wanted: tuple[SigningRole, ...]) -> SigningRole | None:
        mine = self._trust.roles(self._signer.fingerprint) if self._signer else frozenset()
        return next((each for each in wanted if each in mine), None)

    def _sign(self, document: SignedDocument, path: str) -> Signature:
        wanted = signing_roles(document)
        role = self._role(wanted)
        if self._signer is None or role is None:
            raise ConfigurationError(
                f"this process has no signing key that may sign '{path}'",
                f"set PGBEN_SIGNING_KEY_FILE to a key with the role '{wanted[0]}'",
            )
        return self._signer.sign(
            document.encode(),
            role=role,
            kind=_KINDS[type(document)],
            repository=self._repository,
            path=path,
        )

    def _signature(self, path: str) -> Signature:
        where = signature_path(path)
        try:
            return Signature.decode(self._store.get(where, limit=SIGNATURE_LIMIT), where=where)
        except ObjectMissing as exc:
            raise SignatureInvalid(
                f"'{path}' has no signature", "it was removed, or the document is forged"
            ) from exc
        except ManifestInvalid as exc:
            raise SignatureInvalid(
                f"the signature of '{path}' is damaged", "restore it from the copy"
            ) from exc

    def _put_signature(self, key: str, data: bytes) -> None:
        """Store a signature whose document does not exist yet.

        An attempt that was killed before its document may have left another one. It signs nothing
        that exists, so it is replaced, which only ``put_file`` does.
        """
        try:
            self._store.put(key, data)
        except ObjectExists:
            with tempfile.TemporaryDirectory(prefix="pgben-") as folder:
                path = Path(folder) / "signature"
                path.write_bytes(data)
                self._store.put_file(key, path)
