"""A suspect backup is acknowledged: signed, shown, counted, and pruning goes on."""

from __future__ import annotations

from typing import Any

import pytest

from pgben_tasks.domain.documents import Manifest
from pgben_tasks.errors import (
    BackupNotFound,
    FenceLost,
    IntegrityError,
    PruneRefused,
    RequestRefused,
    SignatureInvalid,
)
from pgben_tasks.operations.repository.survey import survey
from tests.support.installation import FILL_PEDIDO, Crash, Installation

REASON = "pedidos anteriores a 2020 arquivados"


@pytest.fixture
def suspect(installation: Installation) -> Manifest:
    """Return the backup of a table that was emptied."""
    installation.run_sql("TRUNCATE pedido")
    try:
        return installation.backup()
    finally:
        installation.run_sql(FILL_PEDIDO)


def acknowledge(installation: Installation, backup: str, **fields: Any) -> dict[str, Any]:
    asked = {"backup": backup, "requested_by": "ana@host", **fields}
    return installation.chain("acknowledge", **asked).rest().result


def latest(installation: Installation) -> str:
    newest = survey(installation.tools.repository, installation.target).newest_good
    assert newest is not None
    return newest.manifest.backup


def test_an_acknowledged_backup_counts_and_pruning_goes_on(
    installation: Installation, suspect: Manifest
) -> None:
    assert suspect.suspect is not None
    assert latest(installation) == installation.backups[1].backup
    with pytest.raises(PruneRefused, match="is suspect and not acknowledged"):
        installation.chain("prune").rest()
    result = acknowledge(installation, suspect.backup, reason=REASON)
    assert result == {
        "backup": suspect.backup,
        "state": "verified",
        "acknowledged": suspect.suspect,
        "reasons": ["acknowledged by ana@host", REASON],
    }
    assert latest(installation) == suspect.backup
    assert installation.chain("prune").rest().result["prune"]["refused"] is None
    # What the next night is compared with is the acknowledged one, so that nothing shrank.
    installation.run_sql("TRUNCATE pedido")
    try:
        assert installation.backup().suspect is None
    finally:
        installation.run_sql(FILL_PEDIDO)


def test_who_and_why_are_signed_and_outlive_the_catalog(
    installation: Installation, suspect: Manifest
) -> None:
    chain = installation.chain(
        "acknowledge", backup=suspect.backup, reason=REASON, requested_by="ana@host"
    )
    job = chain.rest()
    assert job.backup == suspect.backup
    (statement,) = (
        one
        for one in installation.tools.repository.verifications(
            installation.target, suspect.backup_id
        )
        if one.kind == "acknowledgement"
    )
    assert statement.reasons == ("acknowledged by ana@host", REASON)
    assert statement.job == str(job.id)
    assert statement.manifest == installation.tools.repository.manifest_digest(
        installation.target, suspect.backup_id
    )
    path = f"verifications/{suspect.target}/{suspect.backup}/{statement.id}.json"
    file = installation.repository / path
    file.write_bytes(file.read_bytes().replace(b"2020", b"2021"))
    with pytest.raises(SignatureInvalid):
        installation.tools.repository.verifications(installation.target, suspect.backup_id)


def test_without_a_reason_there_is_still_who(installation: Installation, suspect: Manifest) -> None:
    result = acknowledge(installation, suspect.backup)
    assert result["reasons"] == ["acknowledged by ana@host"]


def test_the_index_shows_it(installation: Installation, suspect: Manifest) -> None:
    def shown() -> list[bool]:
        found = installation.shop.work.index.backups(installation.target)
        return [one.acknowledged for one in found if one.id == suspect.backup]

    assert shown() == [False]
    acknowledge(installation, suspect.backup)
    assert shown() == [True]
    # A verification that writes a row which was lost knows it too.
    with installation.shop.work.database.transaction() as cursor:
        cursor.execute("DELETE FROM backup WHERE id = %s", (suspect.backup,))
    installation.chain("verify").rest()
    assert shown() == [True]


def test_a_backup_that_is_not_suspect_is_refused(installation: Installation) -> None:
    before = installation.files()
    with pytest.raises(RequestRefused, match="is not suspect"):
        acknowledge(installation, installation.backups[0].backup)
    assert installation.files() == before


def test_a_second_acknowledgement_is_refused(installation: Installation, suspect: Manifest) -> None:
    acknowledge(installation, suspect.backup)
    before = installation.files()
    with pytest.raises(RequestRefused, match="was acknowledged before") as caught:
        acknowledge(installation, suspect.backup)
    assert f"pgben show {suspect.backup}" in caught.value.hint
    assert installation.files() == before


def test_an_unknown_backup_is_not_found(installation: Installation) -> None:
    with pytest.raises(BackupNotFound):
        acknowledge(installation, "20200101T000000Z-abcdef")


def test_a_damaged_backup_is_refused(installation: Installation, suspect: Manifest) -> None:
    for path in installation.pack_files(suspect):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityError):
        installation.chain("verify", level="full", backup=suspect.backup).rest()
    with pytest.raises(RequestRefused, match="is damaged, so it cannot be made to count"):
        acknowledge(installation, suspect.backup)
    assert not any(
        one.kind == "acknowledgement"
        for one in installation.tools.repository.verifications(
            installation.target, suspect.backup_id
        )
    )


def test_a_step_that_died_after_its_statement_has_done_its_work(
    installation: Installation, suspect: Manifest
) -> None:
    chain = installation.chain("acknowledge", backup=suspect.backup, reason=REASON)

    def die(key: str) -> None:
        if key.endswith(".json"):
            raise Crash

    installation.store.after = die
    with pytest.raises(Crash):
        chain.step()
    installation.store.after = lambda _key: None
    assert chain.step().state == "succeeded"
    statements = installation.tools.repository.verifications(installation.target, suspect.backup_id)
    assert [one.kind for one in statements].count("acknowledgement") == 1


def test_who_lost_the_job_signs_nothing(installation: Installation, suspect: Manifest) -> None:
    chain = installation.chain("acknowledge", backup=suspect.backup)

    def lost() -> None:
        raise FenceLost("another has the job")

    chain.row.before_hold = lost
    before = installation.files()
    with pytest.raises(FenceLost):
        chain.step(keep_on=FenceLost)
    assert installation.files() == before
