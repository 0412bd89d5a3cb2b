"""The gate before a release: the documented command, and what a pipeline makes of its end."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pgben_tasks.embedded.redis import EmbeddedRedis
from tests.support import commands
from tests.support.deployment import process_environment
from tests.support.installation import FILL_PEDIDO, Installation
from tests.support.ledger_workers import LedgerWorkers

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def documented() -> str:
    """Return the command of the page, as people copy it."""
    text = PAGE.read_text(encoding="utf-8")
    found: list[str] = re.findall(r"^```sh gate\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (command,) = found
    # Those of the pipelines are the same but for the name of the release.
    piped = [line for line in text.splitlines() if "pgben backup --all --hold" in line]
    same = {re.sub(r'"[^"]*"', "NAME", line.partition("pgben ")[2]) for line in piped}
    assert len(piped) == 3
    assert len(same) == 1
    return command


class Pipeline:
    """A machine with the settings of an installation; its workers run in this process."""

    def __init__(self, installation: Installation, redis: EmbeddedRedis, folder: Path) -> None:
        self.installation = installation
        self.folder = folder
        commands.install(folder)
        clean = process_environment(None)
        self.environment = {
            **clean,
            **installation.shop.environment,
            "PGBEN_REDIS_URL": redis.url,
            "PATH": os.pathsep.join((str(folder), clean["PATH"])),
            "RELEASE": "release-42",
        }
        protected = replace(installation.tools, protected=frozenset({installation.target}))
        self.workers = LedgerWorkers(installation.ledger, protected)

    def run(self, script: str, **changed: str) -> int:
        """Run a line of a pipeline while workers do what it asks for; return its exit code."""
        with subprocess.Popen(
            ["/bin/sh", "-e", "-c", script],
            cwd=self.folder,
            env=self.environment | changed,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as shell:
            while shell.poll() is None:
                self.workers.round()
            return shell.returncode

    @property
    def said(self) -> dict[str, Any]:
        """The result of the one job in what the command left for the pipeline."""
        document = json.loads((self.folder / "gate.json").read_text(encoding="utf-8"))
        (job,) = document["jobs"]
        result: dict[str, Any] = job["result"]
        return result


@pytest.fixture
def pipeline(installation: Installation, redis_server: EmbeddedRedis, tmp_path: Path) -> Pipeline:
    return Pipeline(installation, redis_server, tmp_path)


def test_the_documented_gate_opens_with_a_backup_that_is_verified_and_held(
    pipeline: Pipeline,
) -> None:
    command = documented()
    made = {one.backup for one in pipeline.installation.backups}
    # The newest backup is minutes old: it is the answer, and nothing is backed up.
    assert pipeline.run(command) == 0
    said = pipeline.said
    assert (said["state"], said["existing"], said["hold"]["label"]) == (
        "verified",
        True,
        "release-42",
    )
    assert said["backup"] in made
    # A new one takes as long as a backup takes.
    assert pipeline.run(command.replace("1h", "1s"), RELEASE="release-43") == 0
    said = pipeline.said
    assert said["backup"] not in made
    assert (said["state"], said["hold"]["label"]) == ("verified", "release-43")
    assert "existing" not in said


def test_the_gate_stays_closed_for_a_suspect_backup(pipeline: Pipeline) -> None:
    pipeline.installation.run_sql("TRUNCATE pedido")
    try:
        assert pipeline.run(documented().replace("1h", "1s") + "touch deployed") == 4
    finally:
        pipeline.installation.run_sql(FILL_PEDIDO)
    assert pipeline.said["suspect"]
    assert not (pipeline.folder / "deployed").exists()


def test_a_hold_and_a_release_typed_by_a_person(pipeline: Pipeline) -> None:
    backup = pipeline.installation.backups[0].backup
    hold = f"pgben hold {backup} --for 90d --label audit --reason auditoria --json > gate.json"
    assert pipeline.run(hold) == 0
    assert pipeline.said["hold"]["label"] == "audit"
    listed = "pgben list --json > list.json && pgben list > list.txt && pgben show {} > show.txt"
    assert pipeline.run(listed.format(backup)) == 0
    text = (pipeline.folder / "list.json").read_text(encoding="utf-8")
    held = {one["backup"]: one["hold"] for one in json.loads(text)["backups"]}
    assert held[backup] == pipeline.said["hold"]
    assert [one for one in held.values() if one is not None] == [held[backup]]
    for name in ("list.txt", "show.txt"):
        assert ", audit" in (pipeline.folder / name).read_text(encoding="utf-8")
    assert "auditoria" in (pipeline.folder / "show.txt").read_text(encoding="utf-8")
    release = f"pgben release {backup} --reason 'it has ended' --json > gate.json"
    assert pipeline.run(release) == 0
    assert pipeline.said["released"]
    assert pipeline.run(release) == 3, "nobody holds it"
    for wrong in (
        f"pgben hold {backup} --reason x",
        f"pgben hold {backup} --for 1d",
        f"pgben hold {backup} --for soon --reason x",
        f"pgben hold {backup} --for 1d --until 2099-01-01 --reason x",
        "pgben backup --label release-42",
        "pgben backup --hold 1d --label 'João da Silva'",
    ):
        assert pipeline.run(wrong) == 2, wrong
    assert pipeline.run(f"pgben hold {backup} --until 2026-01-01 --reason x") == 3
