"""The words of pages: names of phases, results and fields, and how values are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pgben_tasks.domain.alarm import Alarm
from pgben_tasks.domain.job import EVERYTHING, Job
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import ConfigurationError, PgbenError
from pgben_tasks.language import Language, age, translatable as _, translate_error
from pgben_tasks.operations.alarms.mail import WORK, Letterhead, headline, what_happened
from pgben_tasks.redaction import redact
from pgben_tasks.words import PlainWords

#: The languages in the order of the switch, by their own names.
LANGUAGES: Final[Mapping[Language, str]] = {"pt_BR": "Português", "en": "English"}

PHASES: Final[Mapping[str, str]] = {
    "preflight": _("preparing"),
    "count": _("counting rows"),
    "dump": _("dumping"),
    "list": _("listing objects"),
    "snapshot": _("listing objects"),
    "copy": _("copying"),
    "tags": _("reading tags"),
    "inventory": _("writing the inventory"),
    "checksum": _("computing checksums"),
    "upload": _("uploading"),
    "commit": _("committing"),
    "prune": _("applying retention"),
    "record": _("recording"),
    "read back": _("reading back"),
    "read": _("reading"),
    "look": _("looking at what is stored"),
    "examine": _("examining"),
    "select": _("selecting the backup"),
    "fetch": _("fetching"),
    "open": _("opening"),
    "load": _("loading"),
    "check": _("checking"),
    "analyse": _("analysing"),
    "swap": _("swapping"),
    "finish": _("finishing"),
    "undo": _("undoing"),
    "plan": _("comparing with what is there"),
    "add": _("adding what is missing"),
    "aside": _("copying aside"),
    "write": _("writing"),
    "compare": _("comparing"),
    "delete": _("deleting"),
    "databases": _("databases"),
    "buckets": _("buckets"),
    "objects": _("objects"),
    "join": _("joining"),
    "cross-check": _("comparing rows with objects"),
    "references": _("reading references"),
    "acknowledge": _("recording"),
    "hold": _("recording"),
    "sweep": _("sweeping"),
    "report": _("writing the report"),
}

UNITS: Final[Mapping[str, str]] = {
    "objects": _("objects"),
    "tables": _("tables"),
    "backups": _("backups"),
    "snapshots": _("snapshots"),
    "lines": _("lines"),
    "entries": _("entries"),
}

#: What of a job's result is shown: its words, and what kind of value it has. Reasons that people
#: typed, keys and prefixes are not among them.
RESULTS: Final[Mapping[str, tuple[str, str]]] = {
    "report": (_("Report"), ""),
    "colour": (_("Verdict"), "colour"),
    "not_mailed": (_("Not mailed"), ""),
    "backup": (_("Backup"), ""),
    "point": (_("Recovery point"), ""),
    "moment": (_("Data as of"), "moment"),
    "snapshot_time": (_("Data as of"), "moment"),
    "database": (_("Restored into"), ""),
    "into": (_("Restored into"), ""),
    "replaced": (_("What was there is kept as"), ""),
    "kept_until": (_("Kept until"), "moment"),
    "aside": (_("What was overwritten lies in"), ""),
    "after_swap_failed": (_("After the swap"), ""),
    "suspect": (_("Suspect"), ""),
    "hold": (_("Held"), "hold"),
    "level": (_("Level"), "choice"),
    "backups": (_("Backups"), "count"),
    "tables": (_("Tables"), "count"),
    "rows": (_("Rows"), "count"),
    "objects": (_("Objects"), "count"),
    "database_bytes": (_("Size of the database"), "bytes"),
    "bytes": (_("Bytes"), "bytes"),
    "stored_bytes": (_("Stored"), "bytes"),
    "new_bytes": (_("New in the repository"), "bytes"),
    "spool_bytes": (_("Held in the spool"), "bytes"),
    "bytes_read_back": (_("Read back"), "bytes"),
    "bytes_read": (_("Read"), "bytes"),
    "loaded_bytes": (_("Loaded"), "bytes"),
    "tables_compared": (_("Tables compared"), "count"),
    "rows_compared": (_("Rows compared"), "count"),
    "compared": (_("Objects compared"), "count"),
    "written": (_("Objects written"), "count"),
    "already_same": (_("Objects that were the same"), "count"),
    "findings_total": (_("Findings"), "count"),
}

#: The label of every field of a form, and what is said below it.
FIELDS: Final[Mapping[str, tuple[str, str]]] = {
    "target": (_("Target"), ""),
    "backup": (_("Backup"), ""),
    "point": (_("Recovery point"), ""),
    "job": (_("Job"), ""),
    "level": (
        _("Level"),
        _("quick looks at what is stored; full reads every byte again and opens what it can"),
    ),
    "into": (
        _("Into"),
        _("the name of the copy; empty: a name with date and time, removed after some days"),
    ),
    "into_bucket": (
        _("Into bucket"),
        _("empty: a new one whose name has date and time; it stays until somebody removes it"),
    ),
    "confirm": (
        _("Type each name once more to confirm"),
        _("what is there now is kept; a restore can be undone"),
    ),
    "allow_unverified": (
        _("Take it although nothing has verified it"),
        _("every digest is checked all the same"),
    ),
    "allow_damaged": (
        _("Take it although it is damaged"),
        _("what is whole of it is restored"),
    ),
    "roles": (
        _("Make all roles that the server had"),
        _("without passwords; else only the names that the database needs"),
    ),
    "settings": (_("Give the bucket the settings of the snapshot"), ""),
    "delete_extra": (
        _("Remove objects that the snapshot does not know"),
        _("they are copied aside first"),
    ),
    "prefix": (_("Only keys that begin with"), ""),
    "keys": (_("Only these keys"), _("one on each line")),
    "put_below": (_("Put before every key"), ""),
    "mail": (_("Send it by mail"), _("to those who get the alarms")),
    "keep_for": (_("Keep it for"), _("such as 14d, 12h or 1d12h")),
    "hold_for": (_("Keep it for"), _("such as 14d, 12h or 1d12h")),
    "until": (_("Until"), ""),
    "label": (
        _("Label"),
        _("what it is kept for, in one word; it stands in lists, so no personal data"),
    ),
    "reason": (
        _("Reason"),
        _("for whoever reads the signed statement later; do not write personal data"),
    ),
}

#: A field of a request as errors name it (``errors``), and the target that an obstacle is of.
_FIELD: Final = re.compile(r"`([a-z_]+)(?:=([^`]*))?`")
_QUOTED_TARGET: Final = re.compile(r"'(?:postgres|bucket)/[^']+'")

CHOICES: Final[Mapping[str, str]] = {
    "quick": _("quick"),
    "full": _("full"),
}


@dataclass(frozen=True, slots=True)
class Words(PlainWords):
    """Writes texts and values for one page."""

    def subject(self, subject: str) -> str:
        """Return what a night names as not good: a target, or a kind of job."""
        return self.work_of(subject, EVERYTHING) if subject in WORK else subject

    def work(self, job: Job) -> str:
        """Return what a job does."""
        return self.work_of(job.kind, job.target)

    def work_of(self, kind: str, target: str) -> str:
        """Return what a job of a kind does for a target."""
        return self(WORK[kind], target=self.target(target))

    def target(self, target: str) -> str:
        """Return a target, or that it is about everything; ``?`` where a request named none."""
        if target == EVERYTHING:
            return self("everything")
        try:
            return str(Target.parse(target))
        except ConfigurationError:
            # Of a malformed request the ledger keeps what was sent, whatever that was.
            return "?"

    def step(self, name: str | None) -> str:
        """Return what a step does; its own name where there are no words for it."""
        last = (name or "").rpartition(".")[2]
        return self(PHASES[last]) if last in PHASES else last

    def phase(self, phase: str) -> str:
        """Return a phase in words."""
        return self(PHASES[phase]) if phase in PHASES else phase

    def sentence(self, sentence: str, hint: str = "") -> tuple[str, str]:
        """Return what an error says, and its hint, in the page's language where it is known.

        Fields of requests have the labels that forms show.
        """
        found = translate_error(redact(sentence), redact(hint), self.language)
        return self._labelled(found[0]), self._labelled(found[1])

    def error(self, error: PgbenError) -> tuple[str, str]:
        """Return the sentence and the hint of an error."""
        return self.sentence(error.sentence, error.hint)

    def form_error(self, error: PgbenError) -> tuple[str, str]:
        """Return what is wrong with a form, its fields by the labels that it shows."""
        sentence = error.sentence.removeprefix("the request is malformed: ")
        # The hint of a malformed one says where services find the arguments of tasks.
        hint = error.hint if sentence == error.sentence else ""
        return self.sentence(sentence, hint)

    def _labelled(self, text: str) -> str:
        def label(found: re.Match[str]) -> str:
            name, value = found.groups()
            if name not in FIELDS:
                return found[0]
            label = self(FIELDS[name][0])
            return f"“{label}”" if value is None else f"“{label}”: {value}"

        return _FIELD.sub(label, text)

    def obstacle(self, text: str) -> str:
        """Return what stands in the way of a restore: of one target, where it begins with it."""
        target, colon, what = text.partition(": ")
        if colon and _QUOTED_TARGET.fullmatch(target):
            return f"{target}: {self.phrase(what)}"
        return self.phrase(text)

    def alarm(self, alarm: Alarm) -> tuple[str, str]:
        """Return the headline of an alarm, and what happened."""
        paper = Letterhead(language=self.language, zone=self.zone, node="", contacts=())
        return headline(alarm, paper), redact(what_happened(alarm, paper))

    def moment(self, at: datetime | str | None) -> str:
        """Write a moment in local time, to the minute; the page says of which zone."""
        try:
            found = datetime.fromisoformat(at) if isinstance(at, str) else at
        except ValueError:
            return str(at)
        return "–" if found is None else f"{found.astimezone(self.zone):%Y-%m-%d %H:%M}"

    def day(self, at: datetime | str | None) -> str:
        """Write the local day of a moment."""
        return self.moment(at)[:10]

    def age(self, at: datetime | str | None, now: datetime | None = None) -> str:
        """Write how long ago a moment was: ``3 h``, ``2 d 4 h``, ``5 min``."""
        found = datetime.fromisoformat(at) if isinstance(at, str) else at
        if found is None:
            return "–"
        return age((now or datetime.now(UTC)) - found)

    def progress(self, progress: Mapping[str, Any]) -> str:
        """Write how far a phase is: ``45 %, 68 MiB of 150 MiB, 12 MiB/s, 7 s left``."""
        unit = str(progress.get("unit") or "bytes")
        total, done = int(progress.get("total") or 0), int(progress.get("done") or 0)
        rate, left = int(progress.get("rate") or 0), progress.get("seconds_left")
        parts = []
        if total:
            parts.append(f"{min(done / total, 1):.0%}")
            parts.append(
                self(
                    _("{done} of {total}"),
                    done=self._amount(done, ""),
                    total=self._amount(total, unit),
                )
                if unit != "bytes"
                else self(_("{done} of {total}"), done=self.size(done), total=self.size(total))
            )
        elif done:
            parts.append(self._amount(done, unit))
        if rate and unit == "bytes":
            parts.append(f"{self.size(rate)}/s")
        if total and left:
            parts.append(self(_("{time} left"), time=self.duration(int(left))))
        return ", ".join(parts)

    def _amount(self, count: int, unit: str) -> str:
        if unit == "bytes":
            return self.size(count)
        word = self(UNITS[unit]) if unit in UNITS else unit
        return f"{self.number(count)} {word}".strip()

    def field(self, name: str) -> tuple[str, str]:
        """Return the label of a field of a form, and what is said below it."""
        label, help_ = FIELDS[name]
        return self(label), self(help_)

    def choice(self, choice: str) -> str:
        """Return a choice of a list."""
        return self(CHOICES[choice]) if choice in CHOICES else self.target(choice)

    def hold(self, hold: Mapping[str, Any]) -> str:
        """Write until when a backup is held, by whom and for what."""
        until = hold["until"]
        if until is None:
            told = self(_("until it is released"))
        else:
            told = self(_("until {moment}"), moment=self.moment(until))
        if hold["by"]:
            told = self(_("{until} by {who}"), until=told, who=hold["by"])
        return f"{told}, {hold['label']}" if hold["label"] else told

    def value(self, value: Any, kind: str) -> str:
        """Write a value of a result."""
        ways: dict[str, Callable[[Any], str]] = {
            "bytes": lambda size: self.size(int(size)),
            "count": lambda count: self.number(int(count)),
            "moment": lambda at: self.moment(str(at)),
            "choice": lambda choice: self.choice(str(choice)),
            "colour": lambda colour: self.state(str(colour)),
            "hold": self.hold,
        }
        return ways.get(kind, lambda said: self.phrase(str(said)))(value)
