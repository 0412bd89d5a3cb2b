"""The wheel in an environment of its own: worker, beat and command line, far from any checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from pgben_tasks import names
from tests.support.deployment import DATABASE, ROOT, Deployment, eventually

pytestmark = pytest.mark.unmeasured


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder))
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def interpreter(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with the wheel; its dependencies are lent by the tests' own."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", str(environment))
    python = environment / "bin" / "python"
    packages = next(environment.glob("lib/python*/site-packages"))
    # A path file inside a lent folder is not read, so the checkout stays out of sight.
    (packages / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    run(
        *(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"),
        *("--python", str(python), "install", "--no-deps", "--no-index", str(wheel)),
    )
    return python


def run(*argv: str) -> str:
    done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_carries_what_workers_and_beat_need(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())

    assert {"beat_schedule.py", "workers/__main__.py", "pgben_tasks/cli/main.py"} <= held
    assert "pgben_tasks/adapters/catalog/migrations/0001_ledger.sql" in held
    assert "pgben_tasks/adapters/report/templates/document.html" in held
    assert "pgben_tasks/adapters/report/styles/report.css" in held
    for catalogue in ("pgben", "errors"):
        assert f"pgben_tasks/locale/pt_BR/LC_MESSAGES/{catalogue}.mo" in held
    assert [name for name in held if name.endswith(".data/data/share/man/man1/pgben.1")]
    assert not [name for name in held if name.startswith(("tests/", "benchmarks/"))]


def test_a_worker_and_a_beat_run_from_the_wheel(interpreter: Path) -> None:
    where = run(str(interpreter), "-I", "-c", "import pgben_tasks; print(pgben_tasks.__file__)")
    assert where.startswith(str(interpreter.parents[1]))

    with Deployment.build() as deployment:
        deployment.interpreter = str(interpreter)
        worker = deployment.start("all", name="worker")
        beat = deployment.start("beat", name="beat", by_the_clock=True)
        assert deployment.pgben("backup", DATABASE).code == 0
        eventually(
            lambda: f"Task {names.TICK}[" in worker.log.read_text(),
            seconds=90,
            what="the worker has run a tick that beat sent",
        )
        assert beat.alive
