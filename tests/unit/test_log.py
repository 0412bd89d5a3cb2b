"""Claims about what logs show, and what they never show."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given, strategies as st
from pydantic import SecretStr

from pgben_tasks import log
from pgben_tasks.redaction import HIDDEN, names_a_secret, redact
from pgben_tasks.settings.values import SecretUrl

CANARY = "c4n4ry-h7Gq"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    written = io.StringIO()
    log.configure(json=True, stream=written)
    yield written
    structlog.contextvars.clear_contextvars()
    root.handlers[:], level = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def entries(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_entry_is_one_line_of_json_with_its_facts(stream: io.StringIO) -> None:
    structlog.stdlib.get_logger("pgben_tasks.operations.store").info(
        "pack_stored", pack="1.tar", size=64
    )
    (entry,) = entries(stream)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "event": "pack_stored",
        "level": "info",
        "logger": "pgben_tasks.operations.store",
        "pack": "1.tar",
        "size": 64,
    }


def test_libraries_write_through_the_same_format(stream: io.StringIO) -> None:
    logging.getLogger("celery.worker").warning("lost %s", "broker")
    (entry,) = entries(stream)
    assert (entry["event"], entry["logger"]) == ("lost broker", "celery.worker")


def test_what_a_library_adds_to_its_records_stays_out(stream: io.StringIO) -> None:
    logging.getLogger("celery.worker").info("received", extra={"data": {"args": CANARY}})
    assert CANARY not in stream.getvalue()


def test_warnings_are_entries(stream: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        log.configure(json=True, stream=stream)
        warnings.warn("old option", UserWarning, stacklevel=1)
    assert "old option" in entries(stream)[0]["event"]


def test_what_is_bound_stands_in_every_entry_until_it_is_unbound(stream: io.StringIO) -> None:
    structlog.contextvars.bind_contextvars(job="j1", target="postgres/pgben")
    structlog.contextvars.bind_contextvars(task="pgben.backup.postgres.dump")
    logging.getLogger("celery").info("received")
    structlog.contextvars.clear_contextvars()
    structlog.stdlib.get_logger("pgben").info("done")
    received, done = entries(stream)
    assert received["job"] == "j1"
    assert received["target"] == "postgres/pgben"
    assert received["task"] == "pgben.backup.postgres.dump"
    assert "backup" not in received
    assert not {"job", "target", "task"} & set(done)


def test_entries_below_the_level_are_not_written() -> None:
    written = io.StringIO()
    before = logging.getLogger().level
    log.configure(json=True, level="WARNING", stream=written)
    structlog.stdlib.get_logger("pgben").info("quiet")
    logging.getLogger("celery").info("quiet")
    log.configure(level=before)
    assert written.getvalue() == ""


def test_a_terminal_gets_readable_lines(stream: io.StringIO) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    log.configure(stream=terminal)
    structlog.stdlib.get_logger("pgben").info("pack_stored", pack="1.tar")
    try:
        raise RuntimeError(f"postgresql://u:{CANARY}@db/x")  # noqa: TRY301
    except RuntimeError:
        structlog.stdlib.get_logger("pgben").exception("dump_failed")
    text = terminal.getvalue()
    assert "pack_stored" in text
    assert "Traceback" in text
    assert not text.startswith("{")
    assert CANARY not in text
    assert stream.getvalue() == ""


def test_without_a_terminal_the_default_is_json() -> None:
    written = io.StringIO()
    log.configure(stream=written)
    structlog.stdlib.get_logger("pgben").info("pack_stored")
    log.configure()
    assert json.loads(written.getvalue())["event"] == "pack_stored"


def test_no_way_of_logging_a_secret_shows_it(stream: io.StringIO) -> None:
    logger = structlog.stdlib.get_logger("pgben")
    deep: Any = {"url": f"redis://:{CANARY}@queue/0"}
    for _ in range(20):
        deep = [deep]
    logger.info("a", password=CANARY, PGPASSWORD=CANARY, db_pass=CANARY, secret_key=CANARY)
    logger.info("b", environ={"PGBEN_DB_PASS": CANARY, "nested": [{"token": CANARY}]})
    logger.info("c", url=f"postgresql://u:{CANARY}@db/x", other=f"s3://a:{CANARY}/{CANARY}@h")
    logger.info("d", key=f"AGE-SECRET-KEY-{CANARY.upper()}", age_identity=CANARY)
    logger.info("e", value=SecretStr(CANARY), secret_url=SecretUrl(f"redis://:{CANARY}@q/0"))
    logger.info("f", deep=deep, pin_token=4711, error=ValueError(f"password='{CANARY}'"))
    logger.info("connecting to redis://:%s@queue/0", CANARY)
    logging.getLogger("urllib3").warning("GET %s", f"https://u:{CANARY}@host/")
    logging.getLogger("celery").warning("started", extra={"access_key": CANARY})
    try:
        raise RuntimeError(f"dsn host=db password={CANARY} user=x")  # noqa: TRY301
    except RuntimeError:
        logger.exception("dump_failed")
        logging.getLogger("celery").exception("task failed")
    text = stream.getvalue()
    assert len(entries(stream)) == 11
    assert CANARY.lower() not in text.lower()
    assert "4711" not in text
    assert text.count(HIDDEN) >= 11


def test_the_rest_of_a_text_stays_readable() -> None:
    assert (
        redact("postgresql://u:pw@db:5432/x is down")
        == f"postgresql://u:{HIDDEN}@db:5432/x is down"
    )
    assert redact("redis://queue:6379/0") == "redis://queue:6379/0"
    assert redact("key AGE-SECRET-KEY-1QQ ends") == f"key {HIDDEN} ends"
    assert redact("password: 'a b' next") == f"password: {HIDDEN} next"


@pytest.mark.parametrize(
    "name",
    [
        "pass",
        "db_pass",
        "PGPASSWORD",
        "password",
        "secretKey",
        "SECRET_KEY",
        "token",
        "x-token",
        "age_identity",
        "identity",
        "access_key",
        "credentials",
        "Authorization",
        "passphrase",
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert names_a_secret(name)


@pytest.mark.parametrize(
    "name", ["bypassrls", "passed", "passes", "key", "keys", "pack", "author", "job", "path"]
)
def test_other_names_are_left_alone(name: str) -> None:
    assert not names_a_secret(name)


passwords = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=4, max_size=20)


@given(passwords)
def test_no_password_in_a_url_survives(password: str) -> None:
    # A few characters of the rest of the text may themselves be a password.
    if password in "postgresql://backup:@db.example.org:5432/x" + HIDDEN:
        return
    assert password not in redact(f"postgresql://backup:{password}@db.example.org:5432/x")


leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
fields = st.dictionaries(st.text(max_size=10), leaves | st.lists(leaves, max_size=3), max_size=4)


@given(fields)
def test_hiding_never_loses_a_field(entry: dict[str, Any]) -> None:
    assert log.hide_secrets(None, "info", dict(entry)).keys() == entry.keys()
