"""What is recorded and shown of an error: all of ours, of any other only its type."""

from __future__ import annotations

import pytest

from pgben_tasks.domain.failures import (
    as_public_error,
    error_record,
    failed_state,
    public_sentence,
)
from pgben_tasks.errors import (
    DatabaseUnavailable,
    PermanentError,
    PgbenError,
    RequestRefused,
    RestoreRefused,
)

STEP = "pgben.backup.postgres.dump"
SECRET = "postgresql://pgben:s3cr3t-canary@db/pgben"


def test_of_an_error_that_is_not_ours_only_the_type_is_shown() -> None:
    stranger = OSError(f"could not connect to {SECRET}")
    public = as_public_error(stranger)
    assert type(public) is PermanentError
    assert public.sentence == "an unexpected OSError ended the step" == public_sentence(stranger)
    assert error_record(stranger, STEP) == {
        "type": "OSError",
        "sentence": public.sentence,
        "hint": "the worker's log has the traceback",
        "step": STEP,
    }
    assert "canary" not in repr(public)


def test_an_error_of_ours_is_shown_as_it_is() -> None:
    error = DatabaseUnavailable("'db' does not answer", "look at the server")
    assert as_public_error(error) is error
    assert error_record(error, STEP) == {
        "type": "DatabaseUnavailable",
        "sentence": "'db' does not answer",
        "hint": "look at the server",
        "step": STEP,
    }


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RequestRefused("no", ""), "refused"),
        (RestoreRefused("no", ""), "refused"),
        (PermanentError("no", ""), "failed"),
        (PgbenError("no", ""), "failed"),
        (OSError("no"), "failed"),
    ],
)
def test_only_a_refusal_is_refused(error: Exception, state: str) -> None:
    assert failed_state(error) == state
