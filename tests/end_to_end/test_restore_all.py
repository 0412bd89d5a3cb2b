"""Everything of a recovery point brought back by real workers, whatever is killed meanwhile."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pgben_tasks.domain.job import Job
from pgben_tasks.embedded.child import wait_until
from pgben_tasks.embedded.data.compare import contents
from pgben_tasks.embedded.stack import PROTECTED_BUCKET
from pgben_tasks.runtime.places import bucket_at
from tests.support import bucketshop
from tests.support.deployment import BUCKET, TARGET, Deployment, papers, steps

pytestmark = pytest.mark.unmeasured

#: Which interruptions every run of the suite tries; ``make interruptions`` tries ten.
SEEDS = (4, 10)
STEPS = ["select", "databases", "buckets", "check", "swap", "objects", "finish"]
CONFIRMED = ("--confirm", TARGET.name, "--confirm", PROTECTED_BUCKET)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with papers(tmp_path_factory.mktemp("settings"), 40, megabytes=2) as built:
        built.start("all", name="worker")
        built.start("beat", name="beat")
        done = built.pgben("backup", "--all", "--json")
        assert done.code == 0, done.all
        yield built


class Platform:
    """What the platform holds: to be ruined, and compared by digest."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.bucket = bucket_at(deployment.work.settings, PROTECTED_BUCKET)
        self.rows, self.objects = self.now()

    def now(self) -> tuple[Any, dict[str, Any]]:
        rows = contents(self.deployment.stack.postgres.dsn(), TARGET.name)
        return rows, bucketshop.contents(self.bucket)

    def ruin(self) -> None:
        """Lose rows, lose and overwrite objects, and store one that the point does not know."""
        with self.deployment.stack.postgres.connect(TARGET.name) as connection:
            connection.execute("DELETE FROM papers WHERE id % 2 = 0")
            connection.execute("UPDATE papers SET bytes = 0 WHERE id % 3 = 0")
        keys = sorted(self.objects)
        for key in keys[::3]:
            self.bucket.delete(key)
        for key in keys[1::3]:
            self.put(key, b"overwritten " + key.encode())
        self.put("later/1", b"newer than the point")

    def put(self, key: str, data: bytes) -> None:
        self.bucket.put(key, iter([data]), size=len(data), headers={}, metadata={}, tags={})

    def require_restored(self) -> None:
        rows, objects = self.now()
        assert rows == self.rows
        assert objects.pop("later/1")[0] == b"newer than the point"
        assert objects == self.objects


@pytest.fixture(scope="module")
def platform(deployment: Deployment) -> Platform:
    """Return the platform as it was backed up, whatever tests did to it since."""
    return Platform(deployment)


def ended(deployment: Deployment, answer: Any) -> Job:
    (job,) = answer.json["jobs"]
    return deployment.work.ledger.find(job["job"])


@pytest.mark.timeout(180)
def test_everything_comes_back_beside_then_in_place_then_is_undone(
    deployment: Deployment, platform: Platform
) -> None:
    planned = deployment.pgben("plan", "--all")
    assert planned.code == 0, planned.all
    assert "nothing stands in the way" in planned.out
    plan = deployment.pgben("plan", "--all", "--json").json
    assert [one["target"] for one in plan["parts"]] == [str(BUCKET), str(TARGET)]
    assert plan["commands"]["in_place"] in planned.out
    assert plan["commands"]["in_place"].endswith(
        f"--in-place --confirm {PROTECTED_BUCKET} --confirm {TARGET.name}"
    )
    platform.ruin()
    ruined = platform.now()
    beside = deployment.pgben("restore", "--all", "--json")
    assert beside.code == 0, beside.all
    result = ended(deployment, beside).result
    assert (result["state"], result["check"]["references"]) == ("restored", 40)
    assert not any(result["check"][kind] for kind in ("missing", "size", "metadata"))
    copy = result["databases"][str(TARGET)]["into"]
    assert contents(deployment.stack.postgres.dsn(), copy) == platform.rows
    copies = bucket_at(deployment.work.settings, result["buckets"][str(BUCKET)]["into"])
    assert bucketshop.contents(copies) == platform.objects
    assert platform.now() == ruined

    half = deployment.pgben("restore", "--all", "--in-place", "--confirm", TARGET.name)
    assert half.code == 3, half.all
    assert f"not confirmed, and would be replaced: {PROTECTED_BUCKET}" in half.err
    refused = deployment.jobs("restore_all")[0]
    assert refused.state == "refused"
    assert refused.request["point"] == plan["point"], "no other than the plan has shown"
    none = deployment.pgben("restore", "--all", "--in-place")
    assert none.code == 3
    assert plan["commands"]["in_place"] in none.err, "the plan comes first"
    assert platform.now() == ruined

    done = deployment.pgben("restore", "--all", "--in-place", *CONFIRMED, "--json")
    assert done.code == 0, done.all
    platform.require_restored()
    job = ended(deployment, done)
    assert steps(deployment, job) == STEPS
    undone = deployment.pgben("undo", str(job.id), "--confirm", TARGET.name)
    assert undone.code == 0, undone.all
    assert f"what was there is kept as {TARGET.name}_undone_" in undone.out
    assert f"postgres/{TARGET.name}" in undone.out
    assert platform.now()[0] == ruined[0]


