"""An installation without Celery does what the chains do, and returns what docs/tasks.md says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgben_tasks.domain.job import Job
from pgben_tasks.embedded.data.fill import fill
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.errors import IntegrityError, RestoreRefused
from tests.support.workshop import Workshop

TASKS = Path(__file__).parents[2] / "docs" / "tasks.md"
DOCUMENTED = set(re.findall(r"`(\w+)`", TASKS.read_text("utf-8")))


@pytest.fixture(scope="module")
def shop(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workshop]:
    fill(postgres.dsn(), database="workshop", megabytes=2)
    with Workshop.open(tmp_path_factory.mktemp("workshop"), postgres, "workshop") as opened:
        yield opened
    with postgres.connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS workshop WITH (FORCE)")
        connection.execute("DROP DATABASE IF EXISTS workshop_copy WITH (FORCE)")


@pytest.fixture(scope="module")
def jobs(shop: Workshop) -> dict[str, Job]:
    target = {"target": str(shop.target)}
    return {
        "backup": shop.run("backup", target),
        "verify": shop.verify(level="full"),
        "restore": shop.restore("workshop_copy"),
        "prune": shop.prune(dry_run=True),
    }


@pytest.mark.parametrize("kind", ["backup", "verify", "restore", "prune"])
def test_every_field_of_a_result_is_documented(jobs: dict[str, Job], kind: str) -> None:
    result = jobs[kind].result
    assert result
    assert set(result) | set(result.get("prune", {})) <= DOCUMENTED


def test_the_chains_prove_what_they_did(jobs: dict[str, Job]) -> None:
    assert jobs["backup"].result["state"] == "verified"
    assert jobs["verify"].result["findings_total"] == 0
    assert jobs["restore"].result["rows_compared"] == jobs["backup"].result["rows"] > 0


def test_a_chain_leaves_nothing_in_the_spool(shop: Workshop, jobs: dict[str, Job]) -> None:
    with pytest.raises(RestoreRefused, match="there is already a database"):
        shop.restore("workshop_copy")
    left = [path for path in (shop.folder / "spool" / "jobs").rglob("*") if path.is_file()]
    assert left == []


def test_a_flipped_byte_is_found_and_the_backup_is_damaged_from_then_on(
    shop: Workshop, jobs: dict[str, Job]
) -> None:
    pack = next(shop.repository.glob("packs/**/*.age"))
    whole = pack.read_bytes()
    pack.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        with pytest.raises(IntegrityError, match="'packs/postgres/workshop"):
            shop.verify(level="full")
        with pytest.raises(RestoreRefused, match="is damaged"):
            shop.restore("workshop_other", backup=str(jobs["backup"].backup))
    finally:
        pack.write_bytes(whole)
    assert shop.verify(level="full").result["state"] == "clean"
