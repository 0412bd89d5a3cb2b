"""A rolling upgrade: workers of the version before and of this one share one night's work."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest

from pgben_tasks.domain.documents import Verification
from tests.support.deployment import BUCKET, TARGET, Deployment, fill_bucket

pytestmark = pytest.mark.unmeasured

ARCHIVE: Final = Path(__file__).parents[1] / "fixtures" / "upgrade" / "version-before.tar.xz"
OLD, NEW = "node-a", "node-b"
#: The queue deals by turns: two or three rounds are usual until both had a part in both halves.
MOST_ROUNDS: Final = 10


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """Unpack the version before."""
    with tarfile.open(ARCHIVE) as archive:
        # Python before 3.11.4 has no filters; the archive is our own.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(tmp_path)  # noqa: S202
    return tmp_path


@pytest.fixture
def deployment(before: Path) -> Iterator[Deployment]:
    with Deployment.build(megabytes=1, bucket=True, version=before) as built:
        yield built


@pytest.mark.timeout(280)
def test_old_and_new_workers_share_a_night_and_read_what_the_other_wrote(
    deployment: Deployment, before: Path
) -> None:
    fill_bucket(deployment.work.tools.buckets[BUCKET], 12)
    old = deployment.start("all", name="old", version=before)
    folder = deployment.stack.folder
    upgraded = deployment.pgben("init", "--keys", str(folder / "keys"))
    assert upgraded.code == 0, upgraded.err
    of_its_own = {"PGBEN_NODE": NEW, "PGBEN_SPOOL_DIR": str(folder / "spool-b")}
    deployment.start("all", name="new", changed=of_its_own)

    for _ in range(MOST_ROUNDS):
        back_up(deployment)
        if parts(deployment) == set(product((OLD, NEW), ("capture", "record"))):
            break
    assert parts(deployment) == set(product((OLD, NEW), ("capture", "record")))
    assert not any(one.number for one in statements(deployment)), "the old one reads no chain"
    # The version before reads each document strictly: it trusts nothing with an unknown field.
    for level in ("quick", "full"):
        seen = verify_directly(deployment, "--level", level, version=before)
        assert (seen["state"], seen["findings_total"]) == ("clean", 0), seen
    assert old.alive

    # It may only be restarted: for a day after it stopped, nothing is written that it cannot read.
    old.stop(seconds=60)
    assert verify_everything(deployment) == 0
    assert not any(one.number for one in statements(deployment))
    # When the old one is gone, statements become a chain; everything before is its first link's.
    deployment.work.database.execute(
        "UPDATE worker SET heartbeat_at = heartbeat_at - interval '2 days' WHERE name LIKE %s",
        (f"%.{OLD}",),
    )
    assert verify_everything(deployment) == 0
    chained = [one for one in statements(deployment) if one.number]
    assert {one.target for one in chained} == {str(TARGET), str(BUCKET)}
    assert all(one.number == 1 and one.earlier for one in chained)


def back_up(deployment: Deployment) -> None:
    """Back both targets up at once; everything that is recorded reaches the repository."""
    shown = deployment.pgben("backup", str(TARGET), str(BUCKET), "--json")
    assert shown.code == 0, shown.out + shown.err
    for job in json.loads(shown.out)["jobs"]:
        assert job["result"]["state"] == "verified", job


def verify_everything(deployment: Deployment) -> int:
    """Let the workers verify everything in full; return how many findings there are."""
    shown = deployment.pgben("verify", "--level", "full", "--json")
    assert shown.code == 0, shown.out + shown.err
    (job,) = json.loads(shown.out)["jobs"]
    return int(job["result"]["findings_total"])


def parts(deployment: Deployment) -> set[tuple[str, str]]:
    """Return which node had which part in the backups: who captured, who recorded."""
    rows = deployment.work.database.fetch_all("SELECT DISTINCT node, name FROM step")
    role = {"dump": "capture", "snapshot": "capture", "record": "record"}
    found = {(row["node"], role.get(row["name"].rpartition(".")[2], "")) for row in rows}
    return {(node, part) for node, part in found if part}


def statements(deployment: Deployment) -> list[Verification]:
    """Return every statement about every backup."""
    repository = deployment.work.repository
    return [
        one
        for target in (TARGET, BUCKET)
        for backup in repository.backups_with_statements(target)
        for one in repository.verifications(target, backup)
    ]


def verify_directly(deployment: Deployment, *arguments: str, version: Path) -> dict[str, Any]:
    """Let the command line of a version verify everything by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "pgben_tasks.cli.main", "verify", "--direct", "--json", *arguments],
        env=deployment.process_environment(version=version),
        cwd=deployment.stack.folder,
        stdout=subprocess.PIPE,
        timeout=120,
        check=False,
    )
    (job,) = json.loads(done.stdout)["jobs"]
    return dict(job["result"])
