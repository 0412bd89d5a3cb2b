"""What a backup script does: ``pg_dump -Fc``, then a hash, then an upload, one after another.

In its best honest form: the chain's compression instead of gzip, hashlib instead of a slow
``sha256sum``, the fast S3 library, no flush to disk. The program is a process of its own, which
begins to measure itself when everything is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from benchmarks.meter import Meter
from benchmarks.places import Ground
from benchmarks.rounds import Measured
from pgben_tasks.adapters.s3.errors import REPOSITORY_HINTS
from pgben_tasks.adapters.s3.location import S3Location
from pgben_tasks.adapters.stores.s3 import S3ObjectStore
from pgben_tasks.embedded.stack import REPOSITORY_BUCKET

_ROOT: Final = Path(__file__).parents[1]


class Script:
    """Runs the script; what it stored is removed again, unmeasured."""

    name = "pg_dump -Fc, hash, upload"

    def __init__(self, on: Ground) -> None:
        """Back up the database of ``on`` to its S3 server."""
        self._on = on
        self._location = location_of(on, prefix="script")

    def run(self) -> Measured:
        """Run the script once."""
        tools = self._on.client
        dump = self._on.folder / f"{uuid4()}.dump"
        order = {
            "argv": [
                *(str(tools.pg_dump), "--format=custom", f"--compress={tools.compression}"),
                *("--no-sync", f"--file={dump}"),
            ],
            "dump": str(dump),
            "location": self._location,
        }
        figures, memory = run_program("benchmarks.script", self._on, order)
        stored = dump.stat().st_size
        dump.unlink()
        store_at(self._location).delete(dump.name)
        return Measured(
            seconds=figures["seconds"],
            cpu=figures["cpu"],
            memory=memory,
            stored=stored,
            parts=figures["parts"],
        )


def main() -> None:
    """Dump, hash, upload; write how long each took and what processor time it cost."""
    order = json.load(sys.stdin)
    dump = Path(order["dump"])
    store = store_at(order["location"])
    spent = sum(os.times()[:4])
    marks = [time.perf_counter()]
    subprocess.run(order["argv"], check=True)
    marks.append(time.perf_counter())
    with dump.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    marks.append(time.perf_counter())
    store.put_file(dump.name, dump)
    marks.append(time.perf_counter())
    steps = zip(("dump", "hash", "upload"), marks, marks[1:], strict=False)
    json.dump(
        {
            "seconds": marks[-1] - marks[0],
            "cpu": sum(os.times()[:4]) - spent,
            "parts": {name: end - begin for name, begin, end in steps},
            "sha256": digest,
        },
        sys.stdout,
    )


def run_program(module: str, on: Ground, order: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Run a script's program with ``order``; return its figures and its peak memory in bytes."""
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        env={**on.connection(), "PYTHONPATH": str(_ROOT), "PATH": os.defpath},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=on.folder,
    )
    with Meter(process.pid) as meter:
        answer, _ = process.communicate(json.dumps(order).encode())
    if process.returncode != 0:
        raise SystemExit(f"'{module}' ended with status {process.returncode}")
    return json.loads(answer), meter.peak


def location_of(on: Ground, *, prefix: str) -> dict[str, str]:
    """Return, for another process, where on the S3 server a script stores."""
    s3 = on.stack.s3
    return {
        "endpoint": s3.endpoint,
        "bucket": REPOSITORY_BUCKET,
        "access_key": s3.access_key,
        "secret_key": s3.secret_key,
        "prefix": prefix,
    }


def store_at(location: Mapping[str, str]) -> S3ObjectStore:
    """Return the store at ``location``."""
    return S3ObjectStore(
        S3Location(
            hints=REPOSITORY_HINTS,
            endpoint=location["endpoint"],
            bucket=location["bucket"],
            access_key=location["access_key"],
            secret_key=location["secret_key"],
            prefix=location["prefix"],
        )
    )


if __name__ == "__main__":
    main()
