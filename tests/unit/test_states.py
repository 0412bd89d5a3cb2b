"""Claims about the state that signed statements give a backup."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from hypothesis import given, strategies as st

from pgben_tasks.domain.documents import Finding, Manifest, TableCount, Verification
from pgben_tasks.domain.holds import Hold
from pgben_tasks.domain.plausibility import Measure
from pgben_tasks.domain.states import KnownBackup, State, state_at, state_of
from tests.support import samples

START = datetime(2026, 11, 23, 5, tzinfo=UTC)
BACKUP = "20261123T050000Z-1f0c9a"
DIGEST = "ab" * 32


def make_manifest(*, suspect: str | None = None) -> Manifest:
    return samples.manifest(
        backup=BACKUP,
        sequence=4,
        started=START,
        suspect=suspect,
        packs=(samples.pack(b"x" * 100, members=(samples.member("toc.dat", b"x" * 60),)),),
        postgres=samples.capture(
            snapshot_time=START + timedelta(seconds=2),
            tables=(
                TableCount(schema_name="public", table="citizen", rows=7),
                TableCount(schema_name="public", table="request", rows=5),
            ),
        ),
    )


MANIFEST = make_manifest()
FINDING = Finding(kind="damaged", path="packs/1.tar.age", detail="another digest")


def statement(
    kind: str,
    hour: int,
    *,
    findings: bool = False,
    opened: bool = False,
    packs_checked: int = 1,
    manifest: str | None = None,
    needs: str | None = None,
) -> Verification:
    moment = START + timedelta(hours=hour)
    return samples.verification(
        backup=BACKUP,
        id=f"{moment:%Y%m%dT%H%M%SZ}-000000",
        kind=kind,
        at=moment,
        opened=opened,
        packs_checked=packs_checked,
        manifest=manifest or hashlib.sha256(MANIFEST.encode()).hexdigest(),
        findings=(FINDING,) if findings else (),
        needs=needs,
    )


def test_a_backup_nobody_looked_at_is_unverified() -> None:
    standing = state_of(MANIFEST, [])
    assert standing.state is State.UNVERIFIED
    assert not standing.counts
    assert standing.last_verified is None


def test_a_clean_readback_verifies_and_shows_that_nothing_was_opened() -> None:
    standing = state_of(MANIFEST, [statement("readback", 1)])
    assert standing.state is State.VERIFIED_UNOPENED
    assert standing.state.label == "verified (unopened)"
    assert standing.counts
    assert standing.last_read == standing.last_verified == START + timedelta(hours=1)


def test_a_whole_backup_that_this_site_cannot_restore_does_not_count() -> None:
    lacking = statement("readback", 1, opened=True, needs="a PostgreSQL client of version 14 to 16")
    standing = state_of(MANIFEST, [lacking])
    assert standing.state is State.NOT_RESTORABLE
    assert standing.state.label == "not restorable here"
    assert standing.needs == "a PostgreSQL client of version 14 to 16"
    assert not standing.counts
    assert not standing.verified


def test_a_later_look_that_finds_a_fitting_client_makes_it_good() -> None:
    lacking = statement("readback", 1, opened=True, needs="a client")
    for kind in ("quick", "full"):
        standing = state_of(MANIFEST, [statement(kind, 2), lacking])
        assert standing.state is State.VERIFIED
        assert standing.counts


def test_damage_outweighs_a_missing_client_and_a_missing_client_damages_nothing() -> None:
    damaged = [statement("full", 1, findings=True), statement("quick", 2, needs="a client")]
    assert state_of(MANIFEST, damaged).state is State.DAMAGED
    healed = [*damaged, statement("full", 3, needs="a client")]
    assert state_of(MANIFEST, healed).state is State.NOT_RESTORABLE


def test_a_place_judges_by_what_it_lacks_itself_and_by_the_same_bytes() -> None:
    lacking = statement("readback", 1, opened=True, needs="a client")
    here = state_at(MANIFEST, [lacking], needs=None)
    assert (here.state, here.needs, here.counts) == (State.VERIFIED, None, True)
    good = statement("readback", 1, opened=True)
    elsewhere = state_at(MANIFEST, [good], needs="another client")
    assert (elsewhere.state, elsewhere.needs) == (State.NOT_RESTORABLE, "another client")
    for found in ([], [statement("full", 2, findings=True)]):
        assert state_at(MANIFEST, found, needs="a client") == state_of(MANIFEST, found)


def test_opening_a_pack_once_is_enough_to_be_verified() -> None:
    standing = state_of(MANIFEST, [statement("readback", 1, opened=True), statement("quick", 2)])
    assert standing.state is State.VERIFIED
    assert standing.state.label == "verified"


def test_a_quick_look_alone_proves_no_content() -> None:
    assert state_of(MANIFEST, [statement("quick", 1)]).state is State.UNVERIFIED


def test_a_quick_look_after_a_read_moves_only_the_verification_date() -> None:
    standing = state_of(MANIFEST, [statement("readback", 1), statement("quick", 9)])
    assert standing.last_verified == START + timedelta(hours=9)
    assert standing.last_read == START + timedelta(hours=1)


def test_a_later_finding_damages_a_verified_backup() -> None:
    standing = state_of(
        MANIFEST, [statement("quick", 3, findings=True), statement("readback", 1, opened=True)]
    )
    assert standing.state is State.DAMAGED
    assert not standing.counts
    assert standing.last_verified == START + timedelta(hours=1)


def test_neither_a_quick_look_nor_a_readback_nor_a_drill_heals() -> None:
    history = [statement("full", 1, findings=True)]
    history += [statement(kind, 2) for kind in ("quick", "readback", "drill")]
    assert state_of(MANIFEST, history).state is State.DAMAGED


def test_a_later_clean_full_verification_heals() -> None:
    standing = state_of(
        MANIFEST,
        [
            statement("readback", 1, opened=True),
            statement("full", 2, findings=True),
            statement("full", 3),
        ],
    )
    assert standing.state is State.VERIFIED_UNOPENED
    assert standing.last_read == START + timedelta(hours=3)


def test_a_statement_about_another_manifest_proves_nothing() -> None:
    assert state_of(MANIFEST, [statement("full", 1, manifest=DIGEST)]).state is State.UNVERIFIED


def test_a_statement_that_examined_nothing_proves_nothing() -> None:
    assert state_of(MANIFEST, [statement("full", 1, packs_checked=0)]).state is State.UNVERIFIED


def test_a_suspect_backup_does_not_count_until_it_is_acknowledged() -> None:
    manifest = make_manifest(suspect="rows shrank")
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    read = statement("readback", 1, manifest=digest)
    standing = state_of(manifest, [read])
    assert standing.verified
    assert standing.open_suspicion
    assert not standing.counts
    standing = state_of(manifest, [read, statement("acknowledgement", 2)])
    assert standing.suspect == "rows shrank"
    assert standing.acknowledged
    assert standing.counts


def test_a_hold_and_a_drill_are_remembered() -> None:
    standing = state_of(MANIFEST, [statement("drill", 1, opened=True), statement("hold", 2)])
    assert standing.hold == Hold()
    assert standing.hold_at(START + timedelta(days=9999)) == Hold()
    assert standing.drilled == START + timedelta(hours=1)
    assert standing.state is State.VERIFIED


def test_a_known_backup_is_read_from_its_manifest() -> None:
    known = KnownBackup.from_manifest(MANIFEST, [statement("readback", 1)])
    assert str(known.id) == BACKUP
    assert (known.sequence, known.started, known.bytes) == (4, START, 100)
    assert known.snapshot_time == START + timedelta(seconds=2)
    assert known.standing.counts
    assert Measure.from_manifest(MANIFEST) == (60, 12, 2)


statements = st.builds(
    statement,
    st.sampled_from(["readback", "quick", "full", "drill", "hold", "prune"]),
    st.integers(min_value=0, max_value=500),
    findings=st.booleans(),
    opened=st.booleans(),
)


@given(st.lists(statements, max_size=8, unique_by=lambda one: one.id))
def test_the_order_of_the_statements_does_not_matter(history: list[Verification]) -> None:
    assert state_of(MANIFEST, history) == state_of(MANIFEST, reversed(history))


@given(st.lists(statements, max_size=8, unique_by=lambda one: one.id))
def test_no_history_whose_last_word_is_a_finding_counts(history: list[Verification]) -> None:
    history.append(statement("quick", 501, findings=True))
    assert state_of(MANIFEST, history).state is State.DAMAGED
