"""An object store in a directory: one file per object, complete or absent.

Only ``durable_file`` writes here; nothing outside the root is ever read or written, because keys
are checked and the last step never follows a symbolic link.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, Final

from pgben_tasks.domain.keys import check_key, check_prefix
from pgben_tasks.domain.space import Usage
from pgben_tasks.errors import (
    ConfigurationError,
    IntegrityError,
    ObjectExists,
    ObjectMissing,
    PermanentError,
    StoreUnavailable,
)
from pgben_tasks.files.durable import (
    FOLDER_MODE,
    NO_ROOM,
    durable_file,
    flush_folder,
    make_folders,
    temporary_name,
)
from pgben_tasks.ports import StoredObject, Unfinished

_CHUNK: Final = 1024 * 1024
#: Unfinished files; on the same file system as the rest, so that a rename finishes them.
_WORKSPACE: Final = ".unfinished"
_UNFINISHED_LIMIT: Final = timedelta(days=7)
#: Stands for the slash in the name of an unfinished file; no key has it.
_SLASH: Final = "="
_UNFINISHED_NAME: Final = re.compile(r"\.(.+)\.[0-9a-f]{12}\.tmp", re.ASCII)
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class DirectoryObjectStore:
    """Keep objects as files below ``root``, which must exist.

    A root that is absent is never made on the way: it may be a volume that is not mounted, and
    backups written beside it would be lost. ``make_root`` is for ``pgben init``.
    """

    def __init__(self, root: Path) -> None:
        """Name the root; nothing is touched yet."""
        self._root = root
        self._swept = False

    def make_root(self) -> None:
        """Make the root folder (0700) when it is absent."""
        with self._translated(str(self._root)):
            self._root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)

    def describe(self) -> str:
        """Name the store for people."""
        return f"file://{self._root}"

    def put(self, key: str, data: bytes) -> None:
        """Store ``data`` under a new key."""
        path = self._path(key)
        with self._translated(key):
            try:
                with durable_file(path, replace=False, temporary=self._prepare(key)) as file:
                    file.write(data)
            except FileExistsError as exc:
                raise ObjectExists(f"'{key}' exists already", "objects are never replaced") from exc

    def put_file(
        self, key: str, path: Path, *, advance: Callable[[int], None] | None = None
    ) -> None:
        """Copy a file in, replacing what an earlier try left."""
        destination = self._path(key)
        with (
            path.open("rb") as source,
            self._translated(key),
            durable_file(destination, temporary=self._prepare(key)) as file,
        ):
            while chunk := source.read(_CHUNK):
                file.write(chunk)
                if advance is not None:
                    advance(len(chunk))

    def get(self, key: str, *, limit: int) -> bytes:
        """Fetch a small object whole."""
        with self._translated(key), self._open(key) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise IntegrityError(
                f"'{key}' is longer than the {limit} bytes that were expected at most",
                "the stored object was changed; verify the target",
            )
        return data

    def stream(self, key: str) -> Iterator[bytes]:
        """Fetch an object in chunks."""
        with self._translated(key):
            file = self._open(key)
        return self._chunks(key, file)

    def head(self, key: str) -> StoredObject:
        """Return what is known of one object without its bytes."""
        with self._translated(key):
            found = self._path(key).lstat()
            if not S_ISREG(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return _stored(key, found)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Return every object whose key begins with ``prefix``, sorted by key."""
        check_prefix(prefix)
        folder, _, _ = prefix.rpartition("/")
        with self._translated(prefix or str(self._root)):
            self._require_root()
            found = list(self._walk(self._root / folder, f"{folder}/" if folder else ""))
        return iter(sorted((o for o in found if o.key.startswith(prefix)), key=lambda o: o.key))

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        path = self._path(key)
        with self._translated(key):
            try:
                path.unlink()
            except FileNotFoundError:
                self._require_root()
                return
            flush_folder(path.parent)

    def now(self) -> datetime:
        """Ask the file system, which may be another machine's: a new file tells its time."""
        with self._translated(_WORKSPACE):
            path = self._workspace() / temporary_name("clock")
            try:
                path.write_bytes(b"\n")
                return _moment(path.lstat())
            finally:
                path.unlink(missing_ok=True)

    def volume(self) -> Usage:
        """Return how full the volume is, which others may write to as well."""
        with self._translated(str(self._root)):
            self._require_root()
            found = shutil.disk_usage(self._root)
        # What is kept for root is no room for anybody else.
        return Usage(used=found.used, capacity=found.used + found.free)

    def unfinished(self, prefix: str) -> Iterator[Unfinished]:
        """Return what writers that were killed left; their files' names tell the keys."""
        check_prefix(prefix)
        with self._translated(_WORKSPACE):
            self._require_root()
            found = [
                Unfinished(key, path.name, _moment(path.lstat()))
                for path in (self._root / _WORKSPACE).glob(".*.tmp")
                if (key := _key_of_unfinished(path.name)).startswith(prefix)
            ]
        return iter(sorted(found, key=lambda one: (one.key, one.upload)))

    def abort(self, upload: Unfinished) -> None:
        """Remove an unfinished file."""
        with self._translated(upload.key):
            if _key_of_unfinished(upload.upload) == upload.key:
                (self._root / _WORKSPACE / upload.upload).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _prepare(self, key: str) -> Path:
        """Make the folders that writing ``key`` needs; name its file while it is unfinished."""
        workspace = self._workspace()
        make_folders(self._path(key).parent, below=self._root)
        if not self._swept:
            self._swept = True
            self._sweep(workspace)
        return workspace / temporary_name(key.replace("/", _SLASH))

    def _workspace(self) -> Path:
        self._require_root()
        workspace = self._root / _WORKSPACE
        make_folders(workspace, below=self._root)
        return workspace

    def _sweep(self, workspace: Path) -> None:
        """Remove what writers that were killed left; no upload lasts as long as the limit."""
        oldest = time.time() - _UNFINISHED_LIMIT.total_seconds()
        for path in workspace.iterdir():
            with suppress(FileNotFoundError):
                if path.lstat().st_mtime < oldest:
                    path.unlink()

    def _require_root(self) -> None:
        if not self._root.is_dir():
            raise ConfigurationError(
                f"the repository's folder '{self._root}' does not exist",
                "mount its volume, or correct PGBEN_REPOSITORY; only a new installation begins "
                "with `pgben init`",
            )

    def _open(self, key: str) -> BinaryIO:
        # Not blocking, so that a named pipe is refused instead of waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self._path(key), flags)
        if S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb", buffering=0)
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

    def _chunks(self, key: str, file: BinaryIO) -> Iterator[bytes]:
        with file, self._translated(key):
            while chunk := file.read(_CHUNK):
                yield chunk

    def _walk(self, folder: Path, prefix: str) -> Iterator[StoredObject]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if not prefix and entry.name == _WORKSPACE:
                continue
            # A name that is not UTF-8 was not written by pgben; it is listed in a form that can
            # be printed, so that the check for stray files can show it.
            name = os.fsencode(entry.name).decode("utf-8", "backslashreplace")
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(Path(entry.path), f"{prefix}{name}/")
                continue
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield _stored(prefix + name, found)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Turn an ``OSError`` into the error that tells the operator what to do."""
        try:
            yield
        except OSError as exc:
            if exc.errno in NO_ROOM:
                raise PermanentError(
                    f"the repository '{self.describe()}' has no room left",
                    "free or add space there; `pgben prune --dry-run` shows what may go",
                ) from exc
            if exc.errno in _FORBIDDEN:
                raise ConfigurationError(
                    f"'{what}' in '{self.describe()}' cannot be used: {os.strerror(exc.errno)}",
                    "give this user the folder, or mount it for writing",
                ) from exc
            if exc.errno in _ABSENT:
                self._require_root()
                raise ObjectMissing(
                    f"'{what}' is not in '{self.describe()}'", "verify the target"
                ) from exc
            if exc.errno == errno.ELOOP:
                raise IntegrityError(
                    f"'{what}' in '{self.describe()}' is a symbolic link",
                    "pgben writes none: find out who put it there",
                ) from exc
            reason = os.strerror(exc.errno) if exc.errno else "unknown"
            raise StoreUnavailable(
                f"'{what}' in '{self.describe()}' could not be reached: {reason}",
                "look at the volume that holds the repository",
            ) from exc


def _key_of_unfinished(name: str) -> str:
    """Return the key that an unfinished file was to become; empty when its name tells none."""
    match = _UNFINISHED_NAME.fullmatch(name)
    return match[1].replace(_SLASH, "/") if match else ""


def _stored(key: str, found: os.stat_result) -> StoredObject:
    return StoredObject(key, found.st_size, _moment(found))


def _moment(found: os.stat_result) -> datetime:
    return datetime.fromtimestamp(found.st_mtime, UTC)
