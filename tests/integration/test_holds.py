"""Held backups: signed, listed, kept by retention until their end, and released."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from pgben_tasks.adapters.catalog.workers import Workers
from pgben_tasks.direct.place import DirectPlace
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.holds import Hold, hold_in
from pgben_tasks.domain.retention import Policy
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import (
    IntegrityError,
    PermanentError,
    PruneRefused,
    RequestMistaken,
    RequestRefused,
    SignatureInvalid,
    StoreUnavailable,
)
from pgben_tasks.operations.repository import prune
from pgben_tasks.operations.toolbox import NoProgress, Toolbox
from pgben_tasks.settings import Settings
from pgben_tasks.setup.catalog_rebuild import rebuild
from tests.support.archive import DAY, Archive
from tests.support.installation import Chain, Crash, Installation

NOW = datetime(2024, 11, 25, 12, 0, tzinfo=UTC)
REASON = "pedido da auditoria"
#: What retention keeps here: nothing but what somebody holds, or a job works on.
NOTHING = Policy(max_age=timedelta(0), floor=0, brake=Decimal(1))


def greedy(tools: Toolbox) -> Toolbox:
    """Return tools whose retention keeps nothing by itself."""
    return replace(tools, limits=replace(tools.limits, retention=NOTHING))


def hold(installation: Installation, backup: str, **fields: Any) -> dict[str, Any]:
    asked = {"backup": backup, "requested_by": "ana@host", "reason": REASON, **fields}
    return installation.chain("hold", **asked).rest().result


def indexed(installation: Installation, backup: str) -> Hold | None:
    found = installation.shop.work.index.backups(installation.target, expired=True)
    return {one.id: one.hold for one in found}[backup]


def reasons(tools: Toolbox, installation: Installation, backup: str) -> tuple[str, ...]:
    """Return why a prune at this moment would keep a backup; none when it would remove it."""
    decided = prune.decide(tools, installation.target).plan
    return {str(one.backup): one.reasons for one in decided.decisions}[backup]


def kinds(installation: Installation, manifest: Manifest) -> list[str]:
    said = installation.tools.repository.verifications(installation.target, manifest.backup_id)
    return [one.kind for one in said]


# --- by hand


def test_a_held_backup_is_signed_listed_and_kept(installation: Installation) -> None:
    first, second = installation.backups
    tools = greedy(installation.tools)
    assert reasons(tools, installation, first.backup) == ()
    until = datetime(2099, 12, 15, 3, 0, tzinfo=UTC) + timedelta(microseconds=1)
    with pytest.raises(RequestRefused, match="more than 3653 days"):
        hold(installation, first.backup, until=until.isoformat())
    result = hold(installation, first.backup, keep_for="90d", label="release-42")
    *_, said = installation.tools.repository.verifications(first.target_name, first.backup_id)
    held = hold_in(said.reasons)
    assert (said.kind, said.packs_checked, said.reasons[-1]) == ("hold", 0, f"reason {REASON}")
    assert (held.label, held.who) == ("release-42", "ana@host")
    assert held.until is not None
    assert timedelta(0) <= said.at + 90 * DAY - held.until + timedelta(seconds=1) < 0.1 * DAY
    assert result == {"backup": first.backup, "state": "verified", "hold": held.to_json()}
    assert indexed(installation, first.backup) == held
    assert reasons(tools, installation, first.backup) == (held.phrase,)
    assert reasons(tools, installation, second.backup) == ()
    assert REASON not in held.phrase
    installation.chain("prune", tools=tools).rest()
    assert installation.tools.repository.backups(installation.target) == [first.backup_id]
    with installation.shop.work.database.transaction() as cursor:
        entry = cursor.execute(
            "SELECT who, backup, statement FROM audit WHERE action = 'statement'"
            " AND result = 'hold'"
        ).fetchone()
    assert entry is not None
    assert (entry["who"], entry["backup"]) == ("test", first.backup)
    assert entry["statement"] is not None


def test_a_hold_ends_by_itself_at_its_end_and_no_clock_that_goes_back_loses_it(
    installation: Installation,
) -> None:
    archive = Archive(installation, NOW)
    old = archive.add(40 * DAY)
    archive.add_nightly(4, oldest=4)
    ask: dict[str, Any] = {"backup": old.backup, "requested_by": "ana", "reason": REASON}
    until = NOW + timedelta(hours=1)
    installation.chain("hold", tools=archive.tools(), until=until.isoformat(), **ask).rest()
    assert old.backup not in archive.prune()["expired"]
    archive.pass_time(timedelta(hours=1) - timedelta(seconds=1))
    assert archive.prune()["expired"] == []
    archive.pass_time(-timedelta(minutes=30))
    assert archive.prune()["expired"] == []
    archive.pass_time(timedelta(minutes=30, seconds=1))
    assert archive.prune()["expired"] == [old.backup]


def test_a_release_ends_a_hold_and_an_endless_one_of_before_too(
    installation: Installation,
) -> None:
    first, _ = installation.backups
    tools = greedy(installation.tools)
    # What versions before could sign: a decision without an end.
    of_before = installation.tools.repository.verifications(first.target_name, first.backup_id)[0]
    installation.tools.repository.record(
        of_before.model_copy(
            update={
                "id": str(BackupId.make(installation.tools.clock.now(), "0f0f0f")),
                "kind": "hold",
                "reasons": ("for the court",),
                **dict.fromkeys(("number", "previous", "earlier")),
            }
        )
    )
    assert reasons(tools, installation, first.backup) == ("held until it is released",)
    result = hold(installation, first.backup, release=True)
    assert result == {"backup": first.backup, "state": "verified", "released": True}
    assert reasons(tools, installation, first.backup) == ()
    assert indexed(installation, first.backup) is None
    with pytest.raises(RequestRefused, match="nobody holds backup"):
        hold(installation, first.backup, release=True)
    hold(installation, first.backup, keep_for="1d")
    assert reasons(tools, installation, first.backup) != ()
    installation.chain("verify", level="full").rest()


def test_a_hold_is_never_made_shorter(installation: Installation) -> None:
    first, _ = installation.backups
    longer = hold(installation, first.backup, keep_for="90d", label="audit")["hold"]
    again = hold(installation, first.backup, keep_for="1d", label="release-42")
    assert again["hold"] == {**longer, "label": "release-42"}
    assert "for longer already" in again["note"]
    assert hold(installation, first.backup, keep_for="1d")["hold"] == again["hold"]
    assert kinds(installation, first).count("hold") == 2, "what says as much is not said again"


def test_a_damaged_backup_may_be_held_and_one_that_is_not_there_cannot(
    installation: Installation,
) -> None:
    first, _ = installation.backups
    pack, *_ = installation.pack_files(first)
    pack.write_bytes(b"x" * pack.stat().st_size)
    with pytest.raises(IntegrityError):
        installation.chain("verify", level="full").rest()
    assert hold(installation, first.backup, keep_for="30d")["state"] == "damaged"
    with pytest.raises(RequestMistaken, match="there is no backup"):
        hold(installation, "20200101T000000Z-abcdef", keep_for="30d")
    with pytest.raises(RequestRefused, match="which is past"):
        hold(installation, first.backup, until="2026-01-01T00:00:00Z")


def test_a_hold_that_was_killed_after_its_statement_is_not_said_twice(
    installation: Installation,
) -> None:
    first, _ = installation.backups
    asked: dict[str, Any] = {"backup": first.backup, "keep_for": "2d", "reason": REASON}
    chain = installation.chain("hold", **asked)

    def die(key: str) -> None:
        if key.startswith("verifications/") and key.endswith(".json"):
            raise Crash

    installation.store.after = die
    with pytest.raises(Crash):
        chain.step()
    installation.store.after = lambda _key: None
    chain.step()
    assert kinds(installation, first).count("hold") == 1
    assert indexed(installation, first.backup) is not None


def test_a_catalog_that_is_rebuilt_knows_what_is_held(installation: Installation) -> None:
    first, second = installation.backups
    hold(installation, first.backup, keep_for="90d", label="release-42")
    hold(installation, second.backup, keep_for="90d")
    hold(installation, second.backup, release=True)
    held = indexed(installation, first.backup)
    with installation.shop.work.database.transaction() as cursor:
        cursor.execute("UPDATE backup SET held = id <> %s, held_until = NULL", (first.backup,))
    place = DirectPlace(Settings.load(installation.shop.environment))
    rebuild(place, NoProgress(), who="ana@site", dry_run=False)
    assert indexed(installation, first.backup) == held
    assert indexed(installation, second.backup) is None


def test_a_forged_release_releases_nothing(installation: Installation) -> None:
    first, _ = installation.backups
    hold(installation, first.backup, keep_for="90d")
    folder = installation.repository / "verifications" / first.target / first.backup
    newest = max(folder.glob("*.json"))
    text = newest.read_text(encoding="utf-8")
    newest.write_text(text.replace('"kind":"hold"', '"kind":"release"'), encoding="utf-8")
    with pytest.raises(SignatureInvalid):
        installation.tools.repository.verifications(first.target_name, first.backup_id)
    with pytest.raises(PruneRefused):
        installation.chain("prune", tools=greedy(installation.tools)).rest()


# --- older versions


def older_worker(installation: Installation) -> None:
    """Let a worker be there whose version publishes nothing of what it reads."""
    Workers(installation.shop.work.database).register(["maintenance.old"])


def test_while_an_older_worker_counts_backups_are_held_and_none_is_released(
    installation: Installation,
) -> None:
    first, _ = installation.backups
    older_worker(installation)
    assert hold(installation, first.backup, keep_for="90d")["hold"]["by"] == "ana@host"
    *_, said = installation.tools.repository.verifications(first.target_name, first.backup_id)
    # Nothing in it that the version before refuses; that keeps the backup for ever.
    assert set(said.values()) <= {
        *("format", "repository", "target", "backup", "id", "kind", "job", "at", "opened"),
        *("packs_checked", "bytes_read", "manifest", "findings", "reasons"),
    }
    with pytest.raises(RequestRefused, match="knows no release"):
        hold(installation, first.backup, release=True)
    assert indexed(installation, first.backup) is not None


# --- a backup that is asked for together with a hold


def gate(installation: Installation, **fields: Any) -> Chain:
    asked = {"hold_for": "14d", "label": "release-42", "reason": REASON}
    tools = greedy(installation.tools)
    return installation.chain("backup", tools=tools, requested_by="ci@host", **asked, **fields)


def test_at_no_moment_would_any_prune_remove_a_backup_that_is_to_be_held(
    installation: Installation,
) -> None:
    chain = gate(installation)
    tools = greedy(installation.tools)
    seen: list[tuple[str, ...]] = []

    def prune_now(_key: str = "") -> None:
        """Decide what a prune of somebody else would remove at this moment."""
        new = chain.job.backup
        there = {str(one) for one in installation.tools.repository.backups(installation.target)}
        if new is not None and new in there:
            kept = reasons(tools, installation, new)
            held = any(one.startswith("held by ci@host until") for one in kept)
            assert held or "in use by a job" in kept
            seen.append(kept)

    installation.store.before = installation.store.after = prune_now
    while not chain.job.ended:
        chain.step()
        prune_now()
    installation.store.before = installation.store.after = lambda _key: None
    new = chain.job.backup or ""
    result = chain.job.result
    assert (result["state"], result["hold"]["label"]) == ("verified", "release-42")
    held = Hold.from_json(result["hold"])
    assert any(held.phrase not in one for one in seen), "it was there before it was held"
    assert held.phrase in seen[-1]
    assert "in use by a job" not in seen[-1]
    assert indexed(installation, new) == held
    # Its own step pruned, and removed what nobody held.
    assert result["prune"]["refused"] is None
    installation.backup()
    installation.chain("prune", tools=tools).rest()
    assert new in {str(one) for one in installation.tools.repository.backups(installation.target)}


def test_a_hold_that_cannot_be_signed_stops_pruning_and_fails_the_backup(
    installation: Installation,
) -> None:
    chain = gate(installation)
    for _ in range(3):
        chain.step()
    before = installation.tools.repository.backups(installation.target)

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(installation.tools.repository, name)

        def record(self, _statement: object) -> None:
            raise PermanentError("no key of maintenance is here")

    whole = chain.tools
    chain.tools = replace(whole, repository=Refusing())
    chain.step()
    assert chain.job.result["hold_failed"] == "no key of maintenance is here"
    assert chain.job.result["prune"]["refused"] == "the new backup could not be held"
    assert installation.tools.repository.backups(installation.target) == before
    chain.tools = whole
    with pytest.raises(PermanentError, match="is stored and verified, but it is not held: no key"):
        chain.step()
    assert installation.state(chain.job.backup or "") == "verified"


def test_a_store_that_is_away_for_a_moment_is_asked_again(installation: Installation) -> None:
    chain = gate(installation)
    for _ in range(3):
        chain.step()

    def away(key: str) -> None:
        if key.startswith("verifications/"):
            raise StoreUnavailable("the store is away")

    installation.store.before = away
    with pytest.raises(StoreUnavailable):
        chain.step(keep_on=StoreUnavailable)
    installation.store.before = lambda _key: None
    assert chain.rest().result["hold"]["label"] == "release-42"


def test_a_worker_that_knows_no_holds_cannot_make_the_gate_green(
    installation: Installation,
) -> None:
    chain = gate(installation)
    for _ in range(3):
        chain.step()
    with installation.shop.work.database.transaction() as cursor:
        # As the version before does this step: it looks at no hold.
        cursor.execute(
            "UPDATE job SET request = request - 'hold_for' WHERE id = %s", (chain.job.id,)
        )
    chain.step()
    with installation.shop.work.database.transaction() as cursor:
        cursor.execute(
            'UPDATE job SET request = request || \'{"hold_for": "P14D"}\' WHERE id = %s',
            (chain.job.id,),
        )
    with pytest.raises(PermanentError, match="of a version of pgben that signs no holds"):
        chain.step()


# --- between a prune's plan and what it removes


@pytest.fixture
def archive(installation: Installation) -> Iterator[Archive]:
    made = Archive(installation, NOW)
    made.add_nightly(2, oldest=40)
    made.add_nightly(4, oldest=4)
    yield made
    installation.store.before = lambda _key: None


def test_a_hold_that_was_signed_after_the_plan_keeps_its_backup(archive: Archive) -> None:
    installation, old = archive.installation, archive.made[0]
    chain = archive.chain()
    named = installation.ledger.named

    class Late:
        """A ledger that is asked just when a hold has come and gone."""

        asked = 0

        def named(self, target: Any) -> frozenset[str]:
            self.asked += 1
            if self.asked == 2:
                fields = {"backup": old.backup, "keep_for": "1d", "reason": REASON}
                installation.chain("hold", tools=archive.tools(), **fields).rest()
            return named(target)

        def running(self, target: Any) -> frozenset[str]:
            return installation.ledger.running(target)

    late = Late()
    chain.tools = replace(chain.tools, captures=late)
    with pytest.raises(PruneRefused, match=f"'{old.backup}' of .* has just been held"):
        chain.step()
    assert late.asked == 2
    assert old.backup in archive.left()


def test_a_hold_that_waits_for_a_worker_keeps_its_backup(archive: Archive) -> None:
    old = archive.made[0]
    fields: dict[str, Any] = {"backup": old.backup, "keep_for": "1d", "reason": REASON}
    waiting = archive.installation.chain("hold", tools=archive.tools(), **fields)
    assert archive.prune()["expired"] == [archive.made[1].backup]
    waiting.rest()
    assert archive.prune()["expired"] == []
