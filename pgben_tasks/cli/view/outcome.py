"""How jobs end on a screen: exit codes, the JSON of a job, and tables. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any, Final
from uuid import UUID

from rich.console import RenderableType
from rich.text import Text

from pgben_tasks import errors
from pgben_tasks.cli.view import output
from pgben_tasks.domain import listing
from pgben_tasks.domain.holds import Hold
from pgben_tasks.domain.job import EVERYTHING, Job, StepRun
from pgben_tasks.domain.points import MISSING, UNREADABLE
from pgben_tasks.domain.states import GOOD_LABELS, State
from pgben_tasks.domain.swap import SwapState
from pgben_tasks.language import counted

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
REFUSED: Final = 3
SUSPECT: Final = 4
DAMAGED: Final = 5
INTERRUPTED: Final = 130
#: The reader of standard output has closed it, as after SIGPIPE.
OUTPUT_CLOSED: Final = 141

#: From the least to the most alarming; the code of several jobs is that of the worst.
_SEVERITY: Final = (0, 75, 4, 3, 2, 1, 5)

#: Kinds of jobs whose name alone says too little.
_KIND_WORDS: Final = {"point": "recovery point", "restore_all": "restore", "undo_all": "undo"}

#: What a comparison counts that is no fault of a row.
_NO_FAULTS: Final = frozenset({"references", "objects", "orphan", "recoverable"})

#: The keys of a result that a table shows: their words, and what kind of value they have.
_RESULT_WORDS: Final[dict[str, tuple[str, str]]] = {
    "report": ("report", ""),
    "colour": ("verdict", ""),
    "file": ("kept as", ""),
    "mailed": ("mailed", "flag"),
    "not_mailed": ("not mailed", ""),
    "refused_for": ("recipients that were refused", "count"),
    "level": ("level", ""),
    "backups": ("backups", "count"),
    "backup": ("backup", ""),
    "point": ("recovery point", ""),
    "moment": ("data as of", "moment"),
    "into": ("restored into", ""),
    "replaced": ("kept as", ""),
    "kept_until": ("kept until", "moment"),
    "after_swap_failed": ("after the swap", ""),
    "note": ("note", ""),
    "snapshot_time": ("data as of", "moment"),
    "not_in_point": ("not in the point, and left", "names"),
    "newer_objects": ("newer objects, and left", "count"),
    "not_checked": ("not compared", ""),
    "suspect": ("suspect", ""),
    "acknowledged": ("acknowledged", ""),
    "keys_acknowledged": ("keys acknowledged", "count"),
    "existing": ("was there already", "flag"),
    "hold": ("kept", "hold"),
    "released": ("released", "flag"),
    "database_bytes": ("database", "bytes"),
    "dump_bytes": ("dump", "bytes"),
    "stored_bytes": ("stored", "bytes"),
    "new_bytes": ("new in the repository", "bytes"),
    "spool_bytes": ("held in the spool", "bytes"),
    "packs": ("packs", "count"),
    "sealed": ("sealed", "flag"),
    "tables": ("tables", "count"),
    "rows": ("rows", "count"),
    "compared_with": ("compared with", ""),
    "objects": ("objects", "count"),
    "bytes": ("bytes", "bytes"),
    "fetched": ("fetched", "count"),
    "gone": ("gone since then", "count"),
    "tags_read": ("tags read", "count"),
    "tags_unread": ("tags read earlier", "count"),
    "unreadable": ("unreadable", "count"),
    "tags_not_kept": ("without tags, which are not kept there", "count"),
    "tags_kept": ("with further tags, which the snapshot had not read", "count"),
    "not_in_snapshot": ("not in the snapshot", "count"),
    "written": ("written", "count"),
    "retagged": ("given back their tags", "count"),
    "already_same": ("were the same", "count"),
    "extra": ("extra", "count"),
    "deleted": ("deleted", "count"),
    "aside": ("copied aside to", ""),
    "aside_further": ("and, what came later, to", "names"),
    "aside_objects": ("objects aside", "count"),
    "compared": ("objects compared", "count"),
    "settings_refused": ("settings that were not taken", "names"),
    "roles_refused": ("roles that are not as they were", "names"),
    "bytes_read_back": ("read back", "bytes"),
    "fetched_bytes": ("fetched", "bytes"),
    "loaded_bytes": ("loaded", "bytes"),
    "tables_compared": ("tables compared", "count"),
    "rows_compared": ("rows compared", "count"),
    "bytes_read": ("bytes read", "bytes"),
    "findings_total": ("findings", "count"),
}

job_document: Final = listing.job_document


def exit_code(job: Job) -> int:
    """Return the exit code for the end of a job; one that has not ended is ``75``."""
    if not job.ended:
        return errors.TransientError.exit_code
    if job.state == "succeeded":
        doubtful = job.result.get("suspect") or job.result.get("after_swap_failed")
        return max(SUSPECT if doubtful else DONE, _code_of_point(job))
    known = errors.error_class(str((job.error or {}).get("type")))
    if known is not None:
        return known.exit_code
    return REFUSED if job.state == "refused" else FAILED


def _code_of_point(job: Job) -> int:
    """Return the exit code for what the members of a recovery point are; 0 for anything else.

    Their own jobs have succeeded, also where a backup is suspect.
    """
    state = job.result.get("state")
    if job.kind != "point" or state is None or state in GOOD_LABELS:
        return DONE
    return DAMAGED if state in {MISSING, UNREADABLE, State.DAMAGED.label} else SUSPECT


def worst_code(codes: Iterable[int]) -> int:
    """Return the most alarming of several exit codes."""
    return max(codes, key=_SEVERITY.index, default=DONE)


def job_tables(job: Job, *, zone: tzinfo) -> Iterator[RenderableType]:
    """Yield what is shown of a job that ended: its facts, then decisions or findings."""
    if job.kind == "prune":
        yield from _prune(job)
        return
    if job.kind == "sweep":
        yield from _sweep(job)
        return
    yield output.facts(_facts(job, zone), title=work_of(job))
    findings = job.result.get("findings")
    if findings:
        rows = [(one["kind"], one["path"], one["detail"]) for one in findings]
        yield output.table(("finding", "where", "what"), rows, below=2)
    known = job.result.get("findings_known")
    if known:
        rows = [(one["kind"], one["path"], one["detail"]) for one in known]
        yield output.table(("found before, still there", "where", "what"), rows, below=2)
    members = job.result.get("members")
    if members:
        rows = [(one["target"], one["backup"], one["state"]) for one in members]
        yield output.table(("member", "backup", "state"), rows)
    if job.kind in {"restore_all", "undo_all"}:
        yield from _parts(job)
    yield from _coverage(job)
    lacking = job.result.get("not_restorable")
    if lacking:
        rows = [(one["target"], one["backup"], one["needs"]) for one in lacking]
        yield output.table(("not restorable here", "backup", "needs"), rows)
    unseen = int(job.result.get("findings_total") or 0) - len(findings or ())
    if unseen > 0:
        yield Text(f"and {output.number(unseen)} more")


def _parts(job: Job) -> Iterator[RenderableType]:
    """Yield what became of each database and bucket, and what people have to do now."""
    parts = {**job.result.get("databases", {}), **job.result.get("buckets", {})}
    rows = [(target, one.get("into") or "", _became(one)) for target, one in parts.items()]
    if rows:
        yield output.table(("target", "lies in", "what was done"), rows, below=1)
    if job.result.get("check"):
        yield _compared(job.result["check"])
    listed = [one["added_list"] for one in parts.values() if "added_list" in one]
    if listed:
        yield Text(f"the keys that were missing are listed in {', '.join(listed)}")
    if "warning" in job.result:
        yield Text(f"before the application runs again: {job.result['warning']}", style="yellow")


def _compared(check: dict[str, int]) -> Text:
    """Return what the comparison of rows and objects came to."""
    faults = {name: count for name, count in check.items() if count and name not in _NO_FAULTS}
    rows = f"{counted(check['references'], 'row')} compared with their objects"
    if not faults:
        return Text(f"{rows}: all are as they say", style="green")
    told = ", ".join(f"{name} {output.number(count)}" for name, count in faults.items())
    return Text(f"{rows}; not as they say: {told}", style="yellow")


def _became(part: dict[str, Any]) -> str:
    numbers = (
        ("added", "{} added"),
        ("written", "{} put back"),
        ("retagged", "{} given back their tags"),
        ("extra", "{} newer left"),
        ("tags_not_kept", "{} without tags, which are not kept there"),
    )
    said = [words.format(output.number(part[name])) for name, words in numbers if part.get(name)]
    if "settings_refused" in part:
        said.append(f"settings that were not taken: {', '.join(part['settings_refused'])}")
    if "roles_refused" in part:
        said.append(f"roles that are not as they were: {', '.join(part['roles_refused'])}")
    if "replaced" in part:
        said.append(f"what was there is kept as {part['replaced']}")
    if "aside" in part:
        said.append(f"what was overwritten lies in {part['aside']}")
    return "; ".join(said)


def _coverage(job: Job) -> Iterator[RenderableType]:
    """Yield what a verification could not vouch for."""
    uncovered = int(job.result.get("not_covered_total") or 0)
    if uncovered:
        first = job.result["not_covered"][0]
        yield Text(
            f"not covered: {counted(uncovered, 'file')} that no signed document names, "
            f"first {first}; `pgben sweep --dry-run` tells what they are",
            style="yellow",
        )
    if job.result.get("newest_known") is False:
        yield Text(
            "without the catalog it is not known whether the newest documents were cut off",
            style="yellow",
        )


def work_of(job: Job) -> str:
    """Return what a job does, for people."""
    return f"{_KIND_WORDS.get(job.kind, job.kind)} of {subject(job.target)}"


def subject(target: str) -> str:
    """Return a job's target in words."""
    return "everything" if target == EVERYTHING else target


