"""Questions that are asked at the same time: what hangs keeps nobody."""

from __future__ import annotations

from datetime import timedelta
from threading import Event, enumerate as threads
from time import monotonic

import pytest

from pgben_tasks.domain.outlook import Fault
from pgben_tasks.errors import StoreUnavailable, TransientError
from pgben_tasks.health.looks import Look

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
