"""deploy/systemd/ fits the program: roles, settings, folders, the time a worker gets to stop."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from pgben_tasks.app import SOFT_SHUTDOWN
from pgben_tasks.settings import Settings
from pgben_tasks.settings.model import is_secret
from pgben_tasks.setup import initialise
from tests.support.needs import needs
from workers.__main__ import PROCESSES, ROLES, parse

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "systemd"
#: What ends by itself is no process of a role.
CHECK = FOLDER / "pgben-check.service"
SERVICES = sorted(set(FOLDER.glob("*.service")) - {CHECK})
STATE = Path("/var/lib/pgben")
PAGES = {
    "deployment.md": "## On one machine, with systemd",
    "pt_BR/implantacao.md": "## Em uma máquina, com systemd",
}


class Unit(NamedTuple):
    """One unit, or what a template makes of one role."""

    name: str
    role: str
    lines: list[tuple[str, str]]

    def all(self, key: str) -> list[str]:
        return [value.replace("%i", self.role) for name, value in self.lines if name == key]

    def one(self, key: str) -> str:
        (value,) = self.all(key)
        return value


def entries(path: Path) -> list[tuple[str, str]]:
    text = path.read_text(encoding="utf-8")
    return [(key, value) for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)]


def secrets() -> set[str]:
    return {f"PGBEN_{name.upper()}" for name in Settings.model_fields if is_secret(name)}


def units() -> list[Unit]:
    """Return every service that can be enabled; a template once for each kind of worker."""
    found = []
    for path in SERVICES:
        lines = entries(path)
        stem = path.stem
        roles = ROLES if stem.endswith("@") else [stem.removeprefix("pgben-")]
        found += [Unit(stem + role if stem.endswith("@") else stem, role, lines) for role in roles]
    return found


each = pytest.mark.parametrize("unit", units(), ids=lambda unit: unit.name)
workers = pytest.mark.parametrize(
    "unit", [one for one in units() if one.role in ROLES], ids=lambda unit: unit.name
)


def section(page: str) -> str:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return text.partition(f"{PAGES[page]}\n")[2].partition("\n## ")[0]


def test_every_role_has_a_unit() -> None:
    assert sorted(one.role for one in units()) == sorted(PROCESSES)


@each
def test_a_unit_starts_the_role_of_its_name(unit: Unit) -> None:
    python, *module, role = unit.one("ExecStart").split()[:4]
    assert (python, module) == ("/opt/pgben/bin/python", ["-m", "workers"])
    assert parse(unit.one("ExecStart").split()[3:])[0] == role == unit.role


@each
def test_every_folder_that_a_unit_writes_to_is_the_default_of_a_setting(unit: Unit) -> None:
    fields = Settings.model_fields
    repository = str(fields["repository"].default).removeprefix("file://")
    defaults = {repository, *(str(fields[f"{one}backup_dir"].default) for one in ("", "minio_"))}
    named = " ".join(unit.all("ReadWritePaths")).split()
    assert {path.removeprefix("-") for path in named} == (defaults if unit.role in ROLES else set())
    assert Path("/var/lib", unit.one("StateDirectory")) == STATE
    assert fields["spool_dir"].default.is_relative_to(STATE)
    named_on_the_way = re.findall(r"/var/lib/[\w/-]+", "\n".join(value for _, value in unit.lines))
    assert [path for path in named_on_the_way if not Path(path).is_relative_to(STATE)] == []


@workers
def test_a_worker_stops_softly_within_the_time_that_it_gets(unit: Unit) -> None:
    assert timedelta(seconds=int(unit.one("TimeoutStopSec"))) > SOFT_SHUTDOWN
    # Its pool and pg_dump end by the worker's hand, not by systemd's signal.
    assert unit.one("KillMode") == "mixed"
    assert unit.all("KillSignal") == []


@workers
def test_a_worker_reads_what_init_writes_and_then_what_a_person_writes(unit: Unit) -> None:
    assert unit.all("EnvironmentFile") == [
        f"/etc/pgben/keys/{initialise.COMMON_FILE}",
        f"-/etc/pgben/keys/pgben-{unit.role}.env",
        "/etc/pgben/site.env",
    ]
    assert "pgben init --keys /etc/pgben/keys " in section("deployment.md")


@pytest.mark.parametrize("role", ["flower", "metrics"])
def test_who_only_reads_the_catalog_has_no_secret_of_what_is_protected(role: str) -> None:
    (unit,) = (one for one in units() if one.role == role)
    assert unit.all("EnvironmentFile") == ["/etc/pgben/site.env", "/etc/pgben/console.env"]
    example = (FOLDER / "console.env.example").read_text(encoding="utf-8")
    mine = dict(re.findall(r"^(\w+)=(.+)$", example, re.MULTILINE))
    assert set(mine) == {"PGBEN_CATALOG_URL_FILE", "PGBEN_CONSOLE_USERS_FILE"}
    taken = set(" ".join(unit.all("UnsetEnvironment")).split())
    # Broker and catalog are reached, and the access key says that there are buckets.
    needed = {"PGBEN_REDIS_URL", "PGBEN_CATALOG_URL", "PGBEN_MINIO_ACCESS_KEY"}
    both = {f"{name}{ending}" for name in secrets() - needed for ending in ("", "_FILE")}
    users = {"PGBEN_CONSOLE_USERS_FILE"} if role == "metrics" else set[str]()
    assert taken == both | {"PGBEN_CATALOG_URL"} | users
    assert "-/etc/pgben/keys" in unit.one("InaccessiblePaths").split()
    for path in mine.values():
        assert f" {path}" in section("deployment.md")


def test_the_check_is_asked_twice_an_hour_with_keys_that_read_and_nothing_else() -> None:
    unit = Unit("pgben-check", "check", entries(CHECK))
    python, *words = unit.one("ExecStart").split()
    assert (python, words[0]) == ("/opt/pgben/bin/pgben", "check")
    assert int(unit.one("TimeoutStartSec")) > int(words[words.index("--timeout") + 1])
    # What is not well must not look well, and nothing tries until it does.
    assert unit.one("Type") == "oneshot"
    assert unit.all("SuccessExitStatus") == unit.all("Restart") == []
    taken = set(" ".join(unit.all("UnsetEnvironment")).split())
    needed = {f"PGBEN_{one}" for one in ("REPOSITORY_ACCESS_KEY", "REPOSITORY_SECRET_KEY")}
    needed |= {"PGBEN_MINIO_ACCESS_KEY"}
    assert taken == {f"{name}{ending}" for name in secrets() - needed for ending in ("", "_FILE")}
    hidden = unit.one("InaccessiblePaths").split()
    assert hidden == ["-/etc/pgben/keys", "-/etc/pgben/site.env"]
    name, _, source = unit.one("LoadCredential").partition(":")
    assert unit.one("Environment") == f"PGBEN_TRUSTED_KEYS_FILE=%d/{name}"
    assert source.startswith("/etc/pgben/keys/")
    timer = Unit("timer", "check", entries(FOLDER / "pgben-check.timer"))
    assert (timer.one("WantedBy"), timer.one("Persistent")) == ("timers.target", "yes")
    for key in ("User", "ProtectSystem", "NoNewPrivileges", "CapabilityBoundingSet"):
        assert unit.one(key) == units()[0].one(key)


def test_no_two_workers_share_a_spool_and_the_only_one_has_the_default() -> None:
    spools = {one.role: one.one("Environment") for one in units() if one.role in ROLES}
    (changed,) = (FOLDER / "pgben-worker@all.service.d").iterdir()
    spools["all"] = re.findall(r"^Environment=(.+)$", changed.read_text("utf-8"), re.MULTILINE)[0]
    assert spools["all"] == f"PGBEN_SPOOL_DIR={Settings.model_fields['spool_dir'].default}"
    assert len(set(spools.values())) == len(spools)


@each
def test_a_process_is_closed_started_again_and_ends_with_the_target(unit: Unit) -> None:
    assert unit.one("User") == "pgben"
    assert unit.one("ProtectSystem") == "strict"
    assert {unit.one(key) for key in ("NoNewPrivileges", "PrivateTmp", "ProtectHome")} == {"yes"}
    assert unit.one("CapabilityBoundingSet") == ""
    assert unit.one("Restart") == "always"
    assert unit.one("PartOf") == unit.one("WantedBy") == "pgben.target"


def test_the_example_of_settings_is_accepted_as_a_shell_reads_it() -> None:
    example = FOLDER / "site.env.example"
    done = subprocess.run(
        ["sh", "-ac", f". {shlex.quote(str(example))}; env -0"],
        env={},
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    variables = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
    settings = Settings.load({k: v for k, v in variables.items() if k.startswith("PGBEN_")})
    assert settings.timezone == "America/Fortaleza"
    assert settings.db_pass is None


def test_both_languages_show_the_same_commands_and_every_unit() -> None:
    blocks = {
        page: re.findall(r"^```sh\n(.+?)^```$", section(page), re.MULTILINE | re.DOTALL)
        for page in PAGES
    }
    english, portuguese = blocks.values()
    assert english == portuguese
    assert len(english) == 2
    for page in PAGES:
        names = [*(one.name for one in units()), "pgben-check.timer"]
        assert [name for name in names if name not in section(page)] == []


@needs("systemd-analyze")
def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    folder = tmp_path / "system"
    shutil.copytree(FOLDER, folder)
    manual = tmp_path / "man" / "man1"
    manual.mkdir(parents=True)
    shutil.copy(ROOT / "docs" / "pgben.1", manual)
    for path in folder.glob("*.service"):
        text = path.read_text(encoding="utf-8").replace("/opt/pgben/bin/python", sys.executable)
        text = text.replace("/opt/pgben/bin/pgben", sys.executable)
        path.write_text(text, encoding="utf-8")
    names = [folder / f"{one.name}.service" for one in units()]
    for path in names:
        if not path.exists():
            path.symlink_to("pgben-worker@.service")
    others = ("pgben.target", CHECK.name, "pgben-check.timer")
    done = subprocess.run(
        ["systemd-analyze", "verify", *names, *(folder / name for name in others)],
        env={"PATH": "/usr/bin:/bin", "MANPATH": str(manual.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
