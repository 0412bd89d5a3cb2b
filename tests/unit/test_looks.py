"""Questions that are asked at the same time: what hangs keeps nobody."""

from __future__ import annotations

from datetime import timedelta
from threading import Event, enumerate as threads
from time import monotonic

import pytest

from pgben_tasks.domain.outlook import Fault
from pgben_tasks.errors import StoreUnavailable, TransientError
from pgben_tasks.health.looks import Look, ask_once

SOON = timedelta(milliseconds=20)
LONG = timedelta(seconds=30)


def raised(exc: Exception) -> None:
    raise exc


def test_an_answer_is_given_and_an_error_is_raised_where_it_is_wanted() -> None:
    assert Look("it", lambda: 7).answer(LONG) == 7
    broken = Look("it", lambda: raised(StoreUnavailable("it is away", "look at it")))
    with pytest.raises(StoreUnavailable, match="it is away"):
        broken.answer(LONG)
    assert broken.outcome(LONG) == Fault("it is away", "look at it")
    refused = Look("it", lambda: raised(PermissionError(13, "Permission denied")))
    assert refused.outcome(LONG) == Fault("permission denied")
    with pytest.raises(LookupError):
        Look("it", lambda: raised(LookupError())).outcome(LONG)


def test_what_hangs_is_left_behind_in_a_thread_that_keeps_no_process_from_ending() -> None:
    over = Event()
    look = Look("127.0.0.1:5432", over.wait)
    begun = monotonic()
    with pytest.raises(TransientError, match="'127.0.0.1:5432' did not answer within"):
        look.answer(SOON)
    assert monotonic() - begun < 10
    assert look.silent
    assert [one.daemon for one in threads() if one.name == "look at 127.0.0.1:5432"] == [True]
    over.set()
    assert look.answer(LONG) is True
    assert not look.silent


def test_what_hangs_is_not_asked_again_before_it_has_answered() -> None:
    over, asked = Event(), []

    def ask() -> int:
        asked.append(1)
        over.wait(60)
        return len(asked)

    assert ask_once("a folder", ask, within=SOON) == Fault(
        "'a folder' did not answer within 0 s",
        "see whether it hangs, and whether something on the way drops what is sent",
    )
    assert ask_once("a folder", ask, within=LONG) == Fault(
        "'a folder' still does not answer", "see whether it hangs"
    )
    assert ask_once("another", lambda: 7, within=LONG) == 7
    over.set()
    while ask_once("a folder", ask, within=LONG) != len(asked):
        pass
    assert len(asked) == 2