def short_id(job: Job) -> str:
    """Return the beginning of a job's id, which is enough to name it."""
    return str(job.id)[:8]


def _facts(job: Job, zone: tzinfo) -> Iterator[tuple[str, output.Cell]]:
    yield "job", str(job.id)
    yield "state", output.state(_state(job))
    result = listing.true_result(job)
    for key, (name, kind) in _RESULT_WORDS.items():
        value = result.get(key)
        if value not in (None, "", []):
            in_part = key == "into" and job.state != "succeeded" and "database" not in result
            yield "restored in part into" if in_part else name, _shown(value, kind, zone)
    gone = (job.result.get("prune") or {}).get("expired")
    if gone:
        yield "expired", ", ".join(gone)
    if (job.result.get("prune") or {}).get("refused"):
        yield "pruning", Text(f"refused: {job.result['prune']['refused']}", style="yellow")
    if job.ended_at is not None:
        yield "took", output.duration(listing.time_taken(job))


def _state(job: Job) -> str:
    return str(job.result.get("state", job.state)) if job.state == "succeeded" else job.state


def _shown(value: Any, kind: str, zone: tzinfo) -> output.Cell:
    ways: dict[str, Callable[[Any], output.Cell]] = {
        "bytes": lambda size: output.size(int(size)),
        "count": lambda count: output.number(int(count)),
        "names": ", ".join,
        "hold": lambda hold: output.hold(Hold.from_json(hold), zone),
        "flag": lambda flag: "yes" if flag else "no",
        "moment": lambda at: output.moment(datetime.fromisoformat(str(at)), zone),
    }
    return ways.get(kind, str)(value)


