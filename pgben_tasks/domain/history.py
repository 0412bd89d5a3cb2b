"""The history for people: which line each end of a job makes, and what files of lines have. Pure.

Two forms of one line: a record of `backup-history.csv` and a line of `backup-log.txt`. The first
four columns and the form of moments are those of the scripts before pgben. What people or servers
wrote is one line here, without secrets and without what a request says of people, and no program
for tables takes it for a formula.
"""

from __future__ import annotations

import csv
import io
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final
from uuid import UUID

from pgben_tasks.domain.alarm import one_line
from pgben_tasks.domain.job import EVERYTHING
from pgben_tasks.domain.listing import impersonal, moment_text
from pgben_tasks.domain.target import TargetKind
from pgben_tasks.language import counted

#: The columns of the scripts before pgben, which readers know by their place.
OLD_COLUMNS: Final = ("timestamp", "status", "filename", "size")
COLUMNS: Final = (
    *OLD_COLUMNS,
    *("kind", "target", "backup", "job", "attempt", "seconds", "requested_by", "detail"),
)
HEADER: Final = ",".join(COLUMNS)
#: How moments are written, in the time zone of the schedules.
_LOCAL: Final = "%Y-%m-%d %H:%M:%S"
_MOMENT: Final = re.compile(r"\[?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\b")
#: What a program for tables takes for a formula where a cell begins so; the wide forms, too. Some
#: take a semicolon for the end of a cell.
_FORMULA: Final = re.compile(r"(^|;)(\s*)(?=[=+\-@＝＋－＠])")  # noqa: RUF001 - the wide forms are meant
#: The words of kinds whose name is a verb or an abbreviation.
_WORK: Final[Mapping[str, str]] = {
    "acknowledge": "acknowledgement",
    "point": "recovery point",
    "restore_all": "restore",
    "undo_all": "undo",
    "verify": "verification",
}
#: Kinds that happen by themselves every day and are no news while they do nothing.
_QUIET: Final = frozenset({"sweep"})
#: How the result of a job is told, in this order.
_FACTS: Final[tuple[tuple[str, Callable[[Any], str]], ...]] = (
    ("level", lambda value: f"level {value}"),
    ("point", lambda value: f"recovery point {value}"),
    ("into", lambda value: f"into {value}"),
    ("replaced", lambda value: f"what was there is kept as {value}"),
    ("backups", lambda value: counted(int(value), "backup")),
    ("rows", lambda value: counted(int(value), "row")),
    ("objects", lambda value: counted(int(value), "object")),
    ("rows_compared", lambda value: f"{counted(int(value), 'row')} compared"),
    ("written", lambda value: f"{counted(int(value), 'object')} written"),
    ("deleted", lambda value: f"{counted(int(value), 'object')} deleted"),
    ("findings_total", lambda value: counted(int(value), "finding")),
    ("acknowledged", lambda value: f"acknowledged {value}"),
    ("keys_acknowledged", lambda value: f"{counted(int(value), 'key')} acknowledged"),
    ("suspect", lambda value: f"suspect: {value}"),
    ("after_swap_failed", lambda value: f"after the swap: {value}"),
)
#: What counts as the size of what a job wrote or read, the first that its result has.
_SIZES: Final = ("stored_bytes", "loaded_bytes", "bytes_read", "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end of one attempt of a job, as the ledger noted it.

    ``state`` is the job's then, or ``lost`` for an attempt whose worker was lost. ``attempt`` is 0
    where no worker had claimed the job. ``result`` is empty unless the job succeeded.
    """

    number: int
    at: datetime
    began_at: datetime | None
    job: UUID
    kind: str
    target: str
    state: str
    attempt: int
    backup: str | None
    requested_by: str
    request: Mapping[str, Any]
    result: Mapping[str, Any]
    error: Mapping[str, Any] | None
    retry_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What the history says of one end. ``size`` is in bytes; texts are single lines."""

    number: int
    at: datetime
    #: The moment in the time zone of the schedules.
    timestamp: str
    status: str
    filename: str
    size: int
    kind: str
    target: str
    backup: str
    job: str
    attempt: int
    seconds: float | None
    requested_by: str
    detail: str
    #: The sentence of the error alone, which ``detail`` has, too.
    error: str = ""

    @property
    def work(self) -> str:
        """What was done, as a noun."""
        return _WORK.get(self.kind, self.kind)

    @property
    def record(self) -> str:
        """The line of the table, without its end."""
        seconds = "" if self.seconds is None else f"{self.seconds:.1f}"
        cells = [getattr(self, name) for name in COLUMNS]
        cells[COLUMNS.index("seconds")] = seconds
        return _record([one if isinstance(one, int) else _no_formula(one) for one in cells])

    @property
    def sentence(self) -> str:
        """The line of the log, without its end."""
        about = "everything" if self.target == EVERYTHING else f"'{self.target}'"
        took = "" if self.seconds is None else f" in {self.seconds:.0f} s"
        numbers = f"{self.size} bytes{took}" if self.size else ""
        detail = ", ".join(filter(None, (self.detail, numbers)))
        again = f", attempt {self.attempt}" if self.attempt > 1 else ""
        return (
            f"[{self.timestamp}] {self.work} of {about} {self.status}"
            f"{detail and f': {detail}'} (job {self.job[:8]}{again})"
        )

    @property
    def document(self) -> dict[str, Any]:
        """The line as JSON; its moment is in UTC."""
        said = {name: getattr(self, name) for name in COLUMNS}
        return {**said, "timestamp": moment_text(self.at), "backup": self.backup or None}


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderNote:
    """How far the files of a folder are written, and whether they are to be written anew."""

    number: int
    rewrite: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A folder that a node cannot write, and since when."""

    node: str
    path: str
    why: str
    since: datetime


def line_of(end: End, zone: tzinfo) -> Line | None:
    """Return the line that an end makes; None for work that nobody asked for and that did nothing.

    Everything that people asked for has a line, and so has whatever did not succeed.
    """
    by_itself = end.kind in _QUIET and end.requested_by == "schedule"
    if by_itself and end.state == "succeeded" and not _removed(end.result):
        return None
    succeeded = end.state == "succeeded"
    shown = impersonal({"result": end.result, "error": dict(end.error or {})}, end.request)
    result = shown["result"]
    size = next((int(result[name]) for name in _SIZES if result.get(name)), 0) if succeeded else 0
    seconds = None if end.began_at is None else max((end.at - end.began_at).total_seconds(), 0)
    backup = one_line(end.backup or "")
    return Line(
        number=end.number,
        at=end.at,
        timestamp=end.at.astimezone(zone).strftime(_LOCAL),
        status=one_line(result.get("state", end.state)) if succeeded else end.state,
        filename=f"{one_line(end.target)}/{backup or end.job}",
        size=size,
        kind=end.kind,
        target=one_line(end.target),
        backup=backup,
        job=str(end.job),
        attempt=end.attempt,
        seconds=None if seconds is None else round(seconds, 1),
        requested_by=one_line(end.requested_by),
        detail=one_line(_detail(end, shown, zone)),
        error="" if succeeded else one_line(shown["error"].get("sentence", "")),
    )


def lines_of(
    ends: Iterable[End], zone: tzinfo, *, kind: TargetKind | None = None
) -> Iterator[Line]:
    """Yield the lines of several ends: those about a kind of target or everything, or all."""
    for end in ends:
        if kind is None or end.target == EVERYTHING or end.target.startswith(f"{kind}/"):
            line = line_of(end, zone)
            if line is not None:
                yield line


def _detail(end: End, shown: Mapping[str, Any], zone: tzinfo) -> str:
    if end.state == "lost":
        return "its worker stopped sending heartbeats; the job began again"
    if end.state != "succeeded":
        again = "" if end.retry_at is None else end.retry_at.astimezone(zone).strftime(_LOCAL)
        said = str(shown["error"].get("sentence", ""))
        return "; ".join(filter(None, (said, again and f"tried again at {again}")))
    result = shown["result"]
    told = [words(result[name]) for name, words in _FACTS if result.get(name) not in (None, "", [])]
    return ", ".join((*told, *_retention(end, result)))


def _retention(end: End, result: Mapping[str, Any]) -> Iterator[str]:
    """Yield what pruning and sweeping did."""
    pruned, swept = result.get("prune") or {}, result.get("sweep") or {}
    if end.request.get("dry_run"):
        yield "only planned"
    elif pruned.get("refused"):
        yield f"pruning refused: {pruned['refused']}"
    elif pruned.get("expired") or end.kind == "prune":
        yield f"{counted(len(pruned.get('expired') or ()), 'backup')} expired"
    elif _removed(result):
        yield f"{counted(int(swept['removed']), 'file')} removed"


def _removed(result: Mapping[str, Any]) -> bool:
    return bool((result.get("sweep") or {}).get("removed"))


def _no_formula(text: str) -> str:
    return _FORMULA.sub(r"\1'\2", text)


def _record(cells: Sequence[object]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="").writerow(cells)
    return written.getvalue()


def whole_table(lines: Iterable[Line]) -> str:
    """Return the text of a table with these lines alone."""
    return "".join((f"{HEADER}\n", *(f"{line.record}\n" for line in lines)))


# What files have


_Key = tuple[str, str, int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One of the two files: what it is called, how it writes a line and finds one again.

    ``key`` and ``read`` give (moment, job, attempt, status): of a line, and of the text of one that
    was written from the ledger.
    """

    name: str
    header: str
    write: Callable[[Line], str]
    key: Callable[[Line], _Key]
    read: Callable[[str], _Key | None]
    #: Returns what finds the texts that the versions before this one wrote of these lines.
    told_before: Callable[[Sequence[Line]], Callable[[str], bool]]

    def is_header(self, text: str) -> bool:
        """Return whether a text names columns, of whichever version."""
        return bool(self.header) and text.lstrip("\ufeff").lower().startswith(OLD_COLUMNS[0])


def continued(
    form: Form, content: str, lines: Sequence[Line], *, elsewhere: Iterable[str] = ()
) -> str:
    """Return what a file has once ``lines`` follow its ``content``; those it has do not again.

    ``elsewhere`` are lines that lie in a file which was this one before somebody rotated it. A last
    line that was not written to its end is written anew, or ended where it is somebody else's.
    """
    body = _with_header(form, _ended(form, content, lines))
    there = Counter(map(form.read, (*body.splitlines(), *elsewhere)))
    new = []
    for line in lines:
        key = form.key(line)
        if there[key]:
            there[key] -= 1
        else:
            new.append(f"{form.write(line)}\n")
    return body + "".join(new)


def since_last(content: str, lines: Sequence[Line]) -> list[Line]:
    """Return the lines that are not from before the last moment in ``content``."""
    last = max((found for text in content.splitlines() if (found := _moment(text))), default="")
    return [line for line in lines if line.timestamp >= last]


def rewritten(form: Form, content: str, lines: Sequence[Line]) -> str:
    """Return what a file has when it is written anew with ``lines``, all that the ledger knows.

    Whatever else it has stays, where it belongs by its moment: lines from before this ledger, and
    those of other programs.
    """
    jobs = {form.key(line)[1] for line in lines}
    told_before = form.told_before(lines)
    kept: list[tuple[str, str]] = []
    at = ""
    for text in _ended(form, content, lines).split("\n")[:-1]:
        at = _moment(text) or at
        key = form.read(text)
        known = key[1] in jobs if key else told_before(text)
        if not known and not form.is_header(text):
            kept.append((at, text))
    texts = [form.header] if form.header else []
    left = iter(kept)
    following = next(left, None)
    for line in lines:
        while following is not None and following[0] <= line.timestamp:
            texts.append(following[1])
            following = next(left, None)
        texts.append(form.write(line))
    texts += [] if following is None else [following[1], *(text for _, text in left)]
    return "".join(f"{text}\n" for text in texts)


def _ended(form: Form, content: str, lines: Iterable[Line]) -> str:
    """Return the content with its last line whole, or without it where ``lines`` have it."""
    whole, newline, last = content.rpartition("\n")
    if not last:
        return content
    texts = (form.header, *map(form.write, lines))
    if any(text.startswith(last) for text in texts):
        return whole + newline
    # An open quote would take every line that follows into this cell.
    is_open = bool(form.header) and last.count('"') % 2
    return f'{content}"\n' if is_open else f"{content}\n"


def _with_header(form: Form, content: str) -> str:
    """Return the content with the names of all columns in its first line."""
    first, _, rest = content.partition("\n")
    if not form.header or first == form.header:
        return content
    return f"{form.header}\n{rest}" if form.is_header(first) else f"{form.header}\n{content}"


def _moment(text: str) -> str | None:
    found = _MOMENT.match(text)
    return found and found[1]


def _cells(text: str) -> list[str]:
    """Return the cells of a record, none where it is no record."""
    try:
        (cells,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        return []
    return cells


def _read_record(text: str) -> _Key | None:
    cells = dict(zip(COLUMNS, _cells(text), strict=False))
    attempt = cells.get("attempt", "")
    if not (attempt.isascii() and attempt.isdigit()):
        return None
    return cells["timestamp"], cells["job"], int(attempt), cells["status"]


def _records_told_before(lines: Sequence[Line]) -> Callable[[str], bool]:
    """Return what finds records of four cells about these backups."""
    names = {line.filename for line in lines if line.kind == "backup"}
    return lambda text: not names.isdisjoint(_cells(text)[2:3])


#: One of the log's lines, as ``Line.sentence`` writes it.
_SENTENCE: Final = re.compile(
    r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\] [^']*? of (?:'[^']*'|everything) (.+?)(?:: .*)?"
    r" \(job ([0-9a-f]{8})(?:, attempt (\d{1,9}))?\)"
)
_OLD_SENTENCE: Final = re.compile(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\] backup of '([^']*)' \w+.*")
#: How far the end of a job may be behind the line that a version before this one wrote of it.
_BEHIND: Final = timedelta(minutes=1)


