"""A broker that answers and refuses is a matter of settings: told at once, and not tried again."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import pytest
import redis

from pgben_tasks.adapters.redis import ping_broker, record_set_aside
from pgben_tasks.client import Client
from pgben_tasks.embedded.redis import EmbeddedRedis
from pgben_tasks.errors import ConfigurationError, JobCancelled, TransientError

TARGET = "postgres/pgben"
CANARY = "hunter2"


@pytest.fixture
def server(redis_server: EmbeddedRedis) -> str:
    """Return host and port."""
    return f"{redis_server.host}:{redis_server.port}"


@pytest.fixture
def powerless(redis_server: EmbeddedRedis) -> Iterator[str]:
    """Yield a user of the server who may log in and nothing else."""
    name = f"user_{secrets.token_hex(4)}"
    with redis.Redis.from_url(redis_server.url) as client:
        client.execute_command("ACL", "SETUSER", name, "on", f">{CANARY}", "-@all", "+ping")
        yield name
        client.execute_command("ACL", "DELUSER", name)


def refused(url: str) -> ConfigurationError:
    """Return what is said of a URL that the server refuses."""
    client = Client(url)
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match="the broker does not take the request") as caught:
        client.backup(TARGET)
    assert time.monotonic() - began < 10
    with pytest.raises(ConfigurationError):
        client.status()
    with pytest.raises(ConfigurationError):
        client.tell_end("nobody", JobCancelled("no", ""))
    assert CANARY not in str(caught.value)
    assert caught.value.hint
    return caught.value


def test_a_wrong_password_is_no_outage(server: str) -> None:
    for user in ("", "nobody"):
        said = refused(f"redis://{user}:{CANARY}@{server}/0")
        assert "refuses the user or the password" in said.sentence
        assert "PGBEN_REDIS_URL" in said.hint


def test_a_missing_password_is_no_outage(server: str) -> None:
    assert "password" in refused(f"redis://{server}/0").sentence


def test_a_user_without_rights_is_no_outage(server: str, powerless: str) -> None:
    assert (
        "the user or the password" in refused(f"redis://{powerless}:{CANARY}@{server}/0").sentence
    )


def test_a_database_that_the_server_does_not_have_is_no_outage(redis_server: EmbeddedRedis) -> None:
    url = f"{redis_server.url.removesuffix('0')}4711"
    assert "the number of the database" in refused(url).sentence


def test_a_broker_that_is_away_can_be_tried_again() -> None:
    with pytest.raises(TransientError, match="does not take the request"):
        Client(f"redis://:{CANARY}@127.0.0.1:1/0").status()


def test_workers_tell_the_same(server: str, powerless: str) -> None:
    for url in (f"redis://:{CANARY}@{server}/0", f"redis://{server}/0"):
        with pytest.raises(ConfigurationError, match="password"):
            ping_broker(url)
        with pytest.raises(ConfigurationError, match="password"):
            record_set_aside(url, lambda *_: None)
    with pytest.raises(ConfigurationError, match="user"):
        record_set_aside(f"redis://{powerless}:{CANARY}@{server}/0", lambda *_: None)
