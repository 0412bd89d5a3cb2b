from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any, get_args
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import typer
from hypothesis import given, strategies as st
from rich.console import Console

from pgben_tasks import errors
from pgben_tasks.cli import arguments, main
from pgben_tasks.cli.view import follow, outcome, output, streaming
from pgben_tasks.contracts import REQUESTS, BucketRestoreRequest, Request
from pgben_tasks.domain.job import Job, StepRun
from pgben_tasks.errors import ConfigurationError, PgbenError
from pgben_tasks.language import Language
from pgben_tasks.setup import recovery_card
from pgben_tasks.setup.initialise import lines
from tests.support import errors_in_code

FORTALEZA = ZoneInfo("America/Fortaleza")
NOW = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
CANARY = "canary-9f31"


def job(**fields: Any) -> Job:
    values: dict[str, Any] = {
        "id": UUID("1f0c9a2b-0000-4000-8000-000000000000"),
        "key": "backup:postgres/pgben:x",
        "kind": "backup",
        "target": "postgres/pgben",
        "window": None,
        "request": {},
        "requested_by": "ana@host",
        "state": "succeeded",
        "fence": 1,
        "attempt": 1,
        "node": "node",
        "backup": None,
        "root_task": None,
        "step": None,
        "context": {},
        "result": {},
        "error": None,
        "retry_at": None,
        "created_at": NOW,
        "started_at": NOW,
        "ended_at": NOW + timedelta(seconds=83),
    }
    return Job(**(values | fields))


def shown(*parts: Any) -> str:
    written = StringIO()
    console = Console(width=200, file=written)
    for part in parts:
        console.print(part)
    return written.getvalue()


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (10 * 1024**2, "10.0 MiB"),
        (1024**2 - 1, "1.00 MiB"),
        (150 * 1024**3, "150 GiB"),
        (5000 * 1024**5, "5000 PiB"),
        (None, "-"),
    ],
)
def test_sizes_have_three_significant_digits(count: int | None, text: str) -> None:
    assert output.size(count) == text


@given(st.integers(min_value=0, max_value=2**59))
def test_no_size_is_written_with_more_than_four_digits(count: int) -> None:
    number, _, unit = output.size(count).partition(" ")
    assert float(number) < 1024
    assert unit


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (5.31, "5.3 s"),
        (12.4, "12 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (3900, "1 h 05 min"),
        (timedelta(hours=30), "30 h 00 min"),
        (-0.3, "0.0 s"),
        (None, "-"),
    ],
)
def test_durations_are_written_in_the_unit_people_would_choose(
    seconds: float | None, text: str
) -> None:
    assert output.duration(seconds) == text


def test_moments_are_written_in_the_zone_of_the_settings_with_their_offset() -> None:
    assert output.moment(NOW, FORTALEZA) == "2026-11-23 02:00:00-03:00"


def streamed(capsys: pytest.CaptureFixture[str], *given: object) -> tuple[Any, str]:
    """Write elements, or raise one that is an error; return what came out, and what was raised."""
    raised = ""
    try:
        with streaming.streamed({"snapshot": "x"}, "objects") as document:
            for one in given:
                if isinstance(one, BaseException):
                    raise one
                document.add(json.dumps(one))
            document.totals = {"totals": len(given)}
    except (typer.Exit, PgbenError) as exc:
        raised = f"{type(exc).__name__} {getattr(exc, 'exit_code', '')}"
    out = capsys.readouterr().out
    return (json.loads(out) if out else None), raised


def test_a_streamed_document_is_json_whatever_happens(capsys: pytest.CaptureFixture[str]) -> None:
    assert streamed(capsys) == ({"snapshot": "x", "objects": [], "totals": 0}, "")
    whole = {"snapshot": "x", "objects": [{"key": "ã"}, 2], "totals": 2}
    assert streamed(capsys, {"key": "ã"}, 2) == (whole, "")
    damaged = errors.DigestMismatch("it differs", "restore with `into=a b`")
    said, raised = streamed(capsys, 1, damaged)
    assert (said["objects"], raised) == ([1], "Exit 5")
    assert said["error"] == {
        "type": "DigestMismatch",
        "sentence": "it differs",
        "hint": "restore with `--into 'a b'`",
    }
    said, raised = streamed(capsys, 1, KeyboardInterrupt())
    assert (said["error"]["type"], raised) == ("Interrupted", "Exit 130")
    # Before anything was written the error is the one document, which main() writes.
    assert streamed(capsys, damaged) == (None, "DigestMismatch 5")


