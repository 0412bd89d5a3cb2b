"""What a wrong value is called: by us, never by pydantic, in settings, requests and documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, cast

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pgben_tasks.contracts import REQUESTS, BucketRestoreRequest, JobRef
from pgben_tasks.domain import faults
from pgben_tasks.domain.buckets.capture import BucketCapture
from pgben_tasks.domain.buckets.inventory import Entry
from pgben_tasks.domain.documents import (
    AuditEntry,
    Manifest,
    PostgresCapture,
    PublicKeys,
    TrustedKeys,
    Verification,
)
from pgben_tasks.settings.faults import explain
from pgben_tasks.settings.fields import Fields
from pgben_tasks.settings.servers import Server

#: What pydantic would say.
FOREIGN: Final = (
    *("Input should", "String should", "Value error", "Field required", "Extra inputs"),
    *("valid integer", "valid string", "valid boolean", "valid dictionary", "unable to parse"),
    *("Datetime", "Decimal", "List should", "Tuple should", "validation error", "instance of"),
    *("pydantic", "URL scheme", "JSON: ", "at least 1 item", "timezone"),
)
TEXTS: Final = (
    *("", " ", "x", "-1", "0", "1.5", "on", "NaN", "99999999999", "ã", "a b", "\0", "x" * 5000),
    *("9" * 5000, "2026-13-01", "2026-11-23", "2026-11-23T05:00:00", "http://[", "a,a", "1,5GiB"),
)
VALUES: Final[tuple[Any, ...]] = (
    *TEXTS,
    *(
        "\ud800",
        None,
        True,
        0,
        -1,
        1.5,
        1e300,
        10**30,
        [],
        [1],
        ["x"],
        ["0" * 64] * 1001,
        [[]],
        {},
        {"a": 1},
    ),
)
OTHERS: Final = (*REQUESTS.values(), BucketRestoreRequest, JobRef, Server)
DOCUMENTS: Final = (
    *(Manifest, Verification, AuditEntry, PostgresCapture, BucketCapture, Entry),
    *(PublicKeys, TrustedKeys),
)


def findings(model: type[BaseModel], data: object, *, as_json: bool) -> Iterator[ErrorDetails]:
    """Yield what pydantic finds wrong with data."""
    try:
        if as_json:
            model.model_validate_json(json.dumps(data))
        else:
            model.model_validate(data)
    except ValidationError as exc:
        yield from exc.errors(include_input=False, include_url=False)


@cache
def found(model: type[BaseModel]) -> dict[str, str]:
    """Return the kinds of findings that a model has, each with what we say of the last one."""
    as_json = model in DOCUMENTS
    one_field_wrong = ({field: value} for field in model.model_fields for value in VALUES)
    data = (*one_field_wrong, {"surprise": 1}, *VALUES)
    return {
        fault["type"]: faults.phrase(fault)
        for one in data
        for fault in findings(model, one, as_json=as_json)
    }


@cache
def found_in_settings() -> dict[str, str]:
    """Return the same of settings, which are text."""
    said: dict[str, str] = {}
    for text in TEXTS:
        try:
            Fields(**cast("Any", dict.fromkeys(Fields.model_fields, text)))
        except ValidationError as exc:
            sentences = explain(exc, name=lambda name: f"PGBEN_{name.upper()}")
            kinds = [fault["type"] for fault in exc.errors(include_url=False)]
            kinds = [kind for kind in kinds if kind != "default_factory_not_called"]
            said |= dict(zip(kinds, sentences, strict=True))
    return said


@pytest.mark.parametrize("model", [*OTHERS, *DOCUMENTS], ids=lambda one: one.__name__)
def test_whatever_is_wrong_has_a_phrase_of_ours(model: type[BaseModel]) -> None:
    assert "extra_forbidden" in found(model)
    for kind, said in found(model).items():
        assert said != faults.UNKNOWN, kind
        assert not any(one in said for one in FOREIGN), said


def test_whatever_is_wrong_with_a_setting_has_a_phrase_of_ours() -> None:
    assert "bool_parsing" in found_in_settings()
    for kind, said in found_in_settings().items():
        assert faults.UNKNOWN not in said, kind
        assert not any(one in said for one in FOREIGN), said


def test_what_has_no_phrase_is_not_told_in_the_words_of_a_library() -> None:
    fault: Any = {"type": "of_a_later_version", "loc": ("name",), "msg": "Input should be new"}
    assert faults.of_document(fault) == "name is not valid"


def test_every_phrase_is_met() -> None:
    met = set(found_in_settings()).union(*map(found, (*OTHERS, *DOCUMENTS)))
    assert set(faults.PHRASES) - met == set(), "nothing can call for it"
