"""The process that seals and opens packs: ``python -m pgben_tasks.adapters.packs.child <parent>``.

pyrage holds the interpreter lock, so a worker that sealed in a thread could not heartbeat. One
JSON request per line comes in on standard input; lines ``{"advance": n}`` and at last ``{"done":
…}`` or ``{"error": …}`` go out. It ends with its parent: by signal, or when its input ends.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from pgben_tasks.adapters.keys.age import load_identities
from pgben_tasks.adapters.packs import object_child
from pgben_tasks.adapters.packs.opening import decompressed, opened, take_members, unfinished
from pgben_tasks.adapters.packs.sealing import compressed, seal_into, tar_bytes
from pgben_tasks.adapters.packs.streams import CHUNK, Advance, HashingWriter, MemberFacts
from pgben_tasks.errors import (
    ConfigurationError,
    DigestMismatch,
    PermanentError,
    PgbenError,
    SpoolFull,
)
from pgben_tasks.files.durable import FOLDER_MODE, NO_ROOM, durable_file

_PR_SET_PDEATHSIG: Final = 1
#: How often the parent hears of progress, in seconds; also proof that this process is alive.
_REPORT_EVERY: Final = 0.2


def seal(request: dict[str, Any], advance: Advance) -> dict[str, Any]:
    """Seal one pack; see ``PackCodec.seal`` and ``PackCodec.seal_early``."""
    destination = Path(request["destination"])
    taken: list[MemberFacts] = []
    with durable_file(destination) as file:
        writer = HashingWriter(file.write)
        planned = [(name, size, digest) for name, size, digest in request["members"]]
        chunks = tar_bytes(planned, Path(request["source"]), advance, taken)
        if request["compressed"]:
            chunks = compressed(chunks)
        seal_into(chunks, writer, request["recipients"])
    return {"size": writer.size, "sha256": writer.hexdigest(), "members": taken}


def open_pack(request: dict[str, Any], advance: Advance) -> dict[str, Any]:
    """Check one pack and open it; see ``PackCodec.open``."""
    path: str = request["path"]
    members = _members(request)
    destination = Path(request["destination"]) if request["destination"] else None
    with Path(request["stored"]).open("rb") as stored, ExitStack() as undo:
        if destination is not None:
            undo.callback(_remove_unfinished, destination, members)
        # The whole file is checked before any of it is believed: age hands out plain bytes
        # before it has seen the end.
        _check_stored(stored, path, request["size"], request["sha256"], advance)
        stored.seek(0)
        if destination is not None:
            destination.mkdir(mode=FOLDER_MODE, exist_ok=True)
        with ExitStack() as layers:
            plain: BinaryIO = stored
            if request["identity"] is not None:
                identities = load_identities(Path(request["identity"]))
                plain = layers.enter_context(opened(plain, identities, path))
            if request["compressed"]:
                plain = layers.enter_context(decompressed(plain))
            take_members(plain, members, destination, path=path, advance=advance)
        if destination is not None:
            for name, _, _ in members:
                unfinished(destination, name).replace(destination / name)
    return {}


def _members(request: dict[str, Any]) -> list[MemberFacts]:
    return [(name, size, digest) for name, size, digest in request["members"]]


def _remove_unfinished(destination: Path, members: list[MemberFacts]) -> None:
    for name, _, _ in members:
        with suppress(OSError):
            unfinished(destination, name).unlink()


def _check_stored(stored: BinaryIO, path: str, size: int, digest: str, advance: Advance) -> None:
    found = hashlib.sha256()
    seen = 0
    while chunk := stored.read(CHUNK):
        found.update(chunk)
        seen += len(chunk)
        advance(0)
    hint = "the file was changed or damaged; fetch it again, or restore it from the copy"
    if seen != size:
        raise DigestMismatch(f"pack '{path}' is {seen} bytes long, the manifest says {size}", hint)
    if found.hexdigest() != digest:
        raise DigestMismatch(
            f"digest of pack '{path}' is {found.hexdigest()[:16]}…, "
            f"the manifest says {digest[:16]}…",
            hint,
        )


def _explained(exc: OSError, request: dict[str, Any]) -> PgbenError:
    """Return what an ``OSError`` means to the operator."""
    folder = request.get("destination") or request.get("stored")
    reason = os.strerror(exc.errno) if exc.errno else "unknown reason"
    if exc.errno in NO_ROOM:
        return SpoolFull(f"'{folder}' has no room left", "free or add space there, then retry")
    name = exc.filename if isinstance(exc.filename, str) else folder
    if exc.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return ConfigurationError(f"'{name}' cannot be used: {reason}", "correct its owner or mode")
    return PermanentError(f"'{name}' failed: {reason}", "look at the disk that holds it")


def _checked(
    operation: Callable[[dict[str, Any], Advance], dict[str, Any]],
) -> Callable[[dict[str, Any], Advance], dict[str, Any]]:
    """Let an operation see only stored bytes that have the signed size and digest."""

    def checked(request: dict[str, Any], advance: Advance) -> dict[str, Any]:
        with Path(request["stored"]).open("rb") as stored:
            _check_stored(stored, request["path"], request["size"], request["sha256"], advance)
        return operation(request, advance)

    return checked


_OPERATIONS: Final[dict[str, Callable[[dict[str, Any], Advance], dict[str, Any]]]] = {
    "seal": seal,
    "open": open_pack,
    "seal_file": object_child.seal_file,
    "seal_objects": object_child.seal_objects,
    "open_file": _checked(object_child.open_file),
    "open_objects": _checked(object_child.open_objects),
}


class _Reporter:
    """Counts bytes and tells the parent now and then."""

    def __init__(self) -> None:
        self._amount = 0
        self._told = time.monotonic()

    def advance(self, amount: int) -> None:
        self._amount += amount
        if time.monotonic() - self._told >= _REPORT_EVERY:
            self.flush()

    def flush(self) -> None:
        answer({"advance": self._amount})
        self._amount, self._told = 0, time.monotonic()


def answer(message: dict[str, Any]) -> None:
    """Write one line to the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def serve(line: str) -> None:
    """Do what one request line asks for and answer it."""
    request = cast("dict[str, Any]", json.loads(line))
    reporter = _Reporter()
    try:
        try:
            result = _OPERATIONS[request["operation"]](request, reporter.advance)
        except OSError as exc:
            raise _explained(exc, request) from exc
    except PgbenError as exc:
        answer({"error": [type(exc).__name__, exc.sentence, exc.hint]})
    else:
        reporter.flush()
        answer({"done": result})


def die_with(parent: int) -> None:
    """Ask the kernel to end this process with its parent; end it now when that is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)


def main() -> None:
    """Serve requests until the input ends."""
    die_with(int(sys.argv[1]))
    for line in sys.stdin:
        try:
            serve(line)
        except Exception as exc:  # the parent must always hear how a request ended
            answer(
                {
                    "error": [
                        PermanentError.__name__,
                        f"a pack failed for an unforeseen reason: {type(exc).__name__}",
                        "this is a fault of pgben; report it with the log",
                    ]
                }
            )
            raise


if __name__ == "__main__":
    main()
