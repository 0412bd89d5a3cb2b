"""What every restore of a bucket does: choose keys, open packs, store what lies in them."""

from __future__ import annotations

import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from pgben_tasks.contracts import BucketRestoreRequest
from pgben_tasks.domain.buckets.capture import BucketCapture
from pgben_tasks.domain.buckets.inventory import Entry, Line
from pgben_tasks.domain.buckets.restore_plan import KeyChoice
from pgben_tasks.domain.documents import Manifest, Pack
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import (
    DigestMismatch,
    IntegrityError,
    ManifestInvalid,
    ObjectMissing,
    ObjectRefused,
    PackLost,
    RequestMistaken,
    SpoolFull,
    StoreUnavailable,
)
from pgben_tasks.operations import spool
from pgben_tasks.operations.buckets.current import unnamed
from pgben_tasks.operations.buckets.patience import Stuck
from pgben_tasks.operations.buckets.uploads import NotedUploads
from pgben_tasks.operations.repository.verify import damage_finding, record_damage
from pgben_tasks.operations.snapshot_files import place_of
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.ports import Bucket

log = structlog.get_logger(__name__)

_CHUNK: Final = 1024 * 1024
#: So many bytes of the spool are used at most for what is opened while another pack lies open.
_MOST_AHEAD: Final = 64 * 1024 * 1024
#: Seconds for which a fetch that hangs is waited for when a restore ends.
_CLOSING_LIMIT: Final = 10


def manifest_of(run: Run, tools: Toolbox) -> Manifest:
    """Return the manifest of the snapshot that was selected."""
    return tools.repository.manifest(run.target, BackupId.parse(run.job.backup or ""))


def capture_of(manifest: Manifest) -> BucketCapture:
    """Return what a snapshot says of its bucket; ``ManifestInvalid`` for a database's backup."""
    if manifest.bucket is None:
        raise ManifestInvalid(f"'{manifest.target}' is no bucket", "name a snapshot of a bucket")
    return manifest.bucket


def choice_of(run: Run) -> KeyChoice:
    """Return which keys a restore is asked for."""
    request = BucketRestoreRequest.parse(run.job.request)
    return KeyChoice(prefix=request.prefix, keys=frozenset(request.keys))


def require_found(choice: KeyChoice, *, readable: int, unreadable: int, backup: str) -> None:
    """Raise ``RequestMistaken`` unless the snapshot has what was chosen.

    That is: every single key that was named, or anything below a prefix. ``readable`` and
    ``unreadable`` count the chosen keys with and without their bytes.
    """
    missing = len(choice.keys) - readable - unreadable
    if missing > 0:
        raise RequestMistaken(
            f"keys that were named are not in snapshot '{backup}': {missing} of {len(choice.keys)}",
            "keys are taken letter by letter; look for them in another snapshot",
        )
    if choice.keys and unreadable:
        raise RequestMistaken(
            f"keys that were named cannot be read in snapshot '{backup}': "
            f"{unreadable} of {len(choice.keys)}",
            "their bytes could not be fetched at that time; take an older snapshot of them",
        )
    if choice.prefix and not readable:
        # The prefix may be personal data as well as a key.
        what = "that begins with the prefix can be read" if unreadable else "begins with the prefix"
        raise RequestMistaken(
            f"no object {what} in snapshot '{backup}'",
            "prefixes are taken letter by letter; `pgben objects ls` shows the keys",
        )


@contextmanager
def once(folder: Path, name: str) -> Iterator[bool]:
    """Yield whether the block is still to be done; note durably that it is when it ends well."""
    folder.mkdir(mode=0o700, exist_ok=True)
    note = folder / name.replace("/", "_")
    undone = not note.exists()
    yield undone
    if undone:
        spool.write_durably(note, b"")


