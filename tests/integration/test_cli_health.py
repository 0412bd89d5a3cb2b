"""`pgben status` and `pgben doctor` as commands: languages, documents, exit codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.cli_site import CANARY, Site, a_backup
from tests.support.texts import english_in

AWAY = {"PGBEN_CATALOG_URL": f"postgresql://postgres:{CANARY}@127.0.0.1:1/none"}


def test_without_a_backup_the_screen_is_red(ready: Site) -> None:
    said = ready.run("status")
    assert said.code == 1, said.err
    assert said.out.startswith("RESTORABLE: red - ")
    assert "'postgres/pgben' has no verified backup" in said.out
    # A catalog that was rebuilt knows no jobs of before either.
    for fact in ("read in full", "last restore"):
        assert re.search(rf"{fact} +none on record", said.out), said.out
    document = ready.run("status", "--json").json
    assert document["verdict"] == "red"
    (target,) = document["targets"]
    assert (target["restorable_to"], target["failures_since_success"]) == (None, 0)
    assert document["jobs"] == document["workers"] == []


def test_without_a_catalog_the_repository_itself_says_what_can_be_restored(ready: Site) -> None:
    backup = a_backup(ready)
    changed = {**AWAY, "PGBEN_RPO": "36500d", "PGBEN_VERIFY_DAYS": "36500"}
    said = ready.run("status", "--json", **changed)
    assert said.code == 75, said.err
    document = said.json
    assert (document["verdict"], document["restorable"]["colour"]) == ("red", "green")
    assert any("catalog" in one["text"] for one in document["running"]["reasons"])
    (target,) = document["targets"]
    assert (target["backup"], target["state"], target["within_rpo"]) == (backup, "verified", True)
    assert target["failures_since_success"] is document["jobs"] is document["workers"] is None
    screen = ready.run("status", **changed)
    assert screen.out.startswith("RESTORABLE: green - everything, to ")
    assert backup in screen.out
    assert CANARY not in said.all + screen.all


def test_without_a_repository_nothing_can_be_restored(ready: Site) -> None:
    said = ready.run("status", "--json", PGBEN_REPOSITORY="file:///nowhere/repository")
    assert said.code == 1
    assert "the repository cannot be read" in said.json["reasons"][0]["text"]


def test_failures_since_the_last_success_are_counted_and_repeated(ready: Site) -> None:
    error = {"type": "CommandFailed", "sentence": "the disk burned", "hint": ""}
    for result in (None, error, error):
        ready.play(ready.job(), {"state": "verified"}, result)
    document = ready.run("status", "--json").json
    assert document["targets"][0]["failures_since_success"] == 2
    assert any("the disk burned" in reason["text"] for reason in document["reasons"])
    ready.play(ready.job(), {"state": "verified"})
    assert ready.run("status", "--json").json["targets"][0]["failures_since_success"] == 0


def test_the_doctor_speaks_the_language_of_the_settings_and_json_is_english(ready: Site) -> None:
    portuguese = ready.run("doctor", PGBEN_LANGUAGE="pt_BR")
    assert portuguese.code == 1, portuguese.err
    assert "nenhum worker do papel 'backup' está no ar" in portuguese.out
    assert "erros: " in portuguese.out.splitlines()[-1]
    assert english_in(portuguese.out) == set()
    english = ready.run("doctor", PGBEN_LANGUAGE="en")
    assert "no worker of the role 'backup' lives" in english.out
    document = ready.run("doctor", "--json", PGBEN_LANGUAGE="pt_BR").json
    told = {one["check"]: one for one in document["checks"]}
    assert told["mail"]["status"] == "warning"
    assert told["mail"]["sentence"].startswith("nobody hears")
    assert told["role"]["status"] == "unknown"
    assert told["role"]["sentence"].startswith("not examined: the role's rights of postgres/pgben")
    assert document["counts"]["unknown"] >= 1
    assert sum(document["counts"].values()) == len(document["checks"])


@pytest.mark.parametrize("command", ["doctor", "status"])
def test_wrong_settings_are_told_without_a_traceback(ready: Site, command: str) -> None:
    said = ready.run(command, "--json", PGBEN_TIMEZONE="Mars/Base")
    assert said.code == (1 if command == "doctor" else 2)
    assert "PGBEN_TIMEZONE" in said.out
    assert "Traceback" not in said.all


def test_every_wrong_setting_stands_below_the_line_that_counts_them(ready: Site) -> None:
    said = ready.run("doctor", PGBEN_DB_PORT="x", PGBEN_RPO="y", PGBEN_LANGUAGE="pt_BR")
    assert said.out.splitlines()[:3] == [
        "✗ 2 configurações estão erradas",
        "    PGBEN_DB_PORT deve ser um número inteiro",
        "    PGBEN_RPO deve ser uma duração como '12h', '7d', '30min' ou '1d12h'",
    ]


def test_secrets_never_leave_the_doctor(ready: Site) -> None:
    said = ready.run(
        "doctor",
        "--json",
        **AWAY,
        PGBEN_DB_PASS=CANARY,
        PGBEN_REDIS_URL=f"redis://:{CANARY}@127.0.0.1:1/0",
        PGBEN_SMTP_PASS=CANARY,
    )
    assert said.code == 1
    assert CANARY not in said.all


def test_a_report_is_shown_here_and_now_and_kept_nowhere(ready: Site, tmp_path: Path) -> None:
    a_backup(ready)
    portuguese = ready.run("report", PGBEN_LANGUAGE="pt_BR")
    assert portuguese.code == 0, portuguese.err
    assert "nunca foi medid" in portuguese.out
    english = ready.run("report", "--language", "en", PGBEN_LANGUAGE="pt_BR")
    assert "was never measured" in english.out
    document = ready.run("report", "--json").json
    assert [one["target"] for one in document["targets"]] == ["postgres/pgben"]
    assert document["verification"]["state"] == "missing"
    file = tmp_path / "report.html"
    written = ready.run("report", "--output", str(file), "--language", "en")
    assert written.out.strip() == str(file)
    page = file.read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "was never measured" in page
    assert CANARY not in page + portuguese.all
    assert ready.run("jobs", "--json").json["jobs"] == []


def test_a_report_needs_no_catalog_and_says_in_red_that_it_is_away(ready: Site) -> None:
    a_backup(ready)
    document = ready.run("report", "--json", **AWAY).json
    assert document["colour"] == "red"
    assert any("the catalog cannot be asked" in one["text"] for one in document["reasons"])
    assert document["targets"][0]["state"] == "verified"


def test_a_report_that_cannot_be_written_and_options_of_no_mail_are_wrong_usage(
    ready: Site,
) -> None:
    nowhere = ready.run("report", "--output", "/nowhere/report.html")
    assert nowhere.code == 2
    assert "'/nowhere/report.html'" in nowhere.err
    both = ready.run("report", "--mail", "--language", "en")
    assert both.code == 2
    assert "`--mail` goes with neither" in both.err
