"""Claims about rows and objects: what is compared, in which order, and how a file names them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.domain.references import (
    FAULTS,
    Fault,
    ObjectLine,
    Reference,
    ReferenceLine,
    compare,
    encode,
    in_order,
    newly_faulty,
    read_faults,
    read_objects,
    read_references,
    recoverable,
)
from pgben_tasks.errors import ConfigurationError, ManifestInvalid
from pgben_tasks.settings import Settings

BUCKET = "documents"
RULE: dict[str, Any] = {
    "name": "documento",
    "database": "pgben",
    "bucket": BUCKET,
    "table": "public.documento",
    "key": "caminho",
}


def row(key: str, reference: str = "documento", **said: Any) -> ReferenceLine:
    return ReferenceLine(BUCKET, key, reference, f"row of {key}", **said)


def found(
    rows: Iterable[ReferenceLine], objects: Iterable[ObjectLine], **rule: Any
) -> list[tuple[str, str, str | None, str | None]]:
    rules = {"documento": Reference.model_validate({**RULE, **rule})}
    return [
        (one.kind, one.key, one.expected, one.found)
        for one in compare(BUCKET, rows, objects, rules)
    ]


def test_a_row_whose_object_is_as_it_says_is_no_fault() -> None:
    rows = [row("a", size=3, hash="AB"), row("b"), row("b", "thumbnail")]
    objects = [ObjectLine("a", 3, metadata={"Hash": "ab", "iv": "x"}), ObjectLine("b", 9)]
    assert found(rows[:1], objects[:1], hash="h", hash_in="hash", needs=("iv",)) == []
    assert found(rows, objects) == [("hash", "a", "AB", None)], "stored bytes are meant"
    assert found(rows[1:], objects[1:]) == []


@pytest.mark.parametrize(
    ("said", "there", "fault"),
    [
        ({}, None, ("missing", None, None)),
        ({}, ObjectLine("a", 0, error="it was locked"), ("unreadable", None, "it was locked")),
        ({"size": 4}, ObjectLine("a", 3), ("size", "4", "3")),
        ({"hash": "ab"}, ObjectLine("a", 3, "cd"), ("hash", "ab", "cd")),
    ],
)
def test_each_fault_is_told_with_what_was_said_and_found(
    said: dict[str, Any], there: ObjectLine | None, fault: tuple[str, str | None, str | None]
) -> None:
    kind, expected, seen = fault
    objects = [] if there is None else [there]
    assert found([row("a", **said)], objects, hash="h") == [(kind, "a", expected, seen)]


def test_an_object_without_the_metadata_it_needs_cannot_be_read() -> None:
    rule: dict[str, Any] = {"hash": "h", "hash_in": "hash", "needs": ("iv", "hash")}
    bare = ObjectLine("a", 3, metadata={"iv": ""})
    assert found([row("a", hash="ab")], [bare], **rule) == [("metadata", "a", "iv, hash", None)]


def test_objects_that_no_row_names_are_orphans_wherever_they_stand() -> None:
    objects = [ObjectLine(key, 1) for key in ("a", "b", "c", "d")]
    assert [key for _, key, *_ in found([row("b"), row("c")], objects)] == ["a", "d"]
    assert {kind for kind, *_ in found([], objects)} == {"orphan"}
    assert found([], []) == []


KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)


@given(st.lists(KEYS, max_size=20), st.sets(KEYS, max_size=20))
def test_a_comparison_of_streams_says_what_sets_say(rows: list[str], keys: set[str]) -> None:
    lines = sorted(map(row, rows), key=in_order)
    objects = [ObjectLine(key, 1) for key in sorted(keys, key=str.encode)]
    told = found(lines, objects)
    assert sorted(key for kind, key, *_ in told if kind == "missing") == sorted(
        key for key in rows if key not in keys
    )
    assert {key for kind, key, *_ in told if kind == "orphan"} == keys - set(rows)
    assert {kind for kind, *_ in told} <= {"missing", "orphan"}


def test_a_missing_object_is_found_in_the_newest_older_snapshot_that_has_it() -> None:
    missing = [Fault("missing", BUCKET, key) for key in ("a", "b", "c")]
    newer = [ObjectLine("b", 1), ObjectLine("c", 1, error="it was locked")]
    older = [ObjectLine("a", 1), ObjectLine("b", 1), ObjectLine("z", 1)]
    first = list(recoverable(missing, newer, "newer"))
    assert [one.backup for one in first] == [None, "newer", None]
    assert [one.backup for one in recoverable(first, older, "older")] == ["older", "newer", None]


def test_lines_come_back_and_what_is_none_is_refused() -> None:
    line = row("ção\n", size=3, hash="ab")
    fault = Fault("missing", BUCKET, "ção", "documento", "7", backup="x")
    assert list(read_references([encode(line)], where="x")) == [line]
    assert list(read_faults([encode(fault)], where="x")) == [fault]
    for read in (read_references, read_objects, read_faults):
        for bad in (b"", b"{}\n", b'{"key": 3}\n', b"\xff\n", b"[]\n"):
            with pytest.raises(ManifestInvalid, match="'there' is not valid"):
                list(read([bad], where="there"))


# --- the file


def settings_with(path: Path, text: str, **others: str) -> Settings:
    path.write_text(text, encoding="utf-8")
    environment = {"PGBEN_BUCKETS": "documents", **others, "PGBEN_REFERENCES": str(path)}
    return Settings.load(environment)


def test_a_file_of_references_is_read_by_the_names_of_its_tables(tmp_path: Path) -> None:
    text = """
        [documento]
        database = "pgben"
        bucket = "documents"
        table = "public.documento"
        key = "caminho"
        needs = ["iv"]
        [anexo]
        database = "pgben"
        bucket = "documents"
        query = "SELECT caminho FROM public.anexo"
        key = "caminho"
    """
    read = settings_with(tmp_path / "references.toml", text).references
    assert read is not None
    assert [(one.name, one.table, one.needs) for one in read.references] == [
        ("documento", "public.documento", ("iv",)),
        ("anexo", None, ()),
    ]


def test_references_about_what_is_not_protected_are_refused(tmp_path: Path) -> None:
    text = '[one]\ndatabase = "pgbem"\nbucket = "documents"\ntable = "x"\nkey = "k"\n'
    with pytest.raises(ConfigurationError) as caught:
        settings_with(tmp_path / "references.toml", text, PGBEN_BUCKETS="papers")
    assert "PGBEN_REFERENCES: one: the database 'pgbem' is not protected" in str(caught.value)
    assert "PGBEN_REFERENCES: one: the bucket 'documents' is not protected" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ('table = "x"\nquery = "y"', "give `table` or `query`"),
        ("", "give `table` or `query`"),
        ('query = "y"\nwhere = "z"', "`where` goes with `table`"),
        ('table = "x"\nhash_in = "h"', "`hash_in` needs `hash`"),
        ('table = "x"\ncolour = "red"', "colour"),
        ('table = "x"\nsize = 3', "size"),
    ],
)
def test_what_is_no_reference_is_one_sentence(tmp_path: Path, change: str, why: str) -> None:
    text = f'[one]\ndatabase = "d"\nbucket = "b"\nkey = "k"\n{change}\n'
    with pytest.raises(ConfigurationError) as caught:
        settings_with(tmp_path / "references.toml", text)
    assert "PGBEN_REFERENCES names" in str(caught.value)
    assert "one: " in str(caught.value)
    assert why in str(caught.value)


def test_a_file_that_is_not_there_or_no_toml_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        Settings.load({"PGBEN_REFERENCES": str(tmp_path / "absent.toml")})
    with pytest.raises(ConfigurationError, match="is not TOML"):
        settings_with(tmp_path / "references.toml", "[[")


#: Bucket, key, reference, row and kind of a fault.
_FAULTY = st.tuples(
    *(st.sampled_from("ab") for _ in range(3)),
    st.sampled_from(["1", "2", None]),
    st.sampled_from(FAULTS),
)


@given(st.lists(_FAULTY), st.lists(_FAULTY))
def test_rows_with_new_faults_are_those_that_sets_say(
    now: list[tuple[Any, ...]], before: list[tuple[Any, ...]]
) -> None:
    def faults(places: list[tuple[Any, ...]]) -> list[Fault]:
        ordered = sorted(places, key=lambda one: tuple(part or "" for part in one))
        return [Fault(kind, *place) for *place, kind in ordered]

    def rows(places: list[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
        return {(*one[:3], one[3] or "") for one in places if one[4] != "orphan"}

    assert newly_faulty(faults(now), faults(before)) == len(rows(now) - rows(before))
