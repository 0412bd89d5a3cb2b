"""`pgben init` against a real catalog and real repositories."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from pgben_tasks.adapters.keys import key_set
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.s3 import EmbeddedS3
from tests.support.cli_site import CANARY, Site, a_backup


def files(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def test_init_makes_everything_and_a_second_init_changes_nothing(site: Site) -> None:
    first = site.init("--json")
    assert first.code == 0, first.err
    assert len(first.json["made"]) == 4
    before = files(site.keys)
    second = site.run("init", "--json")
    assert second.code == 0, second.err
    assert second.json["made"] == []
    assert second.json["repository"] == first.json["repository"]
    after = files(site.keys)
    cards = {"recovery-card.txt", "recovery-card.html"}
    assert {name: digest for name, digest in after.items() if name not in cards} == {
        name: digest for name, digest in before.items() if name not in cards
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in site.keys.iterdir())


def test_what_init_prints_and_the_card_hold_no_secret_key(site: Site) -> None:
    said = site.init()
    secret = [
        line
        for name in ("operations", "escrow", "inventory")
        for line in (site.keys / f"{name}-identity.txt").read_text(encoding="utf-8").splitlines()
        if line.startswith("AGE-SECRET-KEY-")
    ]
    pem = (site.keys / "signing-key.pem").read_text(encoding="utf-8").splitlines()[1]
    cards = [
        (site.keys / f"recovery-card.{kind}").read_text(encoding="utf-8")
        for kind in ("txt", "html")
    ]
    assert len(secret) == 3
    for text in (said.all, *cards):
        assert not any(key in text for key in (*secret, pem))
    for card in cards:
        assert "ana@example.org" in card
        assert site.environment["PGBEN_AGE_RECIPIENTS"].split(",")[1] in card


def test_separate_keys_give_each_worker_only_what_is_its_own(site: Site) -> None:
    said = site.init("--separate-keys", "--json")
    assert said.code == 0, said.err
    workers = said.json["workers"]
    signing = {name: settings["PGBEN_SIGNING_KEY_FILE"] for name, settings in workers.items()}
    assert len(set(signing.values())) == 4
    assert [name for name, one in workers.items() if "PGBEN_AGE_IDENTITY_FILE" in one] == [
        "restore"
    ]
    assert "PGBEN_SIGNING_KEY_FILE" not in said.json["environment"]
    assert (site.keys / "pgben-backup.env").exists()
    assert site.run("list").code == 0
    again = site.run("init", "--keys", str(site.keys))
    assert again.code == 3
    assert "existing keys are not replaced" in again.err


def test_the_escrow_key_may_be_gone_when_init_runs_again(ready: Site) -> None:
    (ready.keys / "escrow-identity.txt").unlink()
    said = ready.run("init", "--json")
    assert said.code == 0, said.err
    assert said.json["made"] == []
    assert not (ready.keys / "escrow-identity.txt").exists()


def test_a_new_site_finds_the_backups_with_what_lay_beside_the_escrow_key(ready: Site) -> None:
    backup = a_backup(ready)
    safe = ready.folder / "safe"
    safe.mkdir()
    for name in ("trusted-keys.json", "recipients.txt", "escrow-identity.txt"):
        (ready.keys / name).rename(safe / name)
    said = ready.run("init", "--keys", str(safe), "--json")
    assert said.code == 0, said.err
    assert "PGBEN_SIGNING_KEY_FILE" not in said.json["environment"]
    for name in [name for name in ready.environment if name.endswith("_KEY_FILE")]:
        del ready.environment[name]
    listed = ready.run("list", "--direct", "--json", **said.json["environment"])
    assert [one["backup"] for one in listed.json["backups"]] == [backup]


def test_a_new_catalog_beside_an_old_repository_is_told_how_it_learns_of_it(
    ready: Site, postgres: EmbeddedPostgres
) -> None:
    catalog = f"catalog_{secrets.token_hex(6)}"
    anew = {"PGBEN_CATALOG_URL": postgres.url(catalog)}
    try:
        first = ready.run("init", "--keys", str(ready.keys), **anew)
        again = ready.run("init", "--keys", str(ready.keys), **anew)
    finally:
        with postgres.connect() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {catalog} WITH (FORCE)".encode())
    assert (first.code, again.code) == (0, 0)
    assert "`pgben catalog rebuild`" in first.err
    assert "`pgben catalog rebuild`" not in again.err


def test_init_does_not_make_new_keys_for_a_repository_that_exists(ready: Site) -> None:
    other = ready.folder / "other"
    said = ready.run("init", "--keys", str(other))
    assert said.code == 3
    assert "does not hold its keys" in said.err
    assert not other.exists()


def test_init_refuses_the_keys_of_another_repository(ready: Site) -> None:
    a_backup(ready)
    elsewhere = {"PGBEN_REPOSITORY": f"file://{ready.folder / 'second'}"}
    other = ready.folder / "other"
    assert ready.run("init", "--keys", str(other), **elsewhere).code == 0
    said = ready.run("init", "--keys", str(other))
    assert said.code == 2
    assert "are not those of the repository" in said.err


def test_an_init_that_died_among_its_keys_is_finished_by_the_next(ready: Site) -> None:
    staged = ready.keys / ".unfinished"
    staged.mkdir()
    for name in ("escrow-identity.txt", "trusted-keys.json"):
        (ready.keys / name).rename(staged / name)
    trusted = files(staged)["trusted-keys.json"]
    said = ready.run("init", "--keys", str(ready.keys), "--json")
    assert said.code == 0, said.err
    assert files(ready.keys)["trusted-keys.json"] == trusted
    assert not staged.exists()


def test_an_init_that_died_before_its_keys_were_complete_begins_anew(site: Site) -> None:
    staged = site.keys / ".unfinished"
    staged.mkdir(parents=True)
    (staged / "escrow-identity.txt").write_text("half", encoding="utf-8")
    said = site.init()
    assert said.code == 0, said.err
    assert not staged.exists()
    assert "AGE-SECRET-KEY-" in (site.keys / "escrow-identity.txt").read_text(encoding="utf-8")


def test_init_never_replaces_a_file_that_is_in_the_way(site: Site) -> None:
    site.keys.mkdir()
    precious = site.keys / key_set.OPERATIONS_IDENTITY
    precious.write_text("precious", encoding="utf-8")
    said = site.init()
    assert said.code == 3
    assert "is in the way" in said.err
    assert precious.read_text(encoding="utf-8") == "precious"
    assert list(site.keys.iterdir()) == [precious]


def test_init_with_a_wrong_password_leaves_nothing_behind(site: Site) -> None:
    url = site.environment["PGBEN_CATALOG_URL"].replace("@", f"{CANARY}@")
    said = site.init(PGBEN_CATALOG_URL=url)
    assert said.code == 2
    assert said.err.startswith("error: ")
    assert CANARY not in said.all
    assert not site.keys.exists()
    assert not site.repository.exists()


def test_init_makes_the_bucket_of_an_s3_repository(site: Site, repository_s3: EmbeddedS3) -> None:
    bucket = f"cli-{secrets.token_hex(4)}"
    said = site.init(
        "--json",
        PGBEN_REPOSITORY=f"s3://{bucket}/inner",
        PGBEN_REPOSITORY_ENDPOINT=repository_s3.endpoint,
        PGBEN_REPOSITORY_ACCESS_KEY=repository_s3.access_key,
        PGBEN_REPOSITORY_SECRET_KEY=repository_s3.secret_key,
    )
    assert said.code == 0, said.err
    assert f"bucket '{bucket}'" in said.json["made"]
    assert repository_s3.secret_key not in said.all
