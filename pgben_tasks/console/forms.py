"""Forms made from the request models of ``contracts``, and requests made from what was typed.

Every field of a form is a field of its model; what kind of input it is follows from its type.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Final, Literal, Union, get_args, get_origin

from pgben_tasks.contracts import (
    AcknowledgeRequest,
    BackupAllRequest,
    BackupRequest,
    BucketRestoreRequest,
    CancelRequest,
    HoldRequest,
    ReportRequest,
    Request,
    RestoreAllRequest,
    RestoreRequest,
    UndoAllRequest,
    UndoRequest,
    VerifyRequest,
)
from pgben_tasks.domain.job import EVERYTHING, JobKind
from pgben_tasks.errors import RequestRefused

Kind = Literal["text", "checkbox", "select", "lines", "names", "hidden"]

#: What the API and the page set themselves, whatever was sent.
SET_HERE: Final = ("requested_by", "idempotency_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input of a form; ``names`` are the names that have to be typed once more.

    ``words`` is the entry of its label (``words.FIELDS``), where that is not its name.
    """

    name: str
    words: str = ""
    kind: Kind
    value: Any = None
    choices: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The inputs for a request of a kind of job; None is a cancellation, which is no job."""

    kind: JobKind | None
    model: type[Request]
    fields: tuple[Field, ...]

    def filled(self, values: Mapping[str, Sequence[str]]) -> Form:
        """Return the form with what was typed, so that nothing is lost by an error."""
        return replace(self, fields=tuple(_filled(one, values) for one in self.fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """What can be chosen of a restore: in place, beside, and of either."""

    model: type[Request]
    in_place: str
    only_in_place: tuple[str, ...]
    only_beside: tuple[str, ...]
    either: tuple[str, ...]
    words: Mapping[str, str]


_DATABASE: Final = _Way(
    model=RestoreRequest,
    in_place="swap",
    only_in_place=(),
    only_beside=("into",),
    either=("roles", "allow_unverified"),
    words={},
)
_OBJECTS: Final = _Way(
    model=BucketRestoreRequest,
    in_place="in_place",
    only_in_place=("delete_extra",),
    only_beside=("into", "put_below"),
    either=("prefix", "keys", "settings", "allow_unverified", "allow_damaged"),
    words={"into": "into_bucket"},
)


def field(model: type[Request], name: str, **more: Any) -> Field:
    """Return the input for one field of a request model."""
    info = model.model_fields[name]
    kind, choices = _input_of(info.annotation)
    known: dict[str, Any] = {"kind": kind, "choices": choices, "value": _plain(info.default)}
    return Field(name=name, **(known | more))


def hidden(model: type[Request], **values: str) -> tuple[Field, ...]:
    """Return hidden inputs with these values."""
    return tuple(field(model, name, kind="hidden", value=text) for name, text in values.items())


def backup_form(targets: Iterable[str], *, points: bool, chosen: str | None) -> Form:
    """Return the form that backs up one target, or everything where that forms points."""
    choices = (*((EVERYTHING,) if points else ()), *targets)
    target = field(BackupRequest, "target", kind="select", choices=choices, value=chosen)
    return Form(kind="backup", model=BackupRequest, fields=(target,))


def verify_form(targets: Iterable[str], *, chosen: str | None, backup: str | None) -> Form:
    """Return the form that verifies one backup, one target or everything."""
    target = field(
        VerifyRequest,
        "target",
        kind="select",
        choices=(EVERYTHING, *targets),
        value=chosen or EVERYTHING,
    )
    fields: tuple[Field, ...] = (target, field(VerifyRequest, "level"))
    if backup is not None and chosen is not None:
        fields = (
            *hidden(VerifyRequest, target=chosen, backup=backup),
            field(VerifyRequest, "level", value="full"),
        )
    return Form(kind="verify", model=VerifyRequest, fields=fields)


def restore_form(target: str, backup: str, *, in_place: bool, name: str) -> Form:
    """Return the form of a restore of one backup; in place ``name`` is typed once more."""
    way = _OBJECTS if target.startswith("bucket/") else _DATABASE
    model, replacing = way.model, {way.in_place: "true"} if in_place else {}
    fields = list(hidden(model, target=target, backup=backup, **replacing))
    if in_place:
        fields.append(field(model, "confirm", required=True, names=(name,)))
    chosen = way.only_in_place if in_place else way.only_beside
    fields += [field(model, one, words=way.words.get(one, "")) for one in (*chosen, *way.either)]
    return Form(kind="restore", model=model, fields=tuple(fields))


def restore_all_form(point: str, *, in_place: bool, names: Sequence[str]) -> Form:
    """Return the form of a restore of everything; in place all ``names`` are typed once more."""
    model = RestoreAllRequest
    fields = list(hidden(model, point=point, **({"in_place": "true"} if in_place else {})))
    if in_place:
        fields.append(field(model, "confirm", kind="names", names=tuple(names), required=True))
    fields += [field(model, "roles"), field(model, "settings")]
    return Form(kind="restore_all", model=model, fields=tuple(fields))


def undo_form(target: str, job: str, *, name: str) -> Form:
    """Return the form that turns a swap back."""
    fields = (
        *hidden(UndoRequest, target=target, job=job),
        field(UndoRequest, "confirm", required=True, names=(name,)),
    )
    return Form(kind="undo", model=UndoRequest, fields=fields)


def undo_all_form(job: str, *, names: Sequence[str]) -> Form:
    """Return the form that turns every swap of a restore of everything back."""
    fields = (
        *hidden(UndoAllRequest, job=job),
        field(UndoAllRequest, "confirm", kind="names", names=tuple(names), required=True),
    )
    return Form(kind="undo_all", model=UndoAllRequest, fields=fields)


def acknowledge_form(target: str, backup: str) -> Form:
    """Return the form that says that a suspect backup is plausible."""
    fields = (
        *hidden(AcknowledgeRequest, target=target, backup=backup),
        field(AcknowledgeRequest, "reason", required=True),
    )
    return Form(kind="acknowledge", model=AcknowledgeRequest, fields=fields)


def report_form() -> Form:
    """Return the form that makes a report."""
    return Form(kind="report", model=ReportRequest, fields=(field(ReportRequest, "mail"),))


def hold_form(target: str, backup: str) -> Form:
    """Return the form that keeps a backup from being pruned."""
    fields = (
        *hidden(HoldRequest, target=target, backup=backup),
        field(HoldRequest, "keep_for", required=True, value="14d"),
        field(HoldRequest, "label"),
        field(HoldRequest, "reason", required=True),
    )
    return Form(kind="hold", model=HoldRequest, fields=fields)


def release_form(target: str, backup: str) -> Form:
    """Return the form that ends a hold."""
    fields = (
        *hidden(HoldRequest, target=target, backup=backup, release="true"),
        field(HoldRequest, "reason", required=True),
    )
    return Form(kind="hold", model=HoldRequest, fields=fields)


def cancel_form(job: str) -> Form:
    """Return the form that cancels a job."""
    return Form(kind=None, model=CancelRequest, fields=hidden(CancelRequest, job=job))


def read(form: Form, values: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the fields of a request from what was typed; empty ones are left out.

    Raises ``RequestRefused`` for a field that the form does not have, and for names that were not
    typed as they are.
    """
    known = {one.name: one for one in form.fields}
    strange = sorted(set(values) - set(known))
    if strange:
        raise RequestRefused(
            "the form was sent with a field that it does not have",
            "open the page again and fill the form in there",
        )
    found: dict[str, Any] = {}
    for name, one in known.items():
        typed = [text.strip("\r\n") for text in values.get(name, ())]
        if one.kind == "lines":
            typed = [line for text in typed for line in text.splitlines() if line]
        typed = [text for text in typed if text]
        if one.kind == "checkbox" and one.value is True and not typed:
            # A box that was ticked, and is not any more: browsers send nothing for it.
            found[name] = False
        if not typed:
            continue
        kind, _choices = _input_of(form.model.model_fields[name].annotation)
        wrong = [text for text, wanted in zip_longest(typed, one.names) if text != wanted]
        if one.names and wrong:
            raise RequestRefused(
                f"not confirmed: {', '.join(one.names)}",
                "nothing was changed; type each name exactly as it is written",
            )
        if kind in {"lines", "names"}:
            found[name] = typed
        elif kind == "checkbox":
            found[name] = typed[-1] == "true"
        else:
            found[name] = typed[-1]
    return found