MODELS: list[type[Request]] = [*REQUESTS.values(), BucketRestoreRequest]


def test_fields_of_requests_become_what_is_typed() -> None:
    assert output.as_typed("`confirm=a b`, `at`, `pgben jobs`, `surprise`, 'into'") == (
        "`--confirm 'a b'`, `--at`, `pgben jobs`, `surprise`, 'into'"
    )
    fields = {name for model in MODELS for name in model.model_fields}
    internal = {"requested_by", "idempotency_key", "scheduled", "part_of"}
    assert fields - internal <= set(output.OPTIONS)
    command = typer.main.get_command(main.app)
    known = {
        option
        for one in command.commands.values()  # type: ignore[attr-defined]
        for parameter in one.params
        for option in parameter.opts
    }
    assert {one for one in output.OPTIONS.values() if one.startswith("--")} <= known


def test_errors_that_a_service_may_read_name_fields_and_no_options() -> None:
    said = errors_in_code.patterns(Path(main.__file__).parents[1])
    assert any("`into`" in one for one in said)
    bare = [one for one in said if "--" in re.sub(r"`[^`]*`", "", one)]
    assert [one for one in bare if "--keys" not in one] == [], "pgben init, at a terminal only"


#: Other commands than the one that is answered, which have no field in its request.
OTHER_COMMANDS = (
    *("pgben backup --all", "pgben jobs --follow", "pgben undo {0} --confirm {1}"),
    *("pgben verify --level full", "pgben prune --dry-run", "pgben objects diff "),
    *("pgben list --direct", "pgben restore … --direct", "pgben verify … --direct"),
    *("pgben console ", "pgben --env-file ", "pgben alarms --test"),
)


def test_commands_in_errors_have_options_only_where_a_request_has_no_field() -> None:
    said = errors_in_code.patterns(Path(main.__file__).parents[1])
    commands = {found for one in said for found in re.findall(r"`(pgben [^`]*--[^`]*)", one)}
    assert any(one.startswith("pgben verify") for one in commands)
    assert [one for one in commands if not one.startswith(OTHER_COMMANDS)] == []
    fields = re.compile(r"`([a-z_]+)(?:=[^`]*)?`")
    named = {field for one in said for field in fields.findall(one)}
    known = {name for model in MODELS for name in model.model_fields}
    assert {"into", "allow_damaged", "confirm", "keys"} <= named & known


def test_brackets_in_names_are_not_read_as_markup() -> None:
    assert "[bold]x[/bold]" in shown(output.table(("name",), [("[bold]x[/bold]",)]))
    assert "[red]y" in shown(output.facts([("[red]y", "z")]))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, 0),
        ({"result": {"suspect": "40 % fewer rows"}}, 4),
        ({"result": {"after_swap_failed": "'start' ended with status 3"}}, 4),
        ({"kind": "point", "result": {"state": "verified with exceptions"}}, 0),
        ({"kind": "point", "result": {"state": "suspect"}}, 4),
        ({"kind": "point", "result": {"state": "not restorable here"}}, 4),
        ({"kind": "point", "result": {"state": "damaged", "suspect": "3 rows"}}, 5),
        ({"kind": "point", "result": {"state": "missing"}}, 5),
        ({"kind": "point", "result": {"state": "unreadable"}}, 5),
        ({"kind": "point", "result": {"state": "what a newer version says"}}, 4),
        ({"state": "failed", "error": {"type": "CommandFailed"}}, 1),
        ({"state": "failed", "error": {"type": "DigestMismatch"}}, 5),
        ({"state": "failed", "error": {"type": "TargetBusy"}}, 75),
        ({"state": "failed", "error": {"type": "ConfigurationError"}}, 2),
        ({"state": "failed", "error": {"type": "KeyError"}}, 1),
        ({"state": "failed", "error": {"type": "annotations"}}, 1),
        ({"state": "failed"}, 1),
        ({"state": "refused", "error": {"type": "RestoreRefused"}}, 3),
        ({"state": "refused", "error": {"type": "Unknown"}}, 3),
        ({"state": "cancelled"}, 1),
        ({"state": "running", "ended_at": None}, 75),
    ],
)
def test_exit_codes_follow_the_error_that_the_ledger_recorded(
    fields: dict[str, Any], code: int
) -> None:
    assert outcome.exit_code(job(**fields)) == code