class OpenedObjects:
    """The checked bytes of a pack's objects, one after another in a file."""

    def __init__(self, file: BinaryIO, sizes: Mapping[str, int]) -> None:
        """Take the sizes by digest, in the order of the file."""
        self._file = file
        ends = itertools.accumulate(sizes.values())
        self._places = {
            digest: (end - size, size)
            for (digest, size), end in zip(sizes.items(), ends, strict=True)
        }

    def chunks(self, digest: str) -> Iterator[bytes]:
        """Yield an object piece by piece; several threads may read at a time."""
        place, left = self._places[digest]
        while left > 0 and (chunk := os.pread(self._file.fileno(), min(left, _CHUNK), place)):
            yield chunk
            place += len(chunk)
            left -= len(chunk)


class PackOpener:
    """Opens packs of a snapshot, one by one; the next while the objects of one are stored.

    Must be closed, once no thread reads objects any more, and is used by one thread. ``wanted`` are
    digests and sizes.
    """

    def __init__(self, run: Run, tools: Toolbox, manifest: Manifest) -> None:
        """Open packs in the folder of the run; the thread for the next one starts with it."""
        self._run = run
        self._tools = tools
        self._manifest = manifest
        self._packs = {place_of(pack): pack for pack in manifest.packs}
        self._folder = spool.fresh(run.folder / "opened")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="open-ahead")
        self._next: tuple[str, Future[tuple[Path, dict[str, int]]]] | None = None
        self._closed = threading.Event()
        self._file: BinaryIO | None = None

    def close(self) -> None:
        """Stop opening, and remove what is open; a fetch that hangs goes on without a place."""
        self._closed.set()
        self._thread.shutdown(wait=False, cancel_futures=True)
        begun, self._next = self._next, None
        if begun is not None:
            wait([begun[1]], timeout=_CLOSING_LIMIT)
        self._close_file()
        spool.remove(self._folder)

    def open_ahead(self, place: str, wanted: Mapping[str, int]) -> None:
        """Begin to open the pack that is wanted next, unless it takes much of the spool."""
        pack = self._packs.get(place)
        if pack is not None and pack.size + sum(wanted.values()) <= _MOST_AHEAD:
            self._next = (place, self._thread.submit(self._open, pack, wanted))

    @contextmanager
    def opened(self, place: str, wanted: Mapping[str, int]) -> Iterator[OpenedObjects]:
        """Yield the wanted objects, which lie in the pack at ``place``.

        Damage is recorded, then raised as ``PackLost``.
        """
        self._close_file()
        pack = self._packs.get(place)
        if pack is None:
            raise ManifestInvalid(f"the inventory names the pack '{place}', the manifest not")
        try:
            path, sizes = self._begun(place) or self._open(pack, wanted)
        except (DigestMismatch, ObjectMissing) as exc:
            finding = damage_finding(pack.path, exc)
            record_damage(self._run, self._tools, self._manifest, [finding])
            raise PackLost(exc.sentence, exc.hint) from exc
        self._file = path.open("rb")
        # What is removed stays readable.
        path.unlink()
        yield OpenedObjects(self._file, sizes)
        # Not after an error: threads that have not noticed it may still read.
        self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begun(self, place: str) -> tuple[Path, dict[str, int]] | None:
        """Return the pack that was opened ahead, if it is this one and there was room for it."""
        begun, self._next = self._next, None
        if begun is None or begun[0] != place:
            return None
        try:
            return begun[1].result()
        except SpoolFull:
            log.info("pack_not_opened_ahead", place=place)
            return None

    def _open(self, pack: Pack, wanted: Collection[str]) -> tuple[Path, dict[str, int]]:
        """Fetch a pack and check it; return a file with the objects' bytes, and their sizes."""
        name = place_of(pack).replace("/", "_")
        sealed, opened = self._folder / f"{name}.sealed", self._folder / name
        try:
            self._tools.repository.fetch_pack(pack, sealed, advance=self._check)
            members = self._tools.objects.open_objects(
                pack, sealed, sorted(wanted), opened, advance=self._check
            )
        finally:
            with spool.disk_errors(self._folder):
                sealed.unlink(missing_ok=True)
        return opened, {one: size for one, size in members.items() if one in wanted}

    def _check(self, _amount: int) -> None:
        """Count nothing: the objects' own bytes are the progress."""
        self._run.progress.check()
        if self._closed.is_set():
            raise CancelledError


