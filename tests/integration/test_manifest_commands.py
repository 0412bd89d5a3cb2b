"""What compose.yaml and k8s/ start, started here without containers: only folders and ports differ.

Images are not built by tests; these are the shell scripts of the files, word for word, and the
readiness probe.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from minio import Minio
from minio.error import MinioException

from pgben_tasks import runtime
from pgben_tasks.adapters.catalog.workers import Workers
from pgben_tasks.adapters.keys import key_set
from pgben_tasks.adapters.postgres.server import PostgresServer
from pgben_tasks.embedded import binaries
from pgben_tasks.embedded.child import free_port, wait_until
from pgben_tasks.settings import Settings
from tests.support import manifests
from tests.support.cli_site import Site, clean_environment
from tests.support.commands import Ran
from tests.support.fixtures_postgres import remove_role
from tests.support.manifests import Process

SECRET = "s3cr3t-of-a-file"
BOTH = pytest.mark.parametrize(
    "processes",
    [manifests.compose_processes, manifests.kubernetes_processes],
    ids=["compose", "k8s"],
)


@contextmanager
def started(script: str, folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script as its container would; it must end by itself when it is asked to."""
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            ["sh", "-ec", script],
            cwd=folder,
            env={"PATH": os.defpath, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=20)


def moved(process: Process, folder: Path, **replaced: str) -> str:
    """Return the script of a process with its places below ``folder``."""
    script = manifests.script(process)
    for old, new in replaced.items():
        assert old in script
        script = script.replace(old, new)
    secrets = folder / "secrets"
    secrets.mkdir()
    for path, key in process.files.items():
        (secrets / Path(path).name).write_text(f"{SECRET}-{key}\n", encoding="utf-8")
    return re.sub(r"/run/secrets(/pgben)?", str(secrets), script)


def arguments(process: subprocess.Popen[str]) -> str:
    return Path(f"/proc/{process.pid}/cmdline").read_text(encoding="utf-8")


@BOTH
def test_redis_asks_for_the_password_and_shows_it_to_nobody(
    processes: Callable[[], dict[str, Process]], tmp_path: Path
) -> None:
    port = free_port()
    script = moved(processes()["redis"], tmp_path, **{"redis-server -": f"$SERVER - --port {port}"})
    script = script.replace("/data", str(tmp_path))
    # Dropping to the image's user is for root in that image.
    script = re.sub(r"setpriv [^\\]+\\\s+", "", script)
    client = redis.Redis(port=port, password=f"{SECRET}-redis_password", socket_timeout=5)

    with started(script, tmp_path, SERVER=str(binaries.redis_server())) as process:
        assert wait_until(lambda: answers(client), seconds=20)
        assert SECRET not in arguments(process)
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port, socket_timeout=5).ping()
        kept: Any = client.config_get("append*")
        assert (kept["appendonly"], kept["appendfsync"]) == ("yes", "everysec")
        client.close()
    assert process.returncode == 0


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@BOTH
def test_the_s3_server_asks_for_the_keys_and_shows_them_to_nobody(
    processes: Callable[[], dict[str, Process]], tmp_path: Path
) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    repository = processes().get("repository") or processes()["s3"]
    script = moved(
        repository,
        tmp_path,
        **{"rclone serve": "$SERVER serve", "--addr :9000": f"--addr {address}"},
    )
    script = script.replace("/repository", str(tmp_path / "repository"))
    (tmp_path / "repository").mkdir()
    environment = {"RCLONE_CONFIG": str(tmp_path / "none"), "RCLONE_CACHE_DIR": str(tmp_path)}
    keys = (f"{SECRET}-s3_access_key", f"{SECRET}-s3_secret_key")

    with started(script, tmp_path, SERVER=str(binaries.rclone()), **environment) as process:
        assert wait_until(lambda: lists(address, *keys), seconds=20)
        assert SECRET not in arguments(process)
        assert not lists(address, keys[0], "another")


def lists(address: str, access: str, secret: str) -> bool:
    client = Minio(address, access_key=access, secret_key=secret, secure=False, region="us-east-1")
    try:
        client.list_buckets()
    except (MinioException, OSError):
        return False
    return True


def test_the_init_job_needs_the_public_keys_only_and_may_run_again(
    site: Site, server_17: PostgresServer, tmp_path: Path
) -> None:
    made, mounted, scratch = tmp_path / "made", tmp_path / "mounted", tmp_path / "scratch"
    key_set.read_or_make(made, roles="separate", now=datetime.now(UTC))
    job = manifests.kubernetes_processes()["init"]
    mounted.mkdir()
    for name in job.keys:
        copy = mounted / name
        copy.write_bytes((made / name).read_bytes())
        # As the Secret is mounted.
        copy.chmod(0o440)
    script = manifests.script(job).replace("/etc/pgben/keys", str(mounted))
    script = script.replace("/tmp/keys", str(scratch))  # noqa: S108 - the job's own folder
    script = script.replace("pgben init", f"{sys.executable} -m pgben_tasks.cli.main init")
    role = f"console_{token_hex(4)}"
    catalog = urlsplit(site.environment["PGBEN_CATALOG_URL"])
    host = catalog.netloc.rpartition("@")[2]
    (mounted / "login").write_text(f"postgresql://{role}:{SECRET}@{host}{catalog.path}", "utf-8")
    (mounted / "login").chmod(0o440)
    script = script.replace("/run/secrets/pgben/console_catalog_url", str(mounted / "login"))

    for _ in range(2):
        done = subprocess.run(
            ["sh", "-ec", script],
            env=clean_environment() | site.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        # The recovery card, which is printed from the job's log.
        assert "ana@example.org" in done.stdout
    assert (site.repository / "repository.json").exists()
    assert "AGE-SECRET-KEY" not in done.stdout
    assert SECRET not in done.stdout + done.stderr
    database = replace(
        runtime.catalog_database(Settings.load(site.environment)),
        server=replace(server_17, user=role, password=SECRET),
    )
    assert database.fetch_one("SELECT count(*) AS jobs FROM job") == {"jobs": 0}
    remove_role(server_17, role)


def test_a_worker_is_ready_while_it_shows_its_heartbeat(ready: Site) -> None:
    workers = Workers(runtime.catalog_database(Settings.load(ready.environment)))

    before = probe(ready, "backup")
    workers.send_heartbeat(["backup.workshop", "verify.another"])
    after, another = probe(ready, "backup"), probe(ready, "verify")

    assert (before.code, before.err) == (1, "not ready: backup.workshop\n")
    assert (after.code, after.err) == (0, "")
    assert another.code == 1


def test_a_worker_is_not_ready_without_its_catalog(ready: Site) -> None:
    ready.environment["PGBEN_CATALOG_URL"] = "postgresql://postgres:hush@127.0.0.1:1/none"

    said = probe(ready, "maintenance")

    assert said.code == 1
    assert said.err.startswith("not ready: ")
    assert "hush" not in said.all
    assert "Traceback" not in said.all


def probe(site: Site, role: str) -> Ran:
    done = subprocess.run(
        [sys.executable, "-m", "workers.ready", role],
        cwd=manifests.ROOT,
        env=site.others | site.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
