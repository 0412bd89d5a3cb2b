"""Making and storing the packs of one backup: planning, sealing, storing, going on after a crash.

In the job's folder of the spool ``plan.json`` says which file goes into which pack, and ``packs/``
holds sealed packs, each with a note beside it (``<pack>.json``) that is written when it is whole.
A pack with a note is never made again: whoever goes on stores the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from pgben_tasks.domain.documents import Member, Pack, pack_number
from pgben_tasks.domain.packing import PackPlan
from pgben_tasks.domain.values import canonical
from pgben_tasks.operations import spool
from pgben_tasks.operations.toolbox import Run, Toolbox

log = structlog.get_logger(__name__)

#: How many packs are sealed and stored at a time; each has a child process and a connection.
PACKS_IN_FLIGHT: Final = 2


def sealed_packs(run: Run) -> tuple[Pack, ...]:
    """Return the packs that lie whole in the spool, by number."""
    notes = [
        Pack.decode(note.read_bytes(), where=str(note)) for note in _folder(run).glob("*.json")
    ]
    return tuple(sorted(notes, key=number_of))


def number_of(pack: Pack | PackPlan) -> int:
    """Return a pack's number within its backup."""
    return pack_number(_file_name(pack.path)) or 0


def keep_plan(run: Run, plans: Iterable[PackPlan]) -> None:
    """Write the plan down; from now on it is followed, not made anew."""
    spool.write_durably(
        run.folder / "plan.json",
        canonical(
            [
                {
                    "path": plan.path,
                    "members": [member.model_dump(mode="json") for member in plan.members],
                }
                for plan in plans
            ]
        ),
    )


def kept_plan(run: Run) -> tuple[PackPlan, ...]:
    """Read the plan."""
    return tuple(
        PackPlan(
            path=one["path"],
            members=tuple(Member.model_validate_json(json.dumps(each)) for each in one["members"]),
        )
        for one in json.loads(spool.read(run.folder / "plan.json"))
    )


def store_all(run: Run, tools: Toolbox, plans: Iterable[PackPlan]) -> tuple[Pack, ...]:
    """Seal and store every pack of the plan, some at a time; give them by number."""
    make_folder(run)
    with ThreadPoolExecutor(PACKS_IN_FLIGHT, thread_name_prefix="pack") as pool:
        stored = [pool.submit(_store, run, tools, plan) for plan in plans]
        try:
            return tuple(sorted((future.result() for future in stored), key=number_of))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def make_folder(run: Run) -> None:
    """Make the folder for sealed packs."""
    with spool.disk_errors(run.folder):
        _folder(run).mkdir(mode=0o700, exist_ok=True)


def seal_noted(run: Run, path: str, seal: Callable[[Path], Pack]) -> Pack:
    """Return the pack of this path, made by ``seal`` unless it is there; note that it is whole."""
    destination = _folder(run) / _file_name(path)
    note = destination.with_name(destination.name + ".json")
    if note.exists():
        return Pack.decode(note.read_bytes(), where=str(note))
    pack = seal(destination)
    spool.write_durably(note, pack.encode())
    return pack


def store_sealed(run: Run, tools: Toolbox, pack: Pack, *, advance: Callable[[int], None]) -> None:
    """Store a sealed pack unless it is in the repository already."""
    tools.repository.store_pack(pack, _folder(run) / _file_name(pack.path), advance=advance)
    log.info("pack_stored", pack=pack.path, size=pack.size)


def _store(run: Run, tools: Toolbox, plan: PackPlan) -> Pack:
    def seal(destination: Path) -> Pack:
        source = run.folder / "dump"
        return tools.codec.seal(plan, source, destination, advance=run.progress.advance)

    run.progress.check()
    pack = seal_noted(run, plan.path, seal)
    run.progress.check()
    store_sealed(run, tools, pack, advance=run.progress.advance)
    return pack


def _folder(run: Run) -> Path:
    return run.folder / "packs"


def _file_name(path: str) -> str:
    return path.rpartition("/")[2]
