"""How much memory it takes to keep very many objects, a very large one, and to compare with rows.

The operations run in a process of their own, over a bucket that is only computed, on the real
repository, spool and key files. The first snapshot has no inventory before it; the second one has
to sort its listing, to join it with the whole inventory before, and to empty half-used packs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.meter import Meter
from benchmarks.places import Installation, servers
from benchmarks.report import MEBIBYTE
from benchmarks.simulated import SimulatedBucket
from pgben_tasks.contracts import BackupAllRequest, request_model
from pgben_tasks.direct import chain as in_process
from pgben_tasks.domain.documents import Manifest, StoredReferences
from pgben_tasks.domain.layout import inventory_path
from pgben_tasks.domain.references import Reference, ReferenceLine, encode
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.operations.points.check import cross_check
from pgben_tasks.operations.toolbox import NoProgress, Run, Toolbox
from pgben_tasks.runtime import Workplace
from pgben_tasks.settings import Settings

#: What the project promises, in bytes.
MOST: Final = 300 * 1000 * 1000
_ROOT: Final = Path(__file__).parents[1]
_NAME: Final = "simulated"
#: One row in so many names an object that is not there.
_WRONG: Final = 100
_REFERENCE: Final = Reference(
    name="documento",
    database=_NAME,
    bucket=_NAME,
    table="public.documento",
    key="caminho",
    needs=("encryption-iv",),
)


def measure(keys: int, gibibytes: int, *, tell: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Run both; return seconds and the largest memory of the processes, in bytes."""
    found = {}
    nothing = {"number": 0, "large": 0, "nights": 0, "rows": 0}
    with servers() as on:
        cases: dict[str, tuple[str, dict[str, int]]] = {
            f"{keys} keys, two snapshots": ("many", nothing | {"number": keys, "nights": 2}),
            f"{keys} rows against {keys} objects": ("many", nothing | {"rows": keys}),
            f"one object of {gibibytes} GiB": (
                "large",
                nothing | {"large": gibibytes * 1024**3, "nights": 1},
            ),
        }
        places = {
            name: Installation.prepare(
                on,
                f"memory-{name}",
                PGBEN_MINIO_HOST=on.stack.s3.endpoint,
                PGBEN_MINIO_ACCESS_KEY=on.stack.s3.access_key,
                PGBEN_MINIO_SECRET_KEY=on.stack.s3.secret_key,
                PGBEN_BUCKETS=_NAME,
            )
            for name in ("many", "large")
        }
        for name, (place, case) in cases.items():
            found[name] = _measured(case, places[place], on.folder)
            tell(f"{name}: {found[name]['memory'] / MEBIBYTE:.0f} MiB")
    return found


def sentence(name: str, found: Mapping[str, Any]) -> str:
    """Return one line about whether the bar holds."""
    word = "holds" if found["memory"] <= MOST else "is missed"
    return (
        f"{word}: {name} took {found['memory'] / 1e6:.0f} MB of memory and "
        f"{found['seconds']:.0f} s; at most {MOST / 1e6:.0f} MB"
    )


def _measured(case: dict[str, Any], environment: dict[str, str], folder: Path) -> dict[str, Any]:
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.memory"],
        env={**environment, "PYTHONPATH": str(_ROOT)},
        stdin=subprocess.PIPE,
        cwd=folder,
    )
    with Meter(process.pid) as meter:
        process.communicate(json.dumps(case).encode())
    if process.returncode != 0:
        raise SystemExit(f"the snapshots ended with status {process.returncode}")
    return {"seconds": time.monotonic() - began, "memory": meter.peak}


def main() -> None:
    """Take the snapshots, or make the comparison, that the order on standard input asks for."""
    order = json.load(sys.stdin)
    target = Target("bucket", _NAME)
    bucket = SimulatedBucket(_NAME, number=order["number"], large=order["large"])
    work = Workplace(Settings.load())
    tools = replace(work.tools, buckets={target: bucket})
    request = request_model("backup", str(target)).parse({"target": str(target)})
    for _ in range(order["nights"]):
        job = in_process.new_job(
            "backup", request, target=str(target), node=work.node, now=datetime.now(UTC), context={}
        )
        in_process.Chain(in_process.MemoryRow(job, tools.clock), tools, NoProgress()).run()
        bucket.overwrite()
    if order["rows"]:
        _compare(work, replace(tools, references=(_REFERENCE,)), target, order["rows"])


def _compare(work: Workplace, tools: Toolbox, target: Target, rows: int) -> None:
    """Compare so many rows, of which one in a hundred is wrong, with the newest snapshot."""
    job = in_process.new_job(
        "point",
        BackupAllRequest(),
        target="*",
        node=work.node,
        now=datetime.now(UTC),
        context={},
    )
    row, folder = in_process.MemoryRow(job, tools.clock), tools.spool / "compared"
    folder.mkdir()
    run = Run(job=job, ledger=row, progress=NoProgress(), folder=folder, try_lock=row.try_lock)
    snapshot = max(tools.repository.backups(target))
    database = Manifest.model_construct(  # type: ignore[call-arg]  # all that is read of it
        target="postgres/simulated",
        backup=str(snapshot),
        recipients=tools.codec.recipients,
        bucket=None,
        references=_references(tools, snapshot, rows, folder),
    )
    found = cross_check(
        run, tools, snapshot, [database, tools.repository.manifest(target, snapshot)]
    )
    wrong = len(range(0, rows, _WRONG))
    if found is None or (found.missing, found.orphan) != (wrong, wrong):
        message = f"the comparison found something else: {found}"
        raise AssertionError(message)


def _references(tools: Toolbox, snapshot: BackupId, rows: int, folder: Path) -> StoredReferences:
    """Store what so many rows say, and return how the manifest describes it."""
    plain = folder / "references.jsonl"
    with plain.open("wb") as file:
        for number in range(rows):
            key = f"documents/{number:09}{'' if number % _WRONG else '-gone'}"
            file.write(encode(ReferenceLine(_NAME, key, _REFERENCE.name, str(number), 64)))
    target = Target("postgres", _NAME)
    path = inventory_path(target, snapshot, sealed=tools.objects.sealed)
    sealed = tools.objects.seal_inventory(plain, folder / path.rpartition("/")[2])
    tools.repository.store_inventory(target, snapshot, folder / path.rpartition("/")[2])
    return StoredReferences(
        size=sealed.size,
        sha256=sealed.sha256,
        lines=sealed.plain,
        count=rows,
        names=(_REFERENCE.name,),
    )


if __name__ == "__main__":
    main()
