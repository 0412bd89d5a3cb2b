"""What a statement's reasons say of a hold, which decision counts, and when a hold has ended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.contracts import BackupAllRequest, BackupRequest, HoldRequest, Request
from pgben_tasks.domain.documents import Verification
from pgben_tasks.domain.holds import (
    LONGEST,
    Hold,
    check_end,
    current_hold,
    hold_in,
    in_force,
    joined,
    longest,
    reasons_of_hold,
    reasons_of_release,
    says_as_much,
    shortest,
)
from pgben_tasks.domain.statements import in_order, next_link
from pgben_tasks.domain.states import KnownBackup, state_of
from pgben_tasks.errors import RequestRefused
from tests.support import samples

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
FORTNIGHT = Hold(until=NOW + 14 * DAY, label="release-42", who="ana@host")
TARGET = "postgres/pgben"
BACKUP = "20261123T050000Z-1f0c9a"

printable = st.text(
    st.characters(categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=60
).filter(str.isprintable)
holds = st.builds(
    Hold,
    until=st.none()
    | st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)).map(  # noqa: DTZ001 - made aware
        lambda at: at.replace(microsecond=0, tzinfo=UTC)
    ),
    label=st.none() | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/+@-]{0,99}", fullmatch=True),
    who=printable,
)


@given(holds, st.none() | printable)
def test_what_is_written_into_reasons_is_read_back(hold: Hold, reason: str | None) -> None:
    assert hold_in(reasons_of_hold(hold, reason)) == hold


@given(st.lists(st.text() | st.sampled_from(["until ", "label x", "held by ", "until 2026"])))
def test_any_reasons_are_a_hold(reasons: list[str]) -> None:
    found = hold_in(reasons)
    assert found.until is None or found.until.tzinfo is not None
    assert isinstance(found.phrase, str)
    assert Hold.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    "reasons",
    [
        (),
        ("never remove this",),
        ("held by ana", "until 2026-13-45T00:00:00Z"),
        ("held by ana", "until tomorrow"),
        ("held by ana", "until 2026-12-15T00:00:00+03:00"),
        ("held by ana", "until 2026-12-15T00:00:00Z", "until 2026-12-16T00:00:00Z"),
    ],
)
def test_a_hold_whose_end_cannot_be_read_has_none(reasons: tuple[str, ...]) -> None:
    assert hold_in(reasons).until is None
    assert hold_in(reasons).holds_at(NOW + 10_000 * DAY)


def test_the_reason_that_somebody_typed_is_never_read_as_an_end_or_a_label() -> None:
    reasons = reasons_of_hold(Hold(who="ana"), "until 2026-12-15T00:00:00Z")
    assert hold_in(reasons) == Hold(who="ana")
    reasons = reasons_of_hold(FORTNIGHT, "label release-43")
    assert hold_in(reasons) == FORTNIGHT


def test_a_hold_ends_at_its_very_end_and_holds_again_when_the_clock_goes_back() -> None:
    end = NOW + 14 * DAY
    assert FORTNIGHT.holds_at(end - timedelta(microseconds=1))
    assert not FORTNIGHT.holds_at(end)
    assert in_force(FORTNIGHT, end) is None
    assert in_force(FORTNIGHT, NOW) is FORTNIGHT


def statements(*decided: tuple[str, tuple[str, ...]]) -> list[Verification]:
    """Return a chain of decisions, one after the other, all of the same second."""
    made: list[Verification] = []
    for number, (kind, reasons) in enumerate(decided):
        link = next_link(made)._asdict()
        made.append(
            samples.verification(
                kind=kind, reasons=reasons, at=NOW, id=f"20261201T120000Z-{99 - number:06x}", **link
            )
        )
    return made


HELD = ("hold", reasons_of_hold(FORTNIGHT, "before the release"))
RELEASED = ("release", reasons_of_release("ana@host", None))
OF_BEFORE = ("hold", ("kept for the court",))


@pytest.mark.parametrize(
    ("decided", "expected"),
    [
        ((), None),
        ((HELD,), FORTNIGHT),
        ((OF_BEFORE,), Hold()),
        ((HELD, RELEASED), None),
        ((OF_BEFORE, RELEASED), None),
        ((HELD, RELEASED, OF_BEFORE), Hold()),
        ((RELEASED, HELD), FORTNIGHT),
    ],
)
def test_the_last_decision_of_the_chain_counts(
    decided: tuple[tuple[str, tuple[str, ...]], ...], expected: Hold | None
) -> None:
    made = statements(*decided)
    assert current_hold(in_order(reversed(made))) == expected
    manifest = samples.manifest()
    assert state_of(manifest, made).hold == expected
    assert KnownBackup.from_manifest(manifest, made).standing.hold == expected


def test_a_hold_says_nothing_of_the_bytes_and_a_release_neither() -> None:
    manifest = samples.manifest()
    assert state_of(manifest, statements(HELD)).state == state_of(manifest, []).state
    assert state_of(manifest, statements(HELD, RELEASED)).state == state_of(manifest, []).state


def test_nobody_makes_a_hold_shorter() -> None:
    shorter = Hold(until=NOW + DAY, label="release-43", who="bia")
    assert joined(None, shorter) == shorter
    assert joined(FORTNIGHT, shorter) == Hold(until=FORTNIGHT.until, label="release-43", who="bia")
    assert joined(Hold(), shorter) == Hold(until=None, label="release-43", who="bia")
    longer = Hold(until=NOW + 30 * DAY, who="bia")
    assert joined(FORTNIGHT, longer) == Hold(until=longer.until, label="release-42", who="bia")


def test_what_says_as_much_is_not_said_twice() -> None:
    shorter = Hold(until=NOW + DAY, who="bia")
    assert says_as_much(FORTNIGHT, shorter)
    assert says_as_much(Hold(), shorter)
    assert not says_as_much(None, shorter)
    assert not says_as_much(shorter, FORTNIGHT)
    assert not says_as_much(FORTNIGHT, Hold(until=NOW + DAY, label="release-43"))


def test_holds_are_compared_by_their_end() -> None:
    assert longest([None, FORTNIGHT, Hold()]) == Hold()
    assert shortest([None, FORTNIGHT, Hold()]) == FORTNIGHT
    assert longest([None]) is shortest([]) is None


def test_an_end_is_rounded_up_to_a_second_and_must_be_to_come() -> None:
    there = datetime(2026, 12, 15, 0, 0, 0, 1, tzinfo=timezone(timedelta(hours=-3)))
    assert check_end(there, NOW) == datetime(2026, 12, 15, 3, 0, 1, tzinfo=UTC)
    assert check_end(NOW + LONGEST, NOW) == NOW + LONGEST
    asked = NOW + timedelta(seconds=0.4)
    later = NOW + timedelta(seconds=0.6)
    assert check_end(asked + LONGEST, later) == NOW + LONGEST + timedelta(seconds=1)
    with pytest.raises(RequestRefused, match="which is past"):
        check_end(NOW, NOW)
    with pytest.raises(RequestRefused, match="more than 3653 days from now"):
        check_end(NOW + LONGEST + timedelta(seconds=2), NOW)


def test_a_hold_is_told_in_words() -> None:
    assert FORTNIGHT.phrase == "held by ana@host until 2026-12-15T12:00:00Z for release-42"
    assert Hold().phrase == "held until it is released"
    assert "," not in Hold(who="Ana, DTI", label="audit").phrase


# --- requests


def refused(model: type[Request], data: dict[str, Any]) -> str:
    with pytest.raises(RequestRefused) as caught:
        model.parse({"requested_by": "shop", **data})
    return caught.value.sentence


def test_a_backup_without_a_hold_is_asked_for_as_ever() -> None:
    for model, fields in ((BackupRequest, {"target": TARGET}), (BackupAllRequest, {})):
        sent = model.parse(fields).model_dump(mode="json")
        assert set(sent) <= {"requested_by", "idempotency_key", "target", "scheduled"}


@pytest.mark.parametrize("text", ["14d", "P14D", "2w", 14 * 86400])
def test_lengths_of_time_are_read_as_people_and_programs_write_them(text: object) -> None:
    asked = BackupRequest.parse({"target": TARGET, "hold_for": text, "label": "release-42"})
    assert asked.hold_for == 14 * DAY
    assert BackupRequest.parse(asked.model_dump(mode="json")) == asked


def test_requests_that_cannot_be_meant_are_refused() -> None:
    of_backup = {"target": TARGET}
    assert "need `hold_for`" in refused(BackupRequest, {**of_backup, "label": "x"})
    assert "no `scheduled` backup" in refused(
        BackupRequest, {**of_backup, "hold_for": "14d", "scheduled": True}
    )
    assert "duration like" in refused(BackupRequest, {**of_backup, "hold_for": "soon"})
    assert "a length of time" in refused(BackupRequest, {**of_backup, "hold_for": "Pxx"})
    assert "at most" in refused(BackupRequest, {**of_backup, "hold_for": "4000d"})
    assert "label has" in refused(
        BackupRequest, {**of_backup, "hold_for": "1d", "label": "João da Silva"}
    )
    held = {**of_backup, "backup": BACKUP, "reason": "x"}
    assert "one end" in refused(HoldRequest, held)
    assert "one end" in refused(HoldRequest, {**held, "keep_for": "1d", "until": NOW.isoformat()})
    assert "none of" in refused(HoldRequest, {**held, "release": True, "keep_for": "1d"})
    assert "`reason` is missing" in refused(HoldRequest, {**of_backup, "backup": BACKUP})
    assert HoldRequest.parse({**held, "release": True}).release
