"""Forms of the console are made from request models, and requests from what was typed."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from pgben_tasks.console import forms
from pgben_tasks.console.api import KINDS, request_fields
from pgben_tasks.console.words import FIELDS, Words
from pgben_tasks.contracts import (
    BackupAllRequest,
    BackupRequest,
    BucketRestoreRequest,
    RestoreAllRequest,
    RestoreRequest,
)
from pgben_tasks.errors import RequestRefused
from pgben_tasks.names import CANCEL_RUN, ENTRY_TASKS

pytestmark = pytest.mark.unit

JOB = "3f0c9a2b-1111-4222-8333-444444444444"
BACKUP = "20261123T050000Z-1f0c9a"
ALL = [
    forms.backup_form(["postgres/pgben"], points=True, chosen=None),
    forms.verify_form(["postgres/pgben"], chosen=None, backup=None),
    forms.verify_form(["postgres/pgben"], chosen="postgres/pgben", backup=BACKUP),
    forms.restore_form("postgres/pgben", BACKUP, in_place=False, name="pgben"),
    forms.restore_form("postgres/pgben", BACKUP, in_place=True, name="pgben"),
    forms.restore_form("bucket/papers", BACKUP, in_place=False, name="papers"),
    forms.restore_form("bucket/papers", BACKUP, in_place=True, name="papers"),
    forms.restore_all_form(BACKUP, in_place=False, names=["pgben", "papers"]),
    forms.restore_all_form(BACKUP, in_place=True, names=["pgben", "papers"]),
    forms.undo_form("postgres/pgben", JOB, name="pgben"),
    forms.undo_all_form(JOB, names=["pgben"]),
    forms.acknowledge_form("postgres/pgben", BACKUP),
    forms.hold_form("postgres/pgben", BACKUP),
    forms.release_form("postgres/pgben", BACKUP),
    forms.cancel_form(JOB),
    forms.report_form(),
]


@pytest.mark.parametrize("form", ALL, ids=lambda form: form.model.__name__)
def test_every_input_is_a_field_of_the_model_and_has_a_label(form: forms.Form) -> None:
    assert {one.name for one in form.fields} <= set(form.model.model_fields)
    assert {one.name for one in form.fields if one.kind != "hidden"} <= set(FIELDS)
    assert not {one.name for one in form.fields} & set(forms.SET_HERE)


def sent(form: forms.Form, **typed: str | list[str]) -> dict[str, list[str]]:
    """Return what a browser sends: what is hidden, and what was typed."""
    hidden = {one.name: [str(one.value)] for one in form.fields if one.kind == "hidden"}
    return hidden | {
        name: some if isinstance(some, list) else [some] for name, some in typed.items()
    }


def test_a_box_that_is_ticked_at_first_says_no_when_it_is_not_any_more() -> None:
    form = forms.report_form()
    assert forms.read(form, {"mail": ["true"]}) == {"mail": True}
    assert forms.read(form, {}) == {"mail": False}


def test_a_backup_is_held_and_released() -> None:
    for form, typed, expected in (
        (
            forms.hold_form("postgres/pgben", BACKUP),
            {"keep_for": "14d", "label": "release-42", "reason": "x"},
            {"keep_for": timedelta(days=14), "label": "release-42", "release": False},
        ),
        (
            forms.release_form("postgres/pgben", BACKUP),
            {"reason": "x"},
            {"keep_for": None, "label": None, "release": True},
        ),
    ):
        found = forms.read(form, sent(form, **typed))
        kind, request = forms.request_of(form, found, who="ana", key="k")
        assert kind == "hold"
        assert expected.items() <= request.model_dump().items()
    held = {"until": "2026-12-15T03:00:00Z", "label": "release-42", "by": "ana"}
    english = Words(language="en", zone=ZoneInfo("America/Fortaleza"))
    assert english.value(held, "hold") == "until 2026-12-15 00:00 by ana, release-42"
    endless = {"until": None, "label": None, "by": None}
    assert english.hold(endless) == "until it is released"
    assert Words(language="pt_BR", zone=english.zone).hold(endless) == "até ser liberado"


def test_who_asks_and_the_key_are_the_consoles() -> None:
    form = ALL[3]
    kind, request = forms.request_of(
        form, forms.read(form, sent(form, into="copy")), who="ana", key="console:1"
    )
    assert kind == "restore"
    assert isinstance(request, RestoreRequest)
    assert (request.requested_by, request.idempotency_key) == ("ana", "console:1")
    assert (request.target, request.backup, request.into) == ("postgres/pgben", BACKUP, "copy")
    assert not request.swap


def test_an_empty_input_is_no_value_and_a_restore_in_place_is_one() -> None:
    form = ALL[4]
    found = forms.read(form, sent(form, confirm="pgben", roles="true"))
    _, request = forms.request_of(form, found, who="ana", key="k")
    assert isinstance(request, RestoreRequest)
    assert (request.swap, request.confirm, request.roles) == (True, "pgben", True)
    found = forms.read(form, sent(form, confirm=""))
    assert "confirm" not in found


def test_lines_and_names_are_lists() -> None:
    form = ALL[5]
    found = forms.read(form, sent(form, keys="a b\r\nação\r\n\r\n", prefix=""))
    _, request = forms.request_of(form, found, who="ana", key="k")
    assert isinstance(request, BucketRestoreRequest)
    assert request.keys == ("a b", "ação")
    form = ALL[8]
    _, whole = forms.request_of(
        form, forms.read(form, sent(form, confirm=["pgben", "papers"])), who="ana", key="k"
    )
    assert isinstance(whole, RestoreAllRequest)
    assert whole.confirm == ("pgben", "papers")


def test_everything_as_a_target_is_the_recovery_point() -> None:
    form = ALL[0]
    kind, request = forms.request_of(form, {"target": "*"}, who="ana", key="k")
    assert (kind, type(request)) == ("point", BackupAllRequest)
    kind, request = forms.request_of(form, {"target": "postgres/pgben"}, who="ana", key="k")
    assert (kind, type(request)) == ("backup", BackupRequest)


@pytest.mark.parametrize("name", ["requested_by", "idempotency_key", "swap", "queue", "part_of"])
def test_a_field_that_the_form_does_not_have_is_refused(name: str) -> None:
    form = ALL[3]
    with pytest.raises(RequestRefused):
        forms.read(form, sent(form, **{name: "true"}))


def test_what_was_typed_is_kept_for_the_form_that_is_shown_again() -> None:
    form = ALL[5].filled({"into": ["Bad Name"], "keys": ["a\nb"], "settings": ["true"]})
    shown = {one.name: one.value for one in form.fields}
    assert (shown["into"], shown["keys"], shown["settings"]) == ("Bad Name", "a\nb", True)
    assert (shown["target"], shown["allow_damaged"]) == ("bucket/papers", False)


@pytest.mark.parametrize(
    "body",
    [
        {"target": "postgres/pgben"},
        {"args": [{"target": "postgres/pgben"}]},
        {"kwargs": {"target": "postgres/pgben"}},
        {"kwargs": {"request": {"target": "postgres/pgben"}}},
        {"args": [{"target": "postgres/pgben"}], "kwargs": {}, "queue": "evil", "link": []},
    ],
)
def test_the_api_takes_the_request_itself_or_as_arguments(body: dict[str, object]) -> None:
    assert request_fields(body) == {"target": "postgres/pgben"}


@pytest.mark.parametrize(
    "body",
    [
        {"args": "x"},
        {"args": [{}, {}]},
        {"kwargs": []},
        {"args": [1]},
        {"args": [{"target": "a"}], "kwargs": {"target": "b"}},
    ],
)
def test_the_api_refuses_what_is_no_request(body: dict[str, object]) -> None:
    with pytest.raises(RequestRefused):
        request_fields(body)


def test_the_api_knows_the_kind_of_every_entry_task() -> None:
    assert set(KINDS) == set(ENTRY_TASKS) - {CANCEL_RUN}