def sizes_by_digest(items: Iterable[Entry | Line]) -> dict[str, int]:
    """Return the sizes of all that have bytes, by their digests."""
    return {one.sha256: one.size for one in items if one.sha256}


def put(
    run: Run,
    bucket: Bucket,
    key: str,
    entry: Entry,
    objects: OpenedObjects,
    *,
    before_commit: Callable[[], None] | None = None,
) -> None:
    """Store an object under ``key`` with all it carries; its bytes are among ``objects``.

    ``before_commit`` is the bucket's: it may still forbid it when all bytes are there. Raises
    ``ObjectRefused`` where the server does not take it.
    """
    read = 0

    def chunks() -> Iterator[bytes]:
        nonlocal read
        for chunk in objects.chunks(str(entry.sha256)):
            read += len(chunk)
            run.progress.advance(len(chunk))
            yield chunk

    with ExitStack() as undo, unnamed(key), _taken(bucket):
        # It may be tried again.
        undo.callback(lambda: run.progress.advance(-read))
        bucket.put(
            key,
            chunks(),
            size=entry.size,
            headers=entry.headers,
            metadata=entry.metadata,
            tags=entry.tags,
            before_commit=before_commit,
            uploads=NotedUploads(run.folder, bucket.name),
        )
        undo.pop_all()


@contextmanager
def _taken(bucket: Bucket) -> Iterator[None]:
    """Raise ``ObjectRefused`` for an object that is not found while it is stored.

    So servers answer whose routes do not know its key. The bucket is there (``Bucket.put``).
    """
    try:
        yield
    except ObjectMissing as exc:
        raise ObjectRefused(
            f"{bucket.describe()} answers 'not found' when an object is stored",
            "its key may be one that this server cannot have",
        ) from exc


def not_restored(run: Run, differing: Counter[str], same: int, hint: str) -> IntegrityError:
    """Return how much of a restore is not as it should be, and why where that is known.

    ``differing`` counts objects by what differs, ``same`` are the others; names no object.
    """
    result = run.job.result
    reasons = (
        (result["lost"], "lie in packs that are damaged or gone"),
        (result["refused"], "are not taken by that server"),
    )
    known = "; ".join(f"{count} {what}" for count, what in reasons if count)
    found = ", ".join(f"{count} × {what}" for what, count in differing.most_common(3))
    number = differing.total()
    return IntegrityError(
        f"{number} of {same + number} objects are not as the snapshot has them ({found})"
        + (f": {known}" if known else ""),
        hint,
    )


def not_added(run: Run, *, lost: int, refused: int) -> IntegrityError:
    """Return how many objects cannot be put back, before anything was replaced."""
    return IntegrityError(
        f"objects that cannot be put back: {lost} lie in packs that are damaged or gone, "
        f"{refused} are not taken by that server",
        "nothing was overwritten; take another recovery point, or restore what is whole of the "
        f"bucket by itself: `pgben restore {run.target}` with `backup={run.job.backup}`, "
        "`allow_damaged`, `in_place` and `confirm`",
    )


def not_stored(bucket: Bucket, stuck: Sequence[Stuck]) -> StoreUnavailable:
    """Return how many objects could not be stored although the server took others."""
    count = sum(one.objects for one in stuck)
    return StoreUnavailable(
        f"objects that could not be stored in {bucket.describe()}, again and again, while others "
        f"were: {count}",
        f"look at that server, then try again: {stuck[-1].error.sentence}",
    )
