"""`pgben init` against a real catalog and real repositories."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path

from pgben_tasks import runtime
from pgben_tasks.adapters.catalog.workers import Workers
from pgben_tasks.adapters.keys import key_set
from pgben_tasks.adapters.keys.files import make_age_identity, make_signing_key, trusted_key
from pgben_tasks.adapters.keys.signatures import Trust
from pgben_tasks.adapters.repository.public_keys import trusted_from_repository
from pgben_tasks.adapters.stores.directory import DirectoryObjectStore
from pgben_tasks.embedded.postgres import EmbeddedPostgres
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.settings import Settings
from tests.support.cli_site import CANARY, Site, a_backup


def keys_in(repository: Path) -> list[str]:
    """Return the names of the documents of public keys in a repository that is a folder."""
    return sorted(path.stem for path in (repository / "keys").glob("*"))


def printed_fingerprint(site: Site) -> str:
    """Return what the recovery card shows, as a person would type it."""
    card = (site.keys / "recovery-card.txt").read_text(encoding="utf-8")
    (found,) = re.findall(r"(?:[0-9a-f]{4} ){15}[0-9a-f]{4}", card)
    return str(found)


def trust_another_key(site: Site) -> None:
    """Add a key to the trusted keys, as somebody does whose key is to be replaced."""
    path = site.keys / key_set.TRUSTED_KEYS
    content = json.loads(path.read_bytes())
    pair = make_signing_key(site.folder / "new-signing-key.pem")
    new = trusted_key("new", key_set.SIGNING_ROLES, pair.public)
    content["keys"].append(new.model_dump(mode="json"))
    path.write_text(json.dumps(content), encoding="utf-8")


def files(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def test_init_makes_everything_and_a_second_init_changes_nothing(site: Site) -> None:
    first = site.init("--json")
    assert first.code == 0, first.err
    assert len(first.json["made"]) == 5
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
    runtime.Workplace(Settings.load(ready.environment)).trail.store_missing()
    shutil.rmtree(ready.repository / "keys")
    catalog = f"catalog_{secrets.token_hex(6)}"
    anew = {"PGBEN_CATALOG_URL": postgres.url(catalog)}
    try:
        first = ready.run("init", "--keys", str(ready.keys), **anew)
        # An entry of now would have the number of one that only the repository has.
        trail = runtime.Workplace(Settings.load(ready.environment | anew)).trail
        assert not trail.record().rows
        again = ready.run("init", "--keys", str(ready.keys), **anew)
        rebuilt = ready.run("catalog", "rebuild", **anew)
    finally:
        with postgres.connect() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {catalog} WITH (FORCE)".encode())
    assert (first.code, again.code, rebuilt.code) == (0, 0, 0), rebuilt.all
    assert len(keys_in(ready.repository)) == 1
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


def test_init_stores_the_public_keys_and_prints_their_fingerprint_on_the_card(site: Site) -> None:
    said = site.init("--json")
    assert keys_in(site.repository) == [said.json["public_keys"]]
    (path,) = (site.repository / "keys").iterdir()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == said.json["public_keys"]
    typed = printed_fingerprint(site)
    assert typed.replace(" ", "") == said.json["public_keys"]
    found = trusted_from_repository(DirectoryObjectStore(site.repository), typed.upper())
    written = Trust.load(site.keys / key_set.TRUSTED_KEYS)
    assert {key.fingerprint for key in found.trusted.keys} == {
        key.fingerprint for key in written.keys
    }
    assert list(found.recipients) == ["escrow", "operations"]
    assert ",".join(sorted(found.recipients.values())) == ",".join(
        sorted(site.environment["PGBEN_AGE_RECIPIENTS"].split(","))
    )
    for name in ("recovery-card.txt", "recovery-card.html"):
        card = (site.keys / name).read_text(encoding="utf-8")
        assert typed in card
        assert found.keys[0].public in card
    shown = site.run("init", "--keys", str(site.keys))
    assert said.json["public_keys"] in shown.out
    assert "out of date" not in shown.err


def test_a_repository_without_public_keys_gets_them_by_the_next_init(ready: Site) -> None:
    shutil.rmtree(ready.repository / "keys")
    assert ready.run("list").code == 0
    assert not (ready.repository / "keys").exists(), "nobody but init stores them"
    said = ready.run("init", "--keys", str(ready.keys))
    assert said.code == 0, said.err
    assert "public keys in" in said.out
    assert "recovery cards that were printed before are out of date" in said.err
    assert keys_in(ready.repository) == [printed_fingerprint(ready).replace(" ", "")]


def test_changed_keys_are_stored_beside_those_of_before_and_old_cards_are_out_of_date(
    ready: Site,
) -> None:
    before = printed_fingerprint(ready)
    old = keys_in(ready.repository)
    trust_another_key(ready)
    said = ready.run("init", "--keys", str(ready.keys))
    assert said.code == 0, said.err
    assert "recovery cards that were printed before are out of date" in said.err
    after = printed_fingerprint(ready)
    assert keys_in(ready.repository) == sorted([*old, after.replace(" ", "")])
    store = DirectoryObjectStore(ready.repository)
    assert len(trusted_from_repository(store, before).keys) == 1
    assert len(trusted_from_repository(store, after).keys) == 2
    again = ready.run("init", "--keys", str(ready.keys), "--json")
    assert again.json["made"] == []
    # A worker signs as before, with the key that its settings name.
    assert again.json["environment"]["PGBEN_SIGNING_KEY_FILE"] == str(
        ready.keys / "signing-key.pem"
    )


def test_public_keys_wait_for_workers_that_would_call_them_foreign(
    ready: Site,
) -> None:
    shutil.rmtree(ready.repository / "keys")
    workers = Workers(runtime.catalog_database(Settings.load(ready.environment)))
    workers.register(["verify.old"])
    said = ready.run("init", "--keys", str(ready.keys), "--json")
    assert (said.code, said.json["public_keys"], said.json["made"]) == (0, None, [])
    shown = ready.run("init", "--keys", str(ready.keys))
    assert "the public keys are not in the repository yet" in shown.err
    assert not (ready.repository / "keys").exists()
    card = (ready.keys / "recovery-card.txt").read_text(encoding="utf-8")
    assert "The repository does not have these keys yet" in card
    # Started again by this version.
    workers.publish(["verify.old"], [])
    assert ready.run("init", "--keys", str(ready.keys)).code == 0
    assert keys_in(ready.repository) == [printed_fingerprint(ready).replace(" ", "")]
    # What is there stays so, also for a worker that has not yet said what it reads.
    workers.register(["verify.old"])
    trust_another_key(ready)
    assert ready.run("init", "--keys", str(ready.keys)).code == 0
    assert len(keys_in(ready.repository)) == 2


def test_init_refuses_to_replace_public_keys_that_were_changed(ready: Site) -> None:
    (path,) = (ready.repository / "keys").iterdir()
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"backup", b"verify"))
    kept = path.read_bytes()
    said = ready.run("init", "--keys", str(ready.keys))
    assert said.code == 5
    assert "is not the document that its name says" in said.err
    assert path.read_bytes() == kept
    path.unlink()
    assert ready.run("init", "--keys", str(ready.keys)).code == 0


def test_two_recipients_under_one_name_are_refused(ready: Site) -> None:
    recipients = ready.keys / key_set.RECIPIENTS
    pair = make_age_identity(ready.folder / "new-identity.txt", now=datetime.now(UTC))
    text = recipients.read_text(encoding="utf-8")
    recipients.write_text(f"{text}{pair.public}\n", encoding="utf-8")
    said = ready.run("init", "--keys", str(ready.keys))
    assert said.code == 2
    assert "has two keys under the name 'escrow'" in said.err
    recipients.write_text(f"{text}# new\n{pair.public}\n", encoding="utf-8")
    assert ready.run("init", "--keys", str(ready.keys)).code == 0
    card = (ready.keys / "recovery-card.txt").read_text(encoding="utf-8")
    assert pair.public in card


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
    repository = {
        "PGBEN_REPOSITORY": f"s3://{bucket}/inner",
        "PGBEN_REPOSITORY_ENDPOINT": repository_s3.endpoint,
        "PGBEN_REPOSITORY_ACCESS_KEY": repository_s3.access_key,
        "PGBEN_REPOSITORY_SECRET_KEY": repository_s3.secret_key,
    }
    said = site.init("--json", **repository)
    assert said.code == 0, said.err
    assert f"bucket '{bucket}'" in said.json["made"]
    assert repository_s3.secret_key not in said.all
    store = runtime.open_store(Settings.load(site.environment | repository))
    found = trusted_from_repository(store, printed_fingerprint(site))
    assert found.fingerprint == said.json["public_keys"]