def test_every_exit_code_of_an_error_has_a_place_among_the_others() -> None:
    classes = [one for one in vars(errors).values() if isinstance(one, type)]
    codes = {one.exit_code for one in classes if issubclass(one, PgbenError)}
    assert outcome.worst_code(codes) == 5
    assert outcome.worst_code([]) == 0
    assert outcome.worst_code([75, 0, 4]) == 4
    assert outcome.worst_code([4, 1, 3]) == 1


def test_the_json_of_a_job_is_json_and_names_moments_in_utc() -> None:
    step = StepRun(
        attempt=1,
        name="pgben.backup.postgres.dump",
        state="done",
        node="node",
        started_at=NOW,
        ended_at=NOW + timedelta(seconds=5.25),
        result={},
    )
    document = json.loads(json.dumps(outcome.job_document(job(), [step])))
    assert document["created_at"] == "2026-11-23T05:00:00Z"
    assert document["seconds"] == 83.0
    assert document["steps"][0]["seconds"] == 5.25


def test_the_end_of_a_verification_shows_every_finding() -> None:
    finding = {"kind": "missing", "path": "packs/postgres/pgben/x/1.tar.age", "detail": "gone"}
    ended = job(
        kind="verify",
        target="*",
        state="failed",
        result={"findings": [finding], "findings_total": 3, "level": "full"},
    )
    text = shown(*outcome.job_tables(ended, zone=UTC))
    assert "verify of everything" in text
    assert finding["path"] in text
    assert "and 2 more" in text


def test_the_end_of_a_restore_says_how_many_objects_lost_their_tags() -> None:
    ended = job(kind="restore", result={"state": "restored", "tags_not_kept": 1234})
    text = shown(*outcome.job_tables(ended, zone=UTC))
    assert re.search(r"without tags, which are not kept there\W+1,234", text)


def test_the_end_of_a_restore_names_refused_settings_and_further_buckets() -> None:
    names = {"aside_further": ["a-aside-2", "a-aside-3"], "settings_refused": ["lock", "policy"]}
    text = shown(*outcome.job_tables(job(kind="restore", result=names), zone=UTC))
    assert re.search(r"and, what came later, to\W+a-aside-2, a-aside-3", text)
    assert re.search(r"settings that were not taken\W+lock, policy", text)
    nothing: dict[str, list[str]] = {key: [] for key in names}
    text = shown(*outcome.job_tables(job(kind="restore", result=nothing), zone=UTC))
    assert "came later" not in text
    assert "not taken" not in text


@pytest.mark.parametrize("state", ["failed", "refused", "cancelled"])
@pytest.mark.parametrize(
    ("target", "context", "later", "words"),
    [
        ("postgres/pgben", {}, {}, None),
        ("postgres/pgben", {"finishing": True}, {"loaded_bytes": 1, "rows_compared": 1}, None),
        # It was swapped in, and only then something failed.
        ("postgres/pgben", {}, {"database": "place", "replaced": "old"}, "restored into"),
        ("bucket/documents", {"snapshot": "b"}, {"objects": 3}, None),
        ("bucket/documents", {"copying": True}, {"objects": 3}, "restored in part into"),
        ("bucket/documents", {"aside": "a"}, {"copied_aside": 2, "aside": "a"}, None),
        ("bucket/documents", {"aside": "a"}, {"written": 2, "lost": 1}, "restored in part into"),
    ],
)
def test_a_restore_that_did_not_succeed_names_no_place_that_is_not_there(
    state: str, target: str, context: Any, later: Any, words: str | None
) -> None:
    selected = {"backup": "b", "into": "place", "snapshot_time": NOW.isoformat()}
    ended = job(
        kind="restore", target=target, state=state, context=context, result=selected | later
    )
    text = shown(*outcome.job_tables(ended, zone=UTC))
    document = outcome.job_document(ended)["result"]
    assert document["backup"] == "b"
    if words is None:
        assert "place" not in text
        assert "into" not in document
    else:
        assert re.search(rf"^{words} +place$", text, re.MULTILINE)
        assert document["into"] == "place"


def test_a_restore_that_succeeded_or_still_runs_names_its_place() -> None:
    result = {"into": "place", "database": "place"}
    assert "restored into" in shown(
        *outcome.job_tables(job(kind="restore", result=result), zone=UTC)
    )
    running = job(kind="restore", state="running", ended_at=None, result={"into": "place"})
    assert outcome.job_document(running)["result"] == {"into": "place"}