# --- interrupted, at moments that a seed chooses


@dataclass(frozen=True)
class Interruption:
    """What happens so long after which step has begun."""

    what: str
    step: str
    seconds: float

    @classmethod
    def chosen_by(cls, seed: int) -> Interruption:
        what = sorted(INTERRUPTIONS)[seed % len(INTERRUPTIONS)]
        chance = random.Random(seed)
        # With the last one hardly anything is left to interrupt.
        return cls(what, chance.choice(STEPS[:-1]), round(chance.random() * 1.5, 2))

    def __str__(self) -> str:
        return f"{self.what} {self.seconds} s after {self.step}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "interruption" in metafunc.fixturenames:
        seeds = range(metafunc.config.getoption("interruptions")) or SEEDS
        metafunc.parametrize("interruption", [*map(Interruption.chosen_by, seeds)], ids=str)


@pytest.mark.timeout(420)
def test_what_interrupts_a_restore_in_place_leaves_all_or_nothing(
    deployment: Deployment, platform: Platform, interruption: Interruption
) -> None:
    platform.ruin()
    ruined = platform.now()
    answer = deployment.pgben("restore", "--all", "--in-place", *CONFIRMED, "--no-wait", "--json")
    job = ended(deployment, answer)
    wait_until(
        lambda: (
            (now := deployment.work.ledger.job(job.id)).ended
            or (now.step or "").endswith(f".{interruption.step}")
        ),
        seconds=120,
    )
    # No condition to wait for: the moment within the step is what the seed chose.
    time.sleep(interruption.seconds)
    INTERRUPTIONS[interruption.what](deployment)
    done = deployment.wait_for(job, seconds=300)
    if done.state != "succeeded":
        swaps = [
            deployment.work.swaps.swap_of_job(part.id)
            for part in deployment.jobs("restore")
            if str(job.id) in part.key
        ]
        assert "done" not in [swap.state for swap in swaps if swap], done.error
        rows, objects = platform.now()
        assert rows == ruined[0]
        assert {key: objects.get(key) for key in ruined[1]} == ruined[1]
        assert deployment.pgben("jobs", "retry", str(job.id)).code == 0
        assert deployment.wait_for(job, seconds=200).state == "succeeded"
    platform.require_restored()


def _kill_worker(deployment: Deployment) -> None:
    """Kill a worker with its children, and start another under its name."""
    (worker,) = [one for one in deployment.processes if one.name == "worker" and one.alive]
    worker.send(signal.SIGKILL, tree=True)
    deployment.processes.remove(worker)
    deployment.start("all", name="worker")


def _restart_database(deployment: Deployment) -> None:
    deployment.stack.postgres.kill()
    deployment.stack.postgres.restart()


def _cut_broker(deployment: Deployment) -> None:
    deployment.stack.redis.kill()
    deployment.stack.redis.restart()


def _restart_catalog(deployment: Deployment) -> None:
    deployment.catalog.kill()
    deployment.catalog.restart()


INTERRUPTIONS: dict[str, Callable[[Deployment], None]] = {
    "worker killed": _kill_worker,
    "database restarted": _restart_database,
    "broker cut": _cut_broker,
    "catalog restarted": _restart_catalog,
}
