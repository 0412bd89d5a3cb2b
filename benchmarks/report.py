"""The results of the rounds: tables, one JSON document, and whether bars hold."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.rounds import Measured, Spread, ratios

MEBIBYTE: Final = 1024**2


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A claim: ``subject`` takes at most ``most`` times as long as ``yardstick``."""

    subject: str
    yardstick: str
    most: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a bar holds: the median of the rounds' ratios decides."""

    bar: Bar
    ratio: Spread

    @property
    def holds(self) -> bool:
        """Whether the claim is true."""
        return self.ratio.median <= self.bar.most

    def sentence(self) -> str:
        """Return it as one line."""
        word = "holds" if self.holds else "is missed"
        ratio = self.ratio
        return (
            f"{word}: {self.bar.subject} took {ratio.median:.2f} × {self.bar.yardstick} "
            f"({ratio.least:.2f} to {ratio.most:.2f}); at most {self.bar.most:.2f} ×"
        )


@dataclass(frozen=True, kw_only=True)
class Part:
    """The results of one part of the benchmarks; ``title`` says on what it was measured."""

    title: str
    found: Mapping[str, Sequence[Measured]]
    judged: Sequence[Verdict]
    facts: Mapping[str, Any]


def verdicts(bars: Sequence[Bar], found: Mapping[str, Sequence[Measured]]) -> list[Verdict]:
    """Return for each bar whether what was measured meets it."""
    return [
        Verdict(bar=bar, ratio=ratios(found[bar.subject], found[bar.yardstick])) for bar in bars
    ]


def machine() -> dict[str, Any]:
    """Return what this machine is, without its name."""
    return {
        "processors": len(os.sched_getaffinity(0)),
        "model": _model(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def lines(part: Part) -> Iterator[str]:
    """Yield title and tables, line by line."""
    found = part.found
    yield part.title
    yield ""
    head = ("seconds", "least", "most", "processor s", "memory MiB", "stored MiB")
    yield f"{'median of the rounds':<32}" + "".join(f"{word:>13}" for word in head)
    for name, runs in found.items():
        wall = Spread.of_values([run.seconds for run in runs])
        figures = (
            *(f"{wall.median:.2f}", f"{wall.least:.2f}", f"{wall.most:.2f}"),
            f"{Spread.of_values([run.cpu for run in runs]).median:.2f}",
            f"{max(run.memory for run in runs) / MEBIBYTE:.0f}",
            f"{runs[-1].stored / MEBIBYTE:.0f}",
        )
        yield f"{name:<32}" + "".join(f"{figure:>13}" for figure in figures)
    yield ""
    for name, runs in found.items():
        if runs[0].parts:
            parts = (
                f"{part} {Spread.of_values([run.parts[part] for run in runs]).median:.2f} s"
                for part in runs[0].parts
            )
            yield f"{name}: {', '.join(parts)}"
    yield ""
    yield from (verdict.sentence() for verdict in part.judged)


def document(part: Part) -> dict[str, Any]:
    """Return everything as JSON values."""
    return {
        **part.facts,
        "runs": {name: [asdict(run) for run in runs] for name, runs in part.found.items()},
        "bars": [
            {**asdict(verdict.bar), **asdict(verdict.ratio), "holds": verdict.holds}
            for verdict in part.judged
        ],
    }


def _model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"
