"""Ctrl-C while jobs are written and sent."""

from __future__ import annotations

import signal
import time

import pytest

from pgben_tasks.cli.ask import enqueue


def test_one_ctrl_c_is_put_off_to_the_end_but_not_longer_than_somebody_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(signal.SIGINT)
    done = []

    def send(seconds: float) -> None:
        with enqueue._hardly_interrupted():
            signal.raise_signal(signal.SIGINT)
            time.sleep(seconds)
            done.append(seconds)

    with pytest.raises(KeyboardInterrupt):
        send(0)
    monkeypatch.setattr(enqueue, "_GRACE_SECONDS", 0.05)
    with pytest.raises(KeyboardInterrupt):
        send(30)
    assert done == [0]
    assert signal.getsignal(signal.SIGINT) is before
