"""What rows of a database say of objects: read with the dump, stored with the backup.

References that cannot be read are told, and make no backup fail.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from itertools import chain
from pathlib import Path
from typing import Final

import structlog

from pgben_tasks.contracts import JSON
from pgben_tasks.domain.documents import RECOVERY_POINTS, StoredReferences
from pgben_tasks.domain.layout import inventory_path
from pgben_tasks.domain.references import ReferenceLine, encode, in_order, read_references
from pgben_tasks.errors import PgbenError, SpoolFull
from pgben_tasks.files.sort import ExternalSort
from pgben_tasks.operations import spool
from pgben_tasks.operations.repository import commit as committing
from pgben_tasks.operations.snapshot_files import Lines
from pgben_tasks.operations.toolbox import Run, Toolbox
from pgben_tasks.ports import Capture

log = structlog.get_logger(__name__)

_FILE: Final = "references.jsonl"


def read(run: Run, tools: Toolbox, capture: Capture) -> JSON:
    """Read the references of the database in the capture's snapshot; return what to tell of it."""
    wanted = [one for one in tools.references if one.database == run.target.name]
    if not wanted:
        return {}
    run.progress.begin("references")
    source = tools.sources[run.target]
    scratch = run.folder / "references"
    scratch.mkdir(mode=0o700)
    try:
        found = chain.from_iterable(source.references(capture, one) for one in wanted)
        count = write_sorted(found, run.folder / _FILE, scratch)
    except SpoolFull:
        raise
    except PgbenError as exc:
        (run.folder / _FILE).unlink(missing_ok=True)
        log.error("references_not_read", why=exc.sentence, hint=exc.hint)  # noqa: TRY400 - a sentence
        return {"references_not_read": exc.sentence}
    finally:
        spool.remove(scratch)
    return {
        "references": count,
        "reference_names": sorted({one.name for one in wanted}),
    }


def store(run: Run, tools: Toolbox) -> StoredReferences | None:
    """Seal and store what was read; None where nothing was, or where somebody could not read it."""
    file, count = run.folder / _FILE, run.job.result.get("references")
    if count is None or not tools.workers.may_use_new_fields(RECOVERY_POINTS, in_use=False):
        return None
    backup = committing.backup_id(run)
    path = inventory_path(run.target, backup, sealed=tools.objects.sealed)
    sealed_file = run.folder / path.rpartition("/")[2]
    sealed_file.unlink(missing_ok=True)
    sealed = tools.objects.seal_inventory(file, sealed_file)
    tools.repository.store_inventory(run.target, backup, sealed_file)
    return StoredReferences(
        size=sealed.size,
        sha256=sealed.sha256,
        lines=sealed.plain,
        count=int(count),
        names=tuple(run.job.result["reference_names"]),
    )


def write_sorted(found: Iterable[ReferenceLine], path: Path, scratch: Path) -> int:
    """Write references in order to a private file, memory flat; return how many there are."""
    with spool.disk_errors(path.parent), path.open("wb") as file:
        path.chmod(0o600)
        lines = Lines(file)
        for line in _SORT.sort(found, scratch):
            lines.add_raw(encode(line))
    return lines.number


def lines_in(path: Path) -> Generator[ReferenceLine, None, None]:
    """Yield the references of a plain file."""
    with path.open("rb") as file:
        yield from read_references(file, where=path.name)


_SORT: Final = ExternalSort(key=in_order, encode=encode, read=lines_in)