def _prune(job: Job) -> Iterator[RenderableType]:
    done = job.result.get("prune") or {}
    rows = [
        (one["backup"], output.state(one["decision"]), one["reasons"])
        for one in done.get("decisions", ())
    ]
    dry = bool(job.request.get("dry_run"))
    title = f"{'plan for' if dry else 'retention of'} {job.target}"
    if rows:
        yield output.table(("backup", "decision", "reasons"), rows, title=title)
    if job.state != "succeeded":
        return
    names = done.get("would_expire") if dry else done.get("expired")
    verb = "would be removed" if dry else "removed"
    of = counted(len(rows), "backup")
    yield Text(f"{job.target}: {output.number(len(names or ()))} of {of} {verb}")
    if done.get("points"):
        yield Text(f"recovery points that {verb if dry else 'were removed'}: {len(done['points'])}")
    if done.get("refused"):
        yield Text(f"pruning is refused: {done['refused']}", style="yellow")


def _sweep(job: Job) -> Iterator[RenderableType]:
    done = job.result.get("sweep") or {}
    rows = [
        (one["kind"], output.state(one["decision"]), one["path"], one["reasons"])
        for one in done.get("decisions", ())
    ]
    dry = bool(job.request.get("dry_run"))
    if rows:
        title = f"{'what lies about in' if dry else 'sweep of'} {job.target}"
        columns = ("what", "decision", "where", "reasons")
        yield output.table(columns, rows, title=title, below=2)
    if job.state != "succeeded":
        return
    count = counted(done["would_remove"] if dry else done["removed"], "file")
    verb = "would be removed" if dry else "removed"
    kept = f", {output.number(done['kept'])} kept" if done["kept"] else ""
    yield Text(f"{job.target}: {count} left over ({output.size(done['bytes'])}) {verb}{kept}")
    if done["skipped"]:
        yield Text(f"nothing is swept now: {done['skipped']}", style="yellow")


