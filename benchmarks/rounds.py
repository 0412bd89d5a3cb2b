"""Runs subjects in turn, so that a machine that slows down slows all of them, and compares them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run: wall and processor seconds, peak memory and stored size in bytes.

    ``parts`` are the seconds of what it consists of, where it has parts.
    """

    seconds: float
    cpu: float
    memory: int
    stored: int
    parts: Mapping[str, float] = field(default_factory=dict)


class Subject(Protocol):
    """Something that can be run and measured again and again."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    def run(self) -> Measured:
        """Run once."""
        ...


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median, smallest and largest of several figures."""

    median: float
    least: float
    most: float

    @classmethod
    def of_values(cls, values: Sequence[float]) -> Spread:
        """Return median, smallest and largest of ``values``."""
        return cls(median=statistics.median(values), least=min(values), most=max(values))


def run_rounds(
    subjects: Sequence[Subject],
    rounds: int,
    *,
    tell: Callable[[str], None],
    before: Callable[[], None] = lambda: None,
) -> dict[str, list[Measured]]:
    """Run every subject once unmeasured, then once per round; each round begins with another.

    ``before`` prepares what all subjects of a round meet, unmeasured.
    """
    found: dict[str, list[Measured]] = {subject.name: [] for subject in subjects}
    for number in range(rounds + 1):
        before()
        first = number % len(subjects)
        for subject in (*subjects[first:], *subjects[:first]):
            measured = subject.run()
            what = f"round {number}" if number else "warm-up"
            tell(f"{what}: {subject.name} {measured.seconds:.2f} s")
            if number:
                found[subject.name].append(measured)
    return found


def ratios(these: Sequence[Measured], those: Sequence[Measured]) -> Spread:
    """Return the ratios of the wall seconds of two subjects, round by round."""
    pairs = zip(these, those, strict=True)
    return Spread.of_values([one.seconds / other.seconds for one, other in pairs])
