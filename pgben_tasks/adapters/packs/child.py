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
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from pgben_tasks.adapters.packs.opening import (
    Begun,
    plain_bytes,
    take_files,
    take_lines,
    take_objects,
)
from pgben_tasks.adapters.packs.sealing import (
    compressed,
    lines_of,
    seal_into,
    tar_of_files,
    tar_of_objects,
)
from pgben_tasks.adapters.packs.streams import CHUNK, Advance, HashingWriter
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
    """Seal one file, which is there whole or not at all; returns its facts and its content's."""
    facts: dict[str, Any] = {}
    with (
        durable_file(Path(request["destination"])) as file,
        # A source that a failure left open would take room for as long as this process lives.
        closing(_content(request, advance, facts)) as chunks,
    ):
        writer = HashingWriter(file.write)
        seal_into(
            compressed(chunks) if request["compressed"] else chunks, writer, request["recipients"]
        )
    return {"size": writer.size, "sha256": writer.hexdigest(), **facts}


def _content(request: dict[str, Any], advance: Advance, facts: dict[str, Any]) -> Generator[bytes]:
    source = Path(request["source"])
    match request["content"]:
        case "files":
            planned = [(name, size, digest) for name, size, digest in request["members"]]
            return tar_of_files(planned, source, advance, facts)
        case "objects":
            return tar_of_objects(source, advance)
        case "lines":
            return lines_of(source, advance, facts)
    raise KeyError(request["content"])


def open_stored(request: dict[str, Any], advance: Advance) -> dict[str, Any]:
    """Check one stored file and open it.

    Files take their names when everything was checked; after a failure none is left.
    """
    path: str = request["path"]
    with Path(request["stored"]).open("rb") as stored:
        # The whole file is checked before any of it is believed: age hands out plain bytes
        # before it has seen the end.
        _check_stored(stored, path, request["size"], request["sha256"], advance)
        stored.seek(0)
        plain = plain_bytes(
            stored,
            path,
            identities=[Path(one) for one in request["identities"]],
            compressed=request["compressed"],
        )
        if request["content"] == "lines":
            with durable_file(Path(request["destination"])) as file:
                writer = HashingWriter(file.write)
                with plain as lines:
                    take_lines(lines, writer, path=path, advance=advance)
            return {"sha256": writer.hexdigest()}
        begun: Begun = {}
        try:
            with plain as tar:
                answer = _take_members(tar, request, begun, advance)
            for target, final in begun.items():
                target.replace(final)
        except BaseException:
            for target in begun:
                with suppress(OSError):
                    target.unlink()
            raise
        return answer


def _take_members(
    tar: BinaryIO, request: dict[str, Any], begun: Begun, advance: Advance
) -> dict[str, Any]:
    path: str = request["path"]
    destination = Path(request["destination"]) if request["destination"] else None
    if request["content"] == "objects":
        members = take_objects(
            tar, request["wanted"], destination, begun, path=path, advance=advance
        )
        return {"members": list(members.items())}
    if destination is not None:
        destination.mkdir(mode=FOLDER_MODE, exist_ok=True)
    files = [(name, size, digest) for name, size, digest in request["members"]]
    take_files(tar, files, destination, begun, path=path, advance=advance)
    return {}


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


_OPERATIONS: Final[dict[str, Callable[[dict[str, Any], Advance], dict[str, Any]]]] = {
    "seal": seal,
    "open": open_stored,
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