def jobs_table(
    jobs: Sequence[Job],
    zone: tzinfo,
    *,
    wide: bool,
    swaps: Mapping[UUID, SwapState] | None = None,
) -> RenderableType:
    """Return the table of `pgben jobs`; ``swaps`` has what became of the swaps of jobs."""
    known = swaps or {}
    if not wide:
        brief = [
            (
                short_id(job),
                output.state(job.state),
                output.minute(job.created_at, zone),
                work_of(job),
                "; ".join(_brief(job, known.get(job.id))),
            )
            for job in jobs
        ]
        return output.table(("job", "state", "asked", "what", "outcome"), brief, below=2)
    rows = [
        (
            short_id(job),
            job.kind,
            subject(job.target),
            output.state(job.state),
            "" if job.ended else _step(job),
            output.moment(job.created_at, zone),
            output.duration(listing.time_taken(job)),
            job.requested_by,
            _outcome(job, known.get(job.id)),
        )
        for job in jobs
    ]
    columns = ("job", "kind", "target", "state", "step", "asked", "took", "by", "outcome")
    return output.table(columns, rows, right="took")


def _brief(job: Job, swap: SwapState | None) -> Iterator[str]:
    if not job.ended and job.step:
        yield f"step {_step(job)}"
    took = listing.time_taken(job)
    if took is not None:
        yield f"took {output.duration(took)}"
    said = _outcome(job, swap)
    if said:
        yield said


def _outcome(job: Job, swap: SwapState | None) -> str:
    """Return how a job ended: its error, what a restore did, or the backup."""
    done = listing.restored(job, swap)
    if job.kind == "restore_all" and job.state == "succeeded":
        way = "in place" if job.request.get("in_place") else "beside"
        return f"{'undone' if swap == 'undone' else way}, {job.result['point']}"
    if job.error:
        return output.as_typed(str(job.error.get("sentence", "")))
    if done is None:
        return job.backup or ""
    return done["how"] if done["how"] != "beside" else f"beside → {done['into']}"


def _step(job: Job) -> str:
    return (job.step or "").rpartition(".")[2]


def step_table(steps: Sequence[StepRun], zone: tzinfo) -> RenderableType:
    """Return the table of a job's steps."""
    rows = [
        (
            step.name.rpartition(".")[2],
            output.number(step.attempt),
            output.state(step.state),
            output.moment(step.started_at, zone),
            output.duration(step.seconds),
            step.node,
        )
        for step in steps
    ]
    return output.table(
        ("step", "attempt", "state", "began", "took", "node"), rows, right="attempt, took"
    )
