"""What pages show, put together from what is known: the answers, the calendar, one job. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pgben_tasks.console.facts import JobFacts, Overview, Status
from pgben_tasks.console.words import RESULTS, Words
from pgben_tasks.domain.job import Job
from pgben_tasks.domain.listing import impersonal, time_taken, true_result
from pgben_tasks.domain.nights import Night
from pgben_tasks.words import CAN

_DAYS_OF_A_WEEK: Final = 7


def answers(status: Status, overview: Overview | None, words: Words) -> dict[str, Any]:
    """Return the three answers: can we restore, to when, and how fast; and of each target."""
    document = status.document
    if document is None:
        return {"colour": "red", "can": words(CAN["unknown"]), "known": False}
    verdict = document["restorable"]
    # What was true a while ago is no answer for today.
    colour = "unknown" if status.error is not None else verdict["colour"]
    targets = document["targets"]
    moments = [one["restorable_to"] for one in targets]
    took = overview.restored_everything_in if overview else None
    each = [one["last_restore_seconds"] for one in targets]
    point = document["point"]
    return {
        "known": True,
        "colour": "red" if colour == "unknown" else colour,
        "can": words(CAN[colour]),
        "to": min(moments) if moments and all(moments) else None,
        "point": point,
        "took": took.total_seconds() if took else sum(each) if each and all(each) else None,
        "measured_whole": took is not None,
        "restorable": _reasons(document["restorable"], words),
        "running": _reasons(document["running"], words),
        "running_colour": document["running"]["colour"],
        "targets": targets,
    }


def _reasons(verdict: dict[str, Any], words: Words) -> list[tuple[str, str, str]]:
    return [
        (one["colour"], words.phrase(one["text"]), words.phrase(one["hint"]) if one["hint"] else "")
        for one in verdict["reasons"]
    ]


def month(nights: Sequence[Night]) -> list[list[Night | None]]:
    """Return nights as the weeks of a calendar, from Monday to Sunday; None fills them up."""
    if not nights:
        return []
    cells: list[Night | None] = [None] * nights[0].day.weekday()
    cells += nights
    cells += [None] * (-len(cells) % _DAYS_OF_A_WEEK)
    return [cells[at : at + _DAYS_OF_A_WEEK] for at in range(0, len(cells), _DAYS_OF_A_WEEK)]


def job_page(found: JobFacts, words: Words) -> dict[str, Any]:
    """Return what the page of a job shows."""
    job = found.job
    # A key or a prefix of the request may stand in it.
    said = impersonal({"error": job.error or {}}, job.request)["error"]
    error = words.sentence(said["sentence"], said.get("hint", "")) if said else None
    return {
        "job": job,
        "steps": found.steps,
        "swap": found.swap,
        "replaced": found.replaced,
        "error": error,
        "facts": _facts(job, words),
        "progress": progress_of(job),
        "waits": _waits(found, words),
        "took": time_taken(job),
    }


def _facts(job: Job, words: Words) -> list[tuple[str, str]]:
    seen: dict[str, str] = {}
    result = impersonal(true_result(job), job.request)
    for name, (label, kind) in RESULTS.items():
        value = result.get(name)
        if value not in (None, "", []) and not isinstance(value, dict | list):
            seen.setdefault(words(label), words.value(value, kind))
    parts = {**result.get("databases", {}), **result.get("buckets", {})}
    for target, part in parts.items():
        # Of a recovery point it is the backup that is a member.
        lies = part.get("into") if isinstance(part, dict) else part
        if lies:
            seen[target] = str(lies)
    return list(seen.items())


def progress_of(job: Job) -> dict[str, Any] | None:
    """Return how far the running step is; None when nothing runs."""
    if job.state != "running" or not job.progress:
        return None
    total, done = job.progress.get("total"), int(job.progress.get("done") or 0)
    share = min(done / int(total), 1.0) if total else None
    return {**job.progress, "share": share}


def _waits(found: JobFacts, words: Words) -> str | None:
    """Return what a step waits for, where it says so."""
    last = found.steps[-1] if found.steps else None
    if found.job.state != "waiting" or last is None or last.state != "waiting":
        return None
    return words.phrase(str(last.result.get("waits", "")))
