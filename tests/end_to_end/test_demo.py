"""The demo: it proves what it says, and leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pgben_tasks.embedded.child import wait_until
from tests.support.deployment import ROOT, left

pytestmark = pytest.mark.unmeasured


def demo(tmp_path: Path, *options: str, measured: bool = True) -> subprocess.Popen[str]:
    """Start the demo; one that is to be interrupted must not be measured.

    Coverage takes a lock for what it counts, and an interruption while it is taken stays in it.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if measured or not name.startswith("COVERAGE_")
    }
    return subprocess.Popen(
        [sys.executable, "-m", "pgben_tasks.cli.main", "demo", "--size", "3", *options],
        env={**kept, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_the_demo_ends_with_proof(reachable: Path) -> None:
    running = demo(reachable, "--json")
    out, err = running.communicate(timeout=250)

    assert running.returncode == 0, err
    proof = json.loads(out)
    assert proof["backup_state"] == "verified"
    assert proof["tables_differing"] == []
    assert proof["rows_compared"] > 1000
    # Beside the packs, what rows say of documents.
    assert proof["bytes_read_back"] > proof["stored_bytes"]
    assert proof["snapshot_state"] == proof["point_state"] == "verified"
    assert (proof["rows_faulty"], proof["objects_of_no_row"]) == (0, 0)
    assert proof["rows_with_objects"] == proof["objects"]
    assert proof["objects"] == proof["objects_fetched"] == proof["objects_compared"] > 300
    assert proof["packs_stored_unchanged"] == 0
    ruined = proof["objects_deleted"] + proof["objects_overwritten"]
    assert proof["objects_opened_ruined"] == proof["objects"] - ruined
    assert proof["objects_put_back"] == ruined > 300
    assert (proof["restored_point"], proof["copies_faulty"]) == (proof["point"], 0)
    assert proof["objects_left"] == 1
    for what in ("missing", "extra", "differing"):
        assert proof[f"objects_{what}"] == []
    assert proof["objects_opened"] == proof["objects_compared"]
    assert proof["documents_as_in_database"] == proof["documents_known"] > 200
    steps = [step["step"].rpartition(".")[2] for step in proof["steps"]]
    assert {"dump", "checksum", "upload", "prune", "record", "examine", "join"} <= {*steps}
    assert {"databases", "buckets", "check", "swap", "objects"} <= {*steps}
    # The report stays when the servers have ended.
    report = Path(proof["report"])
    assert report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    shutil.rmtree(report.parent)
    assert wait_until(lambda: left(reachable) == [], seconds=20), left(reachable)


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGKILL, "pgben backup bucket/"),
        (signal.SIGINT, "--in-place"),
    ],
    ids=["killed in a snapshot", "Ctrl-C in a restore"],
)
def test_an_interrupted_demo_leaves_nothing(
    reachable: Path, number: signal.Signals, moment: str
) -> None:
    running = demo(reachable, measured=False)
    assert running.stderr is not None
    said = ""
    while moment not in said:
        line = running.stderr.readline()
        assert line, said
        said += line
    # Ctrl-C in a terminal reaches the whole process group.
    os.killpg(running.pid, number)
    running.communicate(timeout=60)

    assert running.returncode != 0
    assert wait_until(lambda: left(reachable) == [], seconds=30), left(reachable)
