"""Every table of the command line on a terminal of 80 columns: whole words, whole ids."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.text import Text

from pgben_tasks.cli.commands import (
    alarms,
    backups,
    catalog,
    databases,
    health,
    objects,
    restore,
    setup,
)
from pgben_tasks.cli.demo import up
from pgben_tasks.cli.view import (
    history as ended,
    object_history as history,
    outcome,
    output,
    tables,
)
from pgben_tasks.domain.alarm import Alarm, Delivery, KeptAlarm
from pgben_tasks.domain.buckets.history import Changes, Part, Span
from pgben_tasks.domain.buckets.restore_plan import PlanTotals
from pgben_tasks.domain.documents import TableCount
from pgben_tasks.domain.history import Line
from pgben_tasks.domain.job import Job, StepRun
from pgben_tasks.domain.kept_databases import FoundDatabase, KeptDatabase
from pgben_tasks.domain.listing import Listed
from pgben_tasks.domain.states import BackupStanding, KnownBackup, State, state_of
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.health.doctor.report import Result
from pgben_tasks.operations.points.restore import WARNING
from pgben_tasks.settings import Settings
from tests.support import samples
from tests.unit.test_cli_output import FORTALEZA, NOW, job

COLUMNS = 80
LONGEST = "bucket/pgben-documentos-do-cadastro-unico-de-fortaleza-e-regiao-2026"
PACK = f"packs/{LONGEST}/20261123T050000Z-1f0c9a/00000017-000001.tar.age"
SENTENCE = (
    "'postgres/pgben' cannot be swapped: 3 sessions are connected (pid 1042, 1043, 1044), and "
    "'pgben_replaced_20261123_020000' exists already; `pgben restore pgben --in-place --confirm "
    "pgben` begins again"
)


def lines(part: RenderableType, *, width: int = COLUMNS) -> list[str]:
    if isinstance(part, Text):
        return [line.plain for line in tables.wrap(part, width)]
    # A console of this width would hide a line that is too long: it breaks it once more.
    console = Console(width=width)
    assert isinstance(part, tables.Listing | tables.Facts)
    return [line.plain for line in part.__rich_console__(console, console.options)]


def words(part: RenderableType) -> Iterator[str]:
    """Yield every word that a table was given."""
    cells: list[Text] = []
    if isinstance(part, tables.Listing):
        cells = [cell for row in part._rows for cell in row]
    if isinstance(part, tables.Facts):
        cells = [cell for pair in part._pairs for cell in pair]
    for cell in cells:
        yield from cell.plain.split()


def check(parts: Iterable[RenderableType]) -> str:
    """Return what is shown, when no line is too long and every word that fits a line is whole."""
    said = ""
    for part in parts:
        shown = lines(part)
        text = "\n".join(shown)
        assert max(map(cell_len, shown), default=0) <= COLUMNS, text
        together = text.split()
        for word in words(part):
            if cell_len(word) <= COLUMNS - 4:
                assert word in together or word in {"", "-"}, (word, text)
            else:
                assert word in text.replace("\n", "").replace(" ", ""), (word, text)
        if isinstance(part, tables.Listing):
            names = {word for name in part._head for word in name.plain.split()}
            assert set(shown[1 if part._title else 0].split()) <= names, text
        said += text + "\n"
    return said


def listed(**fields: Any) -> Listed:
    values: dict[str, Any] = {
        "target": LONGEST,
        "backup": "20261123T050000Z-1f0c9a",
        "state": "verified (unopened)",
        "taken": NOW,
        "stored_bytes": 123_456_789_012,
        "objects": 1_234_567,
    }
    return Listed(**(values | fields))


def test_the_list_has_a_table_for_each_target_and_moments_with_their_zone() -> None:
    found = [
        listed(),
        listed(backup="20261122T050000Z-2f0c9a", suspect="99.7 % fewer objects than before"),
        listed(state="unreadable", taken=None, stored_bytes=None, detail=SENTENCE),
        listed(
            target="postgres/pgben",
            state="not restorable here",
            needs="a PostgreSQL client of version 17 or newer built with zstd",
        ),
    ]
    said = check(backups._tables_of_targets(found, FORTALEZA))
    assert said.count(LONGEST) == 1
    row = "20261123T050000Z-1f0c9a  2026-11-23 02:00-03:00  verified (unopened)  115 GiB"
    assert any(line.startswith(row) for line in said.splitlines())
    (wide,) = backups._wide_table(found, FORTALEZA)
    assert len(lines(wide, width=output._UNBOUNDED)) == 2 + len(found)


def jobs() -> list[Job]:
    error = {"type": "RestoreRefused", "sentence": SENTENCE, "hint": "do it again"}
    made = [
        job(backup="20261123T050000Z-1f0c9a", requested_by="operacao.plantao@vm-backup-01"),
        job(target=LONGEST, backup="20261123T050000Z-1f0c9a", kind="acknowledge"),
        job(kind="restore", state="refused", error=error, target=LONGEST),
        job(kind="verify", target="*", state="running", ended_at=None, step="pgben.verify.examine"),
        job(kind="restore", result={"into": "pgben_restored_20261123_020000"}),
        job(kind="restore", request={"swap": True}, result={"into": "pgben"}),
        job(kind="restore", request={"swap": True}, result={"into": "pgben"}),
    ]
    return [
        Job(
            **{**{name: getattr(one, name) for name in Job.__slots__}, "id": UUID(int=number << 96)}
        )
        for number, one in enumerate(made, 1)
    ]


def test_jobs_show_what_they_did_below_them_where_it_is_long() -> None:
    found = jobs()
    swaps = {found[5].id: "done", found[6].id: "undone"}
    shown = outcome.jobs_table(found, FORTALEZA, wide=False, swaps=swaps)  # type: ignore[arg-type]
    said = check([shown])
    for one in found:
        assert re.search(rf"^{str(one.id)[:8]}  \S+ ", said, re.MULTILINE)
    assert "00000001  succeeded  2026-11-23 02:00-03:00  backup of postgres/pgben\n" in said
    assert "    took 1 min 23 s; 20261123T050000Z-1f0c9a\n" in said
    assert "step examine\n" in said
    assert "beside → pgben_restored_20261123_020000\n" in said
    assert "took 1 min 23 s; in place\n" in said
    assert "took 1 min 23 s; undone\n" in said
    assert "`pgben restore pgben --in-place --confirm pgben`" in said


def test_what_a_service_is_told_to_give_is_shown_as_it_is_typed() -> None:
    error = {"type": "RequestMistaken", "sentence": "'postgres' is taken; give another `into`"}
    refused = job(kind="restore", state="refused", error=error)
    said = check([outcome.jobs_table([refused], FORTALEZA, wide=False)])
    assert "'postgres' is taken; give another `--into`\n" in said


def test_what_a_restore_did_is_in_its_json() -> None:
    beside, swapped = jobs()[4:6]
    assert outcome.job_document(beside)["restored"] == {
        "how": "beside",
        "into": "pgben_restored_20261123_020000",
    }
    assert outcome.job_document(swapped)["restored"] == {"how": "in place", "into": "pgben"}
    undone = outcome.job_document(swapped, swap="undone")["restored"]
    assert undone == {"how": "undone", "into": "pgben"}
    documents = job(kind="restore", target="bucket/papers", request={"in_place": True})
    assert outcome.job_document(documents)["restored"] == {"how": "in place", "into": "papers"}
    failed = job(kind="restore", state="failed", result={"into": "pgben_new"})
    assert outcome.job_document(failed)["restored"] is None
    # It failed after the names were exchanged.
    late = job(kind="restore", state="failed", request={"swap": True})
    assert outcome.job_document(late, swap="done")["restored"] == {
        "how": "in place",
        "into": "pgben",
    }
    assert outcome.job_document(job())["restored"] is None


def test_the_steps_of_a_job_fit() -> None:
    steps = [
        StepRun(
            attempt=12,
            name=f"pgben.restore.bucket.replace.{name}",
            state="failed",
            node="vm-backup-restauracao-01.fortaleza.example.org",
            started_at=NOW,
            ended_at=NOW + timedelta(hours=27),
            result={},
        )
        for name in ("aside", "finish")
    ]
    check([outcome.step_table(steps, FORTALEZA)])


def ends() -> Iterator[Job]:
    finding = {"kind": "missing", "path": PACK, "detail": SENTENCE}
    yield job(
        kind="verify",
        target="*",
        state="failed",
        result={
            "level": "full",
            "findings": [finding],
            "findings_known": [finding],
            "findings_total": 3,
            "not_covered_total": 1,
            "not_covered": [PACK],
            "not_restorable": [
                {"target": LONGEST, "backup": "20261123T050000Z-1f0c9a", "needs": SENTENCE}
            ],
        },
    )
    decision = {"backup": "20261123T050000Z-1f0c9a", "decision": "expire", "reasons": SENTENCE}
    yield job(kind="prune", result={"prune": {"decisions": [decision], "expired": []}})
    left = {"path": PACK, "kind": "upload", "decision": "remove", "reasons": SENTENCE}
    counts = {"removed": 1, "would_remove": 0, "bytes": 2048, "kept": 3, "skipped": None}
    yield job(kind="sweep", target=LONGEST, result={"sweep": {**counts, "decisions": [left]}})
    yield job(
        kind="restore",
        target=LONGEST,
        result={
            **{name: 1_234_567_890 for name, (_, kind) in outcome._RESULT_WORDS.items() if kind},
            "kept_until": NOW.isoformat(),
            "moment": NOW.isoformat(),
            "snapshot_time": NOW.isoformat(),
            "into": LONGEST,
            "aside_further": [LONGEST, LONGEST],
            "settings_refused": ["lock", "policy"],
            "roles_refused": [f"role '{LONGEST}': {SENTENCE}"] * 2,
            "not_in_point": [LONGEST, LONGEST],
            "note": SENTENCE,
            "hold": {"until": "2026-12-15T00:00:00Z", "label": LONGEST, "by": SENTENCE},
        },
    )
    nowhere = {"job": "1f0c9a2b", "into": None}
    yield job(kind="undo_all", target="*", result={"databases": {LONGEST: nowhere}})
    part = {"into": LONGEST, "replaced": LONGEST, "aside": LONGEST, "added": 10**9, "written": 1}
    refused = {"roles_refused": [f"role '{LONGEST}': {SENTENCE}"]}
    yield job(
        kind="restore_all",
        target="*",
        result={
            "point": "20261123T050000Z-1f0c9a",
            "databases": {LONGEST: {**part, **refused}},
            "buckets": {
                LONGEST: {
                    **part,
                    "added_list": f"{LONGEST}/added.jsonl",
                    "tags_not_kept": 10**9,
                    "settings_refused": ["lock", "policy"],
                }
            },
            "warning": WARNING,
            "check": {"references": 10**9, "objects": 10**9, "missing": 10**6, "orphan": 1},
            "state": "replaced",
        },
    )


@pytest.mark.parametrize("ended", list(ends()), ids=lambda one: one.kind)
def test_the_end_of_a_job_fits(ended: Job) -> None:
    said = check(outcome.job_tables(ended, zone=FORTALEZA))
    assert "(s)" not in said
    if ended.kind == "prune":
        assert "0 of 1 backup removed" in said
    if ended.kind == "restore_all":
        assert "1,000,000,000 rows compared with their objects; not as they say" in said
        assert "orphan" not in said
    if ended.kind == "verify":
        assert "not covered: 1 file that no signed document names" in said


def test_one_backup_fits() -> None:
    tables_of = tuple(
        TableCount(schema_name="cadastro", table=f"{'historico_' * 5}{number}", rows=10**number)
        for number in range(9)
    )
    manifest = samples.manifest(
        target="postgres/pgben",
        recipients=(samples.RECIPIENT, samples.RECIPIENT),
        postgres=samples.capture(tables=tables_of),
        suspect=SENTENCE,
        job=str(job().id),
    )
    finding = {"kind": "missing", "path": PACK, "detail": SENTENCE}
    statements = [
        samples.verification(kind="acknowledgement", reasons=("acknowledged by ana@host", "ok")),
        samples.verification(kind="full", findings=(finding,), bytes_read=10**12),
    ]
    standing = state_of(manifest, statements)
    now = ("not restorable here", "a PostgreSQL client of version 17 or newer built with zstd")
    said = check(backups._backup_tables(manifest, statements, standing, now, FORTALEZA))
    assert "in 1 pack\n" in said


def test_alarms_fit() -> None:
    facts = {"sentence": SENTENCE}
    alarm = Alarm(
        key="x", kind="refused", target=LONGEST, happened_at=NOW, job=job().id, facts=facts
    )
    told = Delivery(
        channel="json://receiver.example.org:8080 #2",
        told_at=NOW,
        last_sent_at=NOW,
        reminders=12,
        over_at=None,
        tries=0,
        next_try_at=NOW,
        last_error=None,
    )
    waits = replace(told, told_at=None, tries=7, last_error=SENTENCE, channel="mail")
    one = KeptAlarm(
        id=1,
        alarm=alarm,
        episode=1,
        raised_at=NOW,
        absent_since=None,
        cleared_at=None,
        deliveries=(told, waits),
    )
    found = [one, replace(one, cleared_at=NOW + timedelta(hours=1)), replace(one, deliveries=())]
    said = check([alarms._listing(found, FORTALEZA, wide=False)])
    assert "1f0c9a2b" in said
    assert "reminded 12" in said


def test_settings_fit() -> None:
    settings = Settings.load(
        {
            "PGBEN_DB_NAME": "pgben,cadastro_unico_de_beneficios,historico_de_pagamentos",
            "PGBEN_REPOSITORY": f"file:///{'srv/backup/repositorio/' * 6}",
            "PGBEN_AGE_RECIPIENTS": samples.RECIPIENT,
        }
    )
    said = check([backups._settings_table(settings.rows())])
    assert "America/Fortaleza" in said


def test_a_rebuilt_index_and_its_breaks_fit() -> None:
    states = {
        "verified": 30,
        "verified (unopened)": 1,
        "damaged": 1,
        "missing": 2,
        "expired": 1234,
        "not restorable here": 1,
    }
    index = SimpleNamespace(target=LONGEST, states=states, suspects=1)
    target = SimpleNamespace(index=index, added=1269, changed=0, sequence=1269)
    done: Any = SimpleNamespace(targets=[target])
    said = check([catalog._counts_in_words(done, "what the index holds")])
    assert "30 verified, 1 verified (unopened), 1 damaged" in " ".join(said.split())
    lines(catalog._counts_by_state(done, "what the index holds"), width=output._UNBOUNDED)


def test_who_holds_what_fits() -> None:
    worker = {
        "PGBEN_AGE_RECIPIENTS": samples.RECIPIENT,
        "PGBEN_AGE_IDENTITY_FILE": "/keys/content-identity.txt",
        "PGBEN_INVENTORY_IDENTITY_FILE": "/keys/inventory-identity.txt",
        "PGBEN_SIGNING_KEY_FILE": "/keys/signing-key-maintenance.pem",
        "PGBEN_TRUSTED_KEYS_FILE": "/keys/trusted-keys.json",
    }
    result: Any = SimpleNamespace(workers={"maintenance": worker, "backup": worker})
    said = check([setup._placement(result)])
    assert "trusts: trusted-keys.json" in said


def test_the_plan_of_a_restore_in_place_fits() -> None:
    totals = PlanTotals(
        dict.fromkeys(restore._SHOWN, 1_234_567), dict.fromkeys(restore._SHOWN, 10**12)
    )
    check([output.table(("objects", "bytes", "what"), restore._rows(totals))])


@given(
    st.lists(st.lists(st.text("añ/ -`字", max_size=90), min_size=4, max_size=4), max_size=4),
    st.integers(1, 3),
    st.integers(24, 90),
)
def test_no_table_is_wider_than_its_screen(rows: list[list[str]], below: int, width: int) -> None:
    shown = lines(output.table(("job", "state", "what", "outcome"), rows, below=below), width=width)
    assert max(map(cell_len, shown)) <= width
    # Nothing is lost: every letter of every cell is there.
    written, given_ = (
        Counter("".join(shown)),
        Counter(sign for row in rows for sign in "".join(row)),
    )
    assert all(written[sign] >= given_[sign] for sign in "ñ/`字")


def test_a_word_longer_than_a_line_is_broken_behind_a_slash() -> None:
    broken = tables.wrap(Text(PACK), 76)
    assert [line.plain[-1] for line in broken[:-1]] == ["/"] * (len(broken) - 1)
    assert "".join(line.plain for line in broken) == PACK


def test_databases_say_what_becomes_of_them_in_words() -> None:
    def one(**fields: Any) -> KeptDatabase:
        found = FoundDatabase(
            name="pgben_replaced_20261123_020000", oid=1, size=3000, sessions=0, is_open=False
        )
        values: dict[str, Any] = {"target": Target.parse("postgres/pgben"), "origin": "replaced"}
        values |= {"found": found, "since": NOW, "until": NOW, "job": UUID(int=1)}
        return KeptDatabase(**{**values, "kept_because": None, **fields})

    found = [one(), one(until=None, kept_because="root@vm wanted that")]
    said = check([databases._listing(found, FORTALEZA, wide=False)])
    assert f"\n    is removed {output.minute(NOW, FORTALEZA)}\n" in said
    assert "stays: root@vm wanted that" in said


def test_what_does_not_fit_beside_an_address_has_its_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def narrow(*, wide: bool = False) -> Console:
        return Console(file=sys.stdout, width=COLUMNS)

    monkeypatch.setattr(output, "out", narrow)
    server = {
        "address": "http://127.0.0.1:20598",
        "user": "pgben04b4ea0e9352",
        "password": "d" * 40,
    }
    up._show({"S3, documents": server}, Path("pgben.env"), {}, as_json=False)
    assert f"    password: {'d' * 40}\n" in capsys.readouterr().out


@pytest.mark.parametrize("language", ["en", "pt_BR"])
def test_the_doctor_breaks_no_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, language: Any
) -> None:
    monkeypatch.setattr(output, "out", lambda: Console(file=sys.stdout, width=COLUMNS))
    said = " ".join(["the catalog is lost together with it"] * 4)
    result = Result(status="warning", code="lost", sentence=said, hint=f"`pgben init`, {said}")
    health._show_results([result], language=language)
    shown = capsys.readouterr().out.splitlines()
    assert max(map(len, shown)) <= COLUMNS
    assert " ".join(" ".join(shown[:-1]).split()) == f"! {said} `pgben init`, {said}"
    assert shown[1].startswith("  ")


def test_a_reason_of_the_status_goes_on_where_it_began(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "out", lambda **_: Console(file=sys.stdout, width=COLUMNS))
    output.show([Text("  " + "word " * 30)])
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 2
    assert all(re.match("  w", line) for line in shown)


def test_what_an_object_carries_is_written_line_by_line() -> None:
    entry = SimpleNamespace(
        size=6838,
        sha256="bf" * 32,
        modified=NOW,
        headers={"content-type": "application/pdf"},
        metadata={"iv": "ac7c", "encrypted": "true"},
        tags={},
    )
    carried: Any = entry
    said = check([output.facts(objects._shown(carried, FORTALEZA))])
    assert output.moment(NOW, FORTALEZA) in said
    assert "header    content-type: application/pdf" in said
    assert "metadata  iv: ac7c" in said
    assert "{" not in said


def test_a_name_is_whole_where_its_value_has_room() -> None:
    shown = [("pgben.restore.bucket.replace.finish", "3.8 s"), ("objects as they were", "326")]
    assert lines(output.facts(shown))[0] == "pgben.restore.bucket.replace.finish  3.8 s"
    # A long word of a value keeps its share.
    assert len(lines(output.facts([*shown, ("key", "d" * 46)]))) > 3


def a_night(number: int, **fields: Any) -> Any:
    part = Part(objects=123_456, bytes=10**12)
    changes = Changes(
        known=1_234_567,
        added=Part(objects=9_999, bytes=10**12),
        changed=part,
        retagged=Part(objects=99_999, bytes=1),
        deleted=part,
        not_compared=0,
    )
    values: dict[str, Any] = {
        "id": BackupId.make(NOW + timedelta(days=number), "1f0c9a"),
        "moment": NOW,
        "standing": BackupStanding(state=State.VERIFIED_EXCEPTIONS),
        "capture": SimpleNamespace(objects=1_234_567, bytes=10**12, unreadable=0),
        "changes": changes,
        "compared_with": BackupId.make(NOW + timedelta(days=number - 1), "1f0c9a"),
        "fault": None,
    }
    return SimpleNamespace(**(values | fields))


def test_the_nights_of_a_bucket_fit_and_say_what_is_odd() -> None:
    share = Decimal("0.2")
    found = [
        a_night(5),
        a_night(4, standing=BackupStanding(state=State.VERIFIED, suspect=SENTENCE)),
        a_night(2, standing=None, moment=None, capture=None, changes=None, fault=SENTENCE),
        a_night(1, changes=None, compared_with=None),
    ]
    narrow = history.nights_table(found, share, FORTALEZA, wide=False)
    said = check([narrow])
    assert (
        "20261128T050000Z-1f0c9a  2026-11-23 02:00-03:00  9,999  123,456  99,999  123,456\n" in said
    )
    assert "    verified with exceptions, 1,234,567 objects, 931 GiB" in said
    assert "suspect: 'postgres/pgben' cannot" in said
    assert "compared with 20261126T050000Z-1f0c9a" in " ".join(said.split())
    assert "unreadable; cannot be read: 'postgres/pgben'" in said
    assert "nothing older to compare with" in " ".join(said.split())
    assert "changed much" not in said
    # Without colours the note tells it, with them the numbers stand out.
    strict = history.nights_table(found, Decimal("0.1"), FORTALEZA, wide=False)
    assert "changed much: 123456 of 1234567 known objects" in " ".join(check([strict]).split())
    assert isinstance(strict, tables.Listing)
    assert isinstance(narrow, tables.Listing)
    assert [str(span.style) for cell in strict._rows[0][2:6] for span in cell.spans] == [
        "bold yellow",
        "bold yellow",
    ]
    assert not any(cell.spans for cell in narrow._rows[0][2:6])
    wide = "\n".join(lines(history.nights_table(found, share, FORTALEZA, wide=True), width=1000))
    for word in ("bytes added", "bytes changed", "bytes deleted", "931 GiB"):
        assert word in wide


def test_the_history_fits_and_says_why_something_failed() -> None:
    usual: dict[str, Any] = {
        "number": 1,
        "at": NOW,
        "timestamp": "2026-11-23 02:00:05",
        "filename": f"{LONGEST}/20261123T050000Z-1f0c9a",
        "size": 10**12,
        "kind": "backup",
        "target": LONGEST,
        "backup": "20261123T050000Z-1f0c9a",
        "job": "1f0c9a2b-0000-4000-8000-000000000001",
        "attempt": 2,
        "seconds": 4000.0,
        "requested_by": "ana",
    }
    found = [
        Line(**usual, status="verified (unopened)", detail="1,234,567 rows"),
        Line(
            **{**usual, "kind": "verify", "target": "*", "size": 0, "backup": ""},
            status="failed",
            detail=SENTENCE,
        ),
    ]
    said = check([ended.table(found, wide=False)])
    assert "verification of everything" in said
    assert "1 h 07 min" in said
    wide = "\n".join(lines(ended.table(found, wide=True), width=1000))
    for word in ("1f0c9a2b", "20261123T050000Z-1f0c9a", "ana", "attempt"):
        assert word in wide


def test_the_versions_of_an_object_fit() -> None:
    backup = KnownBackup(
        id=BackupId.make(NOW, "1f0c9a"),
        sequence=1,
        started=NOW,
        snapshot_time=NOW,
        standing=BackupStanding(state=State.VERIFIED_EXCEPTIONS),
        bytes=1,
    )
    entry: Any = SimpleNamespace(size=10**12, modified=NOW, sha256="bf" * 32)
    every = ("size", "bytes", "headers", "metadata", "tags")
    found = [
        Span(what="kept", entry=entry, backups=[backup]),
        Span(what="gone", backups=[backup]),
        Span(what="kept", entry=entry, differs=every, backups=[backup]),
    ]
    said = check([history.versions_table(found, FORTALEZA, wide=False)])
    assert "bytes, headers, metadata, tags" in said
    assert "size," not in said
    assert "  2  2026-11-23 02:00-03:00  931 GiB  2026-11-23 02:00-03:00  bfbfbfbfbfbf" in said
    back = list(history.ways_back("papers", "a", found))
    assert [one for one in back if not one.startswith("    ")] == [
        f"version {number}, newest in {backup.id} (verified with exceptions):" for number in (2, 1)
    ]