def _read_sentence(text: str) -> _Key | None:
    found = _SENTENCE.fullmatch(text)
    if found is None:
        return None
    moment, status, job, attempt = found.groups()
    return moment, job, int(attempt or 1), status


def _sentence_key(line: Line) -> _Key:
    # The log does not tell the first attempt from none.
    return line.timestamp, line.job[:8], max(line.attempt, 1), line.status


def _sentences_told_before(lines: Sequence[Line]) -> Callable[[str], bool]:
    """Return what finds sentences of the versions before about these backups."""
    ends: dict[str, list[str]] = {}
    for line in lines:
        if line.kind == "backup":
            ends.setdefault(line.target, []).append(line.timestamp)
    for moments in ends.values():
        moments.sort()

    def told(text: str) -> bool:
        found = _OLD_SENTENCE.fullmatch(text)
        if found is None:
            return False
        moment, target = found.groups()
        moments = ends.get(target, [])
        following = moments[bisect_left(moments, moment) :][:1]
        return any(_local(end) - _local(moment) <= _BEHIND for end in following)

    return told


def _local(text: str) -> datetime:
    """Read a local moment; only how far two of them are apart counts."""
    return datetime.strptime(text, _LOCAL)  # noqa: DTZ007 - both are of the same zone


TABLE: Final = Form(
    name="backup-history.csv",
    header=HEADER,
    write=lambda line: line.record,
    key=lambda line: (line.timestamp, line.job, line.attempt, line.status),
    read=_read_record,
    told_before=_records_told_before,
)
LOG: Final = Form(
    name="backup-log.txt",
    header="",
    write=lambda line: line.sentence,
    key=_sentence_key,
    read=_read_sentence,
    told_before=_sentences_told_before,
)
FORMS: Final = (TABLE, LOG)
