"""Locks live and die with their session: exclusive, shared, gone when their holder is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from uuid import uuid4

import pytest

from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.adapters.catalog.locks import (
    HeldLocks,
    holding,
    is_free,
    job_lock,
    target_lock,
    worker_lock,
)
from pgben_tasks.adapters.postgres.server import Lock
from pgben_tasks.embedded.child import wait_until
from pgben_tasks.errors import TargetBusy

WRITE = target_lock("write", "postgres/pgben", shared=False)
READ = target_lock("read", "postgres/pgben", shared=True)
ALONE = target_lock("read", "postgres/pgben", shared=False)


def taken(database: CatalogDatabase, *locks: Lock) -> bool:
    """Return whether a session of its own is refused these locks."""
    try:
        HeldLocks(database, locks).release()
    except TargetBusy:
        return True
    return False


def test_names_give_different_keys_of_64_bits() -> None:
    job = uuid4()
    locks = [WRITE, READ, target_lock("live", "postgres/pgben", shared=False), job_lock(job)]
    locks += [worker_lock("backup.n1"), target_lock("write", "postgres/other", shared=False)]
    assert len({lock.key for lock in locks}) == len(locks)
    assert all(-(2**63) <= lock.key < 2**63 for lock in locks)
    assert ALONE.key == READ.key


def test_an_exclusive_lock_has_one_holder(catalog: CatalogDatabase) -> None:
    with holding(catalog, [WRITE]):
        with pytest.raises(TargetBusy, match="write:postgres/pgben"):
            HeldLocks(catalog, [WRITE])
        assert not taken(catalog, READ)
    assert not taken(catalog, WRITE)


def test_readers_share_and_shut_the_pruner_out(catalog: CatalogDatabase) -> None:
    with holding(catalog, [READ]), holding(catalog, [READ]):
        assert taken(catalog, ALONE)
    with holding(catalog, [ALONE]):
        assert taken(catalog, READ)


def test_all_locks_are_taken_or_none(catalog: CatalogDatabase) -> None:
    with holding(catalog, [READ]):
        assert taken(catalog, WRITE, ALONE)
        # Its session has ended, which the server notices a moment later.
        assert wait_until(lambda: is_free(catalog, WRITE), seconds=10)


def test_looking_takes_nothing(catalog: CatalogDatabase) -> None:
    locks = [WRITE, *(Lock(f"number {number}") for number in range(20))]
    assert {lock.key < 0 for lock in locks} == {True, False}
    for lock in locks:
        assert is_free(catalog, lock)
        with holding(catalog, [lock]):
            assert not is_free(catalog, lock)
            assert not is_free(catalog, lock)
        # The server notices a moment later that the session has ended.
        assert wait_until(partial(is_free, catalog, lock), seconds=5)


def test_a_shared_lock_is_not_free_either(catalog: CatalogDatabase) -> None:
    with holding(catalog, [READ]):
        assert not is_free(catalog, READ)


def test_locks_of_another_catalog_are_others(catalog: CatalogDatabase) -> None:
    with holding(catalog, [WRITE]):
        assert is_free(CatalogDatabase(catalog.server, "postgres"), WRITE)


HOLDER = """
import sys, time
from pgben_tasks.adapters.catalog.database import CatalogDatabase
from pgben_tasks.adapters.catalog.locks import HeldLocks
from pgben_tasks.adapters.postgres.server import Lock
held = HeldLocks(CatalogDatabase.at(sys.stdin.readline().strip()), [Lock("killed")])
print("held", flush=True)
time.sleep(600)
"""


def test_the_lock_of_a_killed_process_is_free_at_once(catalog: CatalogDatabase) -> None:
    server = catalog.server
    url = f"host={server.host} port={server.port} user={server.user} password={server.password}"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{url} dbname={catalog.name}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "held\n"
        assert taken(catalog, Lock("killed"))
        os.kill(process.pid, signal.SIGKILL)
        assert wait_until(lambda: is_free(catalog, Lock("killed")), seconds=5)
        assert not taken(catalog, Lock("killed"))
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_a_lost_session_is_replaced_with_all_its_locks(
    catalog: CatalogDatabase, alter: Callable[..., None]
) -> None:
    with holding(catalog, [WRITE, READ]) as held:
        held.keep()
        alter(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'pgben lock' AND datname = current_database()"
        )
        assert wait_until(lambda: is_free(catalog, WRITE), seconds=5)
        held.keep()
        assert not is_free(catalog, WRITE)
        assert taken(catalog, ALONE)


def test_a_lock_that_went_to_another_meanwhile_is_not_taken_back(
    catalog: CatalogDatabase, alter: Callable[..., None]
) -> None:
    with holding(catalog, [WRITE]) as held:
        alter(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'pgben lock' AND datname = current_database()"
        )
        assert wait_until(lambda: is_free(catalog, WRITE), seconds=5)
        with holding(catalog, [WRITE]):
            for _ in range(2):
                with pytest.raises(TargetBusy):
                    held.keep()
        held.keep()
        assert taken(catalog, WRITE)
