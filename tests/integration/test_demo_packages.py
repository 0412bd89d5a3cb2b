"""`pgben` without the packages that a command needs."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("command", ["demo", "up"])
def test_without_a_package_of_the_servers_the_command_names_what_to_install(command: str) -> None:
    program = (
        "import sys; sys.modules['minio'] = None;"
        f" from pgben_tasks.cli.main import main; sys.exit(main(['{command}']))"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert ran.returncode == 2, ran.stderr
    assert "HINT: pip install 'pgben-tasks[worker,embedded]'" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_the_packages_of_the_command_line_it_names_the_extra(package: str) -> None:
    program = (
        f"import sys; sys.modules['{package}'] = None;"
        " from pgben_tasks.__main__ import main; sys.exit(main())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, "list"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 2, ran.stderr
    assert "HINT: pip install 'pgben-tasks[worker]'" in ran.stderr
    assert package in ran.stderr
    assert "Traceback" not in ran.stderr