def test_a_dry_run_shows_the_plan_with_its_reasons() -> None:
    decisions = [
        {"backup": "20261123T050000Z-1f0c9a", "decision": "keep", "reasons": "newest drilled"},
        {"backup": "20260923T050000Z-1f0c9a", "decision": "expire", "reasons": "past its age"},
    ]
    ended = job(
        kind="prune",
        request={"dry_run": True},
        result={"prune": {"decisions": decisions, "would_expire": [decisions[1]["backup"]]}},
    )
    text = shown(*outcome.job_tables(ended, zone=UTC))
    assert "newest drilled" in text
    assert "past its age" in text
    assert "1 of 2 backups would be removed" in text


def swept(**fields: Any) -> dict[str, Any]:
    pack = {
        "kind": "pack",
        "path": "packs/postgres/pgben/x/1.tar.age",
        "bytes": 2048,
        "decision": "remove",
        "reasons": "no manifest names it",
    }
    counts = {"removed": 1, "would_remove": 0, "bytes": 2048, "kept": 0, "skipped": None}
    return {"sweep": {**counts, "decisions": [pack], **fields}}


def test_the_end_of_a_sweep_says_what_left_and_why() -> None:
    text = shown(*outcome.job_tables(job(kind="sweep", result=swept(kept=3)), zone=UTC))
    assert "packs/postgres/pgben/x/1.tar.age" in text
    assert "no manifest names it" in text
    assert "1 file left over (2.00 KiB) removed, 3 kept" in text


def test_a_sweep_that_only_looked_or_was_put_off_says_so() -> None:
    looked = job(kind="sweep", request={"dry_run": True}, result=swept(removed=0, would_remove=1))
    text = shown(*outcome.job_tables(looked, zone=UTC))
    assert "1 file left over (2.00 KiB) would be removed" in text
    busy = job(kind="sweep", result=swept(removed=0, bytes=0, kept=1, skipped="a restore reads"))
    assert "nothing is swept now: a restore reads" in shown(*outcome.job_tables(busy, zone=UTC))
    refused = job(kind="sweep", state="refused", result={})
    assert shown(*outcome.job_tables(refused, zone=UTC)).strip() == ""


def test_progress_is_one_line_with_share_rate_and_time_left() -> None:
    progress = {
        "phase": "dump",
        "total": 150 * 1024**2,
        "unit": "bytes",
        "done": 68 * 1024**2,
        "rate": 12 * 1024**2,
        "seconds_left": 7,
        "tables": 12,
        "tables_total": 40,
        "surprise": 3,
    }
    said = follow.progress_text(progress)
    assert said == "45%, 7 s left, 68.0 MiB of 150 MiB, 12.0 MiB/s, 12 of 40 tables"
    begun = follow.progress_text(progress | {"done": 0, "rate": 0, "seconds_left": None})
    assert begun == "0%, 0 B of 150 MiB, 12 of 40 tables"
    one = {"phase": "x", "unit": "entries", "done": 1}
    assert follow.progress_text(one) == "1 entry"
    assert follow.progress_text(one | {"total": 1, "seconds_left": 90}) == (
        "100%, 1 min 30 s left, 1 of 1 entry"
    )


def test_progress_without_a_total_and_beyond_its_total_is_no_fault() -> None:
    assert follow.progress_text({"phase": "select", "total": None, "done": 0}) == ""
    over = {"phase": "x", "total": 10, "unit": "tables", "done": 12, "rate": 3}
    assert follow.progress_text(over) == "100%, 12 of 10 tables"


def test_a_backup_needs_backup_and_maintenance_workers() -> None:
    assert follow.roles_of_job(job(kind="backup")) == ["backup", "maintenance"]
    assert follow.roles_of_job(job(kind="restore")) == ["restore"]
    assert follow.roles_of_job(job(kind="restore", request={"swap": True})) == ["restore"]


@pytest.mark.parametrize("text", ["pgben", "postgres/pgben"])
def test_a_target_may_be_named_with_or_without_its_kind(text: str) -> None:
    assert str(arguments.parse_target(text)) == "postgres/pgben"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://ana:{CANARY}@host/db",
        f"ana:{CANARY}@host/db",
        f"{CANARY}@host",
        f"host=x password={CANARY}",
        f"dbname={CANARY}",
    ],
)
def test_a_connection_string_is_refused_and_never_repeated(text: str) -> None:
    for read in (arguments.parse_target, arguments.parse_database):
        with pytest.raises(ConfigurationError) as caught:
            read(text)
        assert CANARY not in str(caught.value)


