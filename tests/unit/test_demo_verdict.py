"""The demo does not praise a bucket that did not come back."""

from __future__ import annotations

from typing import Any

import pytest

from pgben_tasks.cli.demo.walkthrough import bucket_faults

GOOD: dict[str, Any] = {
    "objects_compared": 9,
    "objects_missing": [],
    "objects_extra": [],
    "objects_differing": [],
    "objects_opened": 9,
    "documents_known": 6,
    "documents_as_in_database": 6,
    "rows_faulty": 0,
    "copies_faulty": 0,
    "objects_left": 1,
    "packs_stored_unchanged": 0,
}


def test_a_bucket_that_is_as_it_was_has_no_bucket_faults() -> None:
    assert bucket_faults(GOOD) == []


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"objects_missing": ["a"]}, "1 of 9 objects are missing after the restore"),
        ({"objects_extra": ["a", "b"]}, "2 of 9 objects are too many after the restore"),
        ({"objects_differing": ["a"]}, "1 of 9 objects differ after the restore"),
        ({"objects_opened": 6}, "3 of 9 objects do not open after the restore"),
        (
            {"documents_as_in_database": 5},
            "1 documents are not what the restored database knows of them",
        ),
        ({"objects_left": 0}, "0 objects were called newer, and 1 is"),
        ({"copies_faulty": 1}, "1 rows have documents that are not as they say"),
        ({"rows_faulty": 2}, "2 rows have documents that are not as they say"),
        ({"packs_stored_unchanged": 2}, "a snapshot of the unchanged bucket stored 2 packs"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_fault_is_said(changed: dict[str, Any], sentence: str) -> None:
    assert bucket_faults({**GOOD, **changed}) == [sentence]
