"""What people type after `pgben jobs`."""

from __future__ import annotations

import pytest

from pgben_tasks.cli.commands.jobs import asked
from pgben_tasks.errors import ConfigurationError


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ([], (False, None)),
        (["1f0c9a2b"], (False, "1f0c9a2b")),
        (["retry", "1f0c9a2b"], (True, "1f0c9a2b")),
        (["retry", "retry"], (True, "retry")),
    ],
)
def test_a_job_may_have_retry_before_it(words: list[str], meant: tuple[bool, str | None]) -> None:
    assert asked(words) == meant


@pytest.mark.parametrize("words", [["retry"], ["1f0c", "retry"], ["a", "b"], ["retry", "a", "b"]])
def test_anything_else_is_wrong_usage_with_a_hint(words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        asked(words)
    assert "--help" in caught.value.hint