def test_a_name_of_64_bytes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="63"):
        arguments.parse_target("x" * 64)


def test_a_moment_without_an_offset_is_meant_in_the_zone_of_the_settings() -> None:
    for text in ("2026-11-22 14:30", "2026-11-22T17:30:00Z"):
        read = arguments.parse_moment(text, FORTALEZA)
        assert read == datetime(2026, 11, 22, 17, 30, tzinfo=UTC)
        assert read.isoformat() == "2026-11-22T14:30:00-03:00"


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "", "22/11/2026"])
def test_what_is_no_moment_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        arguments.parse_moment(text, FORTALEZA)
    assert "2026-11-22" in caught.value.hint


def test_ids_are_told_from_targets_by_their_last_part() -> None:
    assert arguments.looks_like_backup("20261123T050000Z-1f0c9a")
    assert arguments.looks_like_backup("postgres/pgben/20261123T050000Z-1f0c9a")
    assert not arguments.looks_like_backup("postgres/pgben")


def test_an_unexpected_error_becomes_one_sentence_and_a_file_without_secrets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = ValueError(f"postgresql://ana:{CANARY}@host/db")
    code = main.unexpected(error, as_json=True, debug=False)
    said = json.loads(capsys.readouterr().out)["error"]
    path = said["hint"].removeprefix("the traceback is in ").partition(";")[0]
    trace = Path(path).read_text(encoding="utf-8")
    Path(path).unlink()
    assert code == 1
    assert "ValueError" in said["sentence"]
    assert CANARY not in said["sentence"] + said["hint"] + trace
    assert "postgresql://ana:" in trace


def test_settings_with_spaces_survive_a_shell() -> None:
    assert lines({"A": "/a b/c", "B": "age1,age1"}) == "A='/a b/c'\nB=age1,age1\n"


def a_card() -> recovery_card.Card:
    return recovery_card.Card(
        repository="file:///backup/<repository>",
        repository_id="53a59c8f-499a-4071-bc9b-7566cdb67a14",
        recipients={"operations": "age1aaa", "escrow": "age1bbb"},
        signing_keys=((("backup", "verify"), "76bYqnEv" * 5 + "bJV=", "4f32f0b3" * 8),),
        public_keys="9c41" * 16,
        escrow_file="escrow-identity.txt",
        contacts=(("Ana & Cia", "ana@example.org", "+55 85 5555"),),
        made=NOW,
    )


def test_the_recovery_card_says_the_same_in_both_languages() -> None:
    languages: tuple[Language, ...] = get_args(Language)
    texts = [recovery_card.as_text(a_card(), language) for language in languages]
    assert len({text.count("\n\n") for text in texts}) == 1
    for text in texts:
        for said in ("age1bbb", "53a59c8f", "Ana & Cia", "+55 85 5555", "pg_restore", "age -d"):
            assert said in text
        assert recovery_card.grouped("4f32f0b3" * 8) in text
        assert "76bYqnEv" * 5 + "bJV=" in text
        assert f"\n      {' '.join(['9c41'] * 16)}\n" in text
        assert "sha256sum" in text.partition("pg_restore")[0]


def test_a_card_whose_keys_are_not_in_the_repository_says_so_in_both_languages() -> None:
    languages: tuple[Language, ...] = get_args(Language)
    card = replace(a_card(), public_keys=None)
    texts = [recovery_card.as_text(card, language) for language in languages]
    assert len(set(texts)) == len(languages)
    for text in texts:
        keys = text.partition("pg_restore")[0]
        assert "`pgben init`" in keys
        assert "sha256sum" not in keys


def test_the_html_card_escapes_what_it_is_given() -> None:
    page = recovery_card.as_html(a_card(), "en")
    assert "&lt;repository&gt;" in page
    assert "Ana &amp; Cia" in page
    assert "size: A4" in page


def test_an_id_stays_whole_on_a_narrow_screen() -> None:
    shown = StringIO()
    screen = Console(file=shown, width=60)
    rows = [("postgres/pgben", "20261123T050000Z-1f0c9a", "verified", "a note that is long enough")]
    screen.print(output.table(("target", "backup", "state", "note"), rows))
    assert "20261123T050000Z-1f0c9a" in shown.getvalue()