def request_of(
    form: Form, found: Mapping[str, Any], *, who: str, key: str
) -> tuple[JobKind, Request]:
    """Return the kind of job and the checked request for the fields of a form.

    Everything as a target is another request. Raises ``RequestRefused`` for what cannot be.
    """
    kind, model = form.kind, form.model
    fields = {**found, "requested_by": who, "idempotency_key": key}
    if fields.get("target") == EVERYTHING:
        del fields["target"]
        if model is BackupRequest:
            kind, model = "point", BackupAllRequest
    if kind is None:
        raise RequestRefused("a cancellation is no job", "send it as one")
    return kind, model.parse(fields)


def _filled(one: Field, values: Mapping[str, Sequence[str]]) -> Field:
    if one.kind == "hidden":
        return one
    if one.kind == "checkbox":
        return replace(one, value="true" in values.get(one.name, ()))
    if one.name not in values:
        return one
    typed = tuple(values[one.name])
    return replace(one, value=typed if one.kind == "names" else typed[-1])


def _input_of(annotation: Any) -> tuple[Kind, tuple[str, ...]]:
    """Return the kind of input for a type, and the choices of a ``Literal``."""
    if annotation is bool:
        return "checkbox", ()
    origin = get_origin(annotation)
    if origin is Literal:
        return "select", tuple(str(one) for one in get_args(annotation))
    if origin in {Union, types.UnionType}:
        (inner,) = [one for one in get_args(annotation) if one is not type(None)]
        return _input_of(inner)
    if origin is tuple:
        return "lines", ()
    metadata = getattr(annotation, "__metadata__", None)
    return _input_of(annotation.__origin__) if metadata is not None else ("text", ())


def _plain(default: Any) -> Any:
    return default if isinstance(default, str | bool) else None
