"""Wrong settings and wrong requests through real workers: one sentence and a hint each.

Every case: exit code not 0, the job recorded as failed or refused, nothing half-done left behind,
no secret shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg import sql

from pgben_tasks.adapters.keys.files import make_age_identity
from pgben_tasks.embedded.child import Child
from tests.support.deployment import DATABASE, TARGET, Deployment

CANARY = "canary-Zq83hfPw"


@dataclass(frozen=True)
class Case:
    """A worker with some settings changed, what is asked of it, and what must be said."""

    changed: dict[str, str]
    ask: tuple[str, ...]
    said: str
    state: str = "failed"
    code: int = 2


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with Deployment.build() as built:
        worker = built.start("all", name="good-worker")
        assert built.pgben("backup", DATABASE).code == 0
        with built.stack.postgres.connect() as connection:
            connection.execute(
                sql.SQL("CREATE ROLE nearsighted LOGIN PASSWORD {}").format(sql.Literal(CANARY))
            )
            connection.execute("GRANT pg_read_all_data TO nearsighted")
        worker.stop()
        yield built


def files(deployment: Deployment) -> dict[str, str]:
    """Make the files that cases name."""
    folder = deployment.stack.folder / "cases"
    folder.mkdir(exist_ok=True)
    other = folder / "other-identity.txt"
    if not other.exists():
        make_age_identity(other, now=deployment.work.database.now())
    return {"OTHER_IDENTITY": str(other), "NO_FILE": str(folder / "absent")}


CASES = {
    "wrong password": Case(
        {"PGBEN_DB_PASS": CANARY}, ("backup", DATABASE), "does not accept the role 'postgres'"
    ),
    "no BYPASSRLS": Case(
        {"PGBEN_DB_USER": "nearsighted", "PGBEN_DB_PASS": CANARY},
        ("backup", DATABASE),
        "row-level security hides rows",
    ),
    "unknown database": Case(
        {"PGBEN_DB_NAME": "absent"}, ("backup", "absent"), "does not open the database 'absent'"
    ),
    "full spool": Case(
        {"PGBEN_SPOOL_LIMIT": "1KiB"},
        ("backup", DATABASE),
        "does not fit into the spool",
        state="refused",
        code=3,
    ),
    "missing repository": Case(
        {"PGBEN_REPOSITORY": "s3://pgben-backups/nowhere"},
        ("backup", DATABASE),
        "there is no repository",
    ),
    "missing signing key": Case(
        {"PGBEN_SIGNING_KEY_FILE": "NO_FILE"}, ("backup", DATABASE), "absent"
    ),
    "missing identity": Case(
        {"PGBEN_AGE_IDENTITY_FILE": "NO_FILE"}, ("restore", DATABASE), "absent"
    ),
    "wrong identity": Case(
        {"PGBEN_AGE_IDENTITY_FILE": "OTHER_IDENTITY"},
        ("restore", DATABASE),
        "identity",
        code=5,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_wrong_input_is_one_sentence_and_a_hint(deployment: Deployment, name: str) -> None:
    case = CASES[name]
    places = files(deployment)
    changed = {key: places.get(value, value) for key, value in case.changed.items()}
    before = (
        deployment.databases(),
        deployment.stored_packs(),
        deployment.work.repository.backups(TARGET),
    )
    known = {job.id for job in deployment.jobs()}
    worker: Child = deployment.start(
        "all", name=f"worker-{name.replace(' ', '-')}", changed=changed
    )
    asking = {key: value for key, value in changed.items() if key == "PGBEN_DB_NAME"}

    ran = deployment.pgben(*case.ask, changed=asking)
    worker.stop()

    assert ran.code == case.code, ran.err
    assert case.said in ran.err
    assert "HINT:" in ran.err
    # One that does not fit asks for retention and the sweep first.
    new = [job for job in deployment.jobs() if job.id not in known]
    (job,) = [one for one in new if one.kind not in {"prune", "sweep"}]
    assert job.state == case.state
    assert job.error is not None
    assert case.said in job.error["sentence"]
    after = (
        deployment.databases(),
        deployment.stored_packs(),
        deployment.work.repository.backups(TARGET),
    )
    assert after == before
    spool = Path(deployment.environment["PGBEN_SPOOL_DIR"])
    assert [path for path in (spool / "jobs").glob("*") if path.is_dir()] == []
    for text in (ran.err, ran.out, worker.log.read_text(), str(job)):
        assert CANARY not in text
        assert "Traceback" not in text


def test_an_unknown_host_is_tried_again_and_then_told(deployment: Deployment) -> None:
    worker = deployment.start(
        "all", name="worker-no-host", changed={"PGBEN_DB_HOST": "no-such-host.invalid"}
    )

    ran = deployment.pgben("backup", DATABASE, timeout=150)
    worker.stop()

    assert ran.code == 75
    assert "the host name 'no-such-host.invalid' is unknown" in ran.err
    assert deployment.jobs("backup")[0].state == "failed"
    retries = worker.log.read_text().count("step_retried")
    assert retries == 3


@pytest.mark.parametrize(
    "target",
    [
        "n" * 64,
        "unknown",
        f"postgresql://postgres:{CANARY}@db/pgben",
        f"host=db password={CANARY}",
        "../etc",
    ],
)
def test_a_malformed_target_is_refused_before_anything_is_written(
    deployment: Deployment, target: str
) -> None:
    known = len(deployment.jobs())

    ran = deployment.pgben("backup", target)

    assert ran.code == 2
    assert ran.err.startswith("error: ")
    assert CANARY not in ran.err + ran.out
    assert len(deployment.jobs()) == known


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--backup", "20200101T000000Z-000000"), "20200101T000000Z-000000"),
        (("--backup", "newest-please"), "is not a backup id"),
        (("--into", "n" * 64), "64 bytes"),
        (("--at", "yesterday"), "yesterday"),
    ],
)
def test_a_wrong_choice_is_told_before_anything_is_written(
    deployment: Deployment, options: tuple[str, str], said: str
) -> None:
    known = len(deployment.jobs())

    ran = deployment.pgben("restore", DATABASE, *options)

    assert ran.code in {1, 2}
    assert said in ran.err
    assert "HINT:" in ran.err
    assert len(deployment.jobs()) == known
