"""What each snapshot of a bucket changed, the versions of one object, and what to do then."""

from __future__ import annotations

import shlex
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pgben_tasks.adapters.buckets import S3Bucket
from pgben_tasks.domain.documents import Manifest
from pgben_tasks.domain.layout import inventory_of
from pgben_tasks.domain.target import BackupId
from pgben_tasks.embedded.s3 import EmbeddedS3
from pgben_tasks.errors import BackupIncomplete, IntegrityError, PermanentError
from pgben_tasks.operations import spool
from pgben_tasks.operations.buckets import history
from pgben_tasks.operations.repository.survey import survey
from pgben_tasks.operations.toolbox import NoProgress
from tests.support import commands, samples
from tests.support.bucket_servers import bucket_location
from tests.support.bucketshop import TARGET, BucketShop, contents
from tests.support.cli_site import clean_environment
from tests.support.commands import Ran
from tests.support.needs import needs
from tests.support.pointshop import PointShop
from tests.support.troubled_bucket import KEYS, TroubledBucket
from tests.support.workshop import Workshop

NOTHING = {"objects": 0, "bytes": 0}
DEAD = "postgresql://postgres:x@127.0.0.1:1/none"
STRANGE = [*KEYS, "-x", "--json", 'it\'s "$HOME" `id` \\ !', "a\tb\x1b[31m\u202e'\\", "'\n'"]


@dataclass
class Nights:
    """A bucket, and the command line that looks at its snapshots."""

    shop: BucketShop

    def fill(self, number: int) -> None:
        for one in range(number):
            self.shop.put(f"k{one:02d}", b"x" * 10, metadata={"iv": "1"})

    def environment(self, **changed: str) -> dict[str, str]:
        return clean_environment() | dict(self.shop.shop.environment) | changed

    def pgben(self, *arguments: str, **changed: str) -> Ran:
        return commands.run(*arguments, environment=self.environment(**changed))

    def history(
        self, *arguments: str, code: int = 0, changed: Mapping[str, str] | None = None
    ) -> Any:
        line = ("objects", "history", str(TARGET), *arguments, "--json")
        said = self.pgben(*line, **(changed or {}))
        assert said.code == code, said.all
        return said.json

    def inventory(self, manifest: Manifest) -> Path:
        return self.shop.shop.repository / inventory_of(manifest).path

    def manifest(self, manifest: Manifest) -> Path:
        folder = self.shop.shop.repository / "backups" / manifest.target / manifest.backup
        return folder / "manifest.json"


class Told(NoProgress):
    """Progress that remembers what it was told of the last phase."""

    def begin(self, phase: str, *, total: int | None = None, unit: str = "bytes") -> None:
        self.phase, self.total, self.unit, self.done = phase, total, unit, 0

    def advance(self, amount: int) -> None:
        self.done += amount


@pytest.fixture
def nights(shop: BucketShop) -> Nights:
    # Ids of one second are ordered by their suffix.
    return Nights(PointShop(shop).buckets)


@pytest.fixture
def later(bucket: TroubledBucket) -> None:
    """Let every object that is stored have another date than any before."""
    moments = iter(range(1, 10_000))
    start = datetime.now(UTC) - timedelta(days=1)
    bucket._clock = lambda: start + timedelta(seconds=next(moments))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# --- what each night changed


@pytest.mark.usefixtures("later")
def test_each_night_tells_what_it_changed_beside_the_one_before(nights: Nights) -> None:
    shop = nights.shop
    nights.fill(20)
    first = shop.snapshot()
    shop.put("new", b"x" * 100)
    second = shop.snapshot()
    shop.put("k00", b"x" * 7, metadata={"iv": "1"})
    shop.put("k01", b"x" * 10, metadata={"iv": "2"})
    shop.put("k02", b"x" * 10, metadata={"iv": "1"}, headers={"content-language": "pt"})
    shop.bucket.put_tags("k03", {"setor": "social"})
    shop.bucket.put_tags("k04", {"setor": "social"})
    # The same once more is no change.
    shop.put("k05", b"x" * 10, metadata={"iv": "1"})
    third = shop.snapshot()
    shop.bucket.delete("new")
    fourth = shop.snapshot()
    found = nights.history()

    assert (found["target"], found["left_out"]) == (str(TARGET), 0)
    rows = found["snapshots"]
    ids = [one.backup for one in (fourth, third, second, first)]
    assert [one["backup"] for one in rows] == ids
    assert [one["compared_with"] for one in rows] == [*ids[1:], None]
    assert [one["objects"] for one in rows] == [20, 21, 21, 20]
    assert [one["bytes"] for one in rows] == [197, 297, 300, 200]
    assert {one["state"] for one in rows} == {"verified"}
    assert rows[-1]["changes"] is None
    base: dict[str, Any] = {"not_compared": 0}
    base |= {"added": NOTHING, "changed": NOTHING, "retagged": NOTHING, "deleted": NOTHING}
    lost = {"objects": 1, "bytes": 100}
    assert rows[0]["changes"] == {**base, "known": 21, "deleted": lost}
    assert rows[1]["changes"] == {
        **base,
        "known": 21,
        "changed": {"objects": 3, "bytes": 30},
        "retagged": {"objects": 2, "bytes": 20},
    }
    assert rows[2]["changes"] == {**base, "known": 20, "added": lost}
    assert not any(one["changed_much"] or one["suspect"] or one["fault"] for one in rows)
    assert (found["suspect_since"], found["before"]) == (None, None)

    assert [one["backup"] for one in nights.history("--last", "2")["snapshots"]] == ids[:2]
    assert nights.history("--last", "2")["snapshots"][1]["compared_with"] == ids[2]
    moment = third.snapshot_time.isoformat()
    assert [one["backup"] for one in nights.history("--since", moment)["snapshots"]] == ids[:2]
    assert nights.history("--since", moment)["left_out"] == 2


def test_thirty_nights_are_usual_and_the_rest_is_told(nights: Nights) -> None:
    nights.fill(2)
    for _ in range(32):
        nights.shop.snapshot()
    said = nights.pgben("objects", "history", str(TARGET))
    assert said.code == 0, said.err
    assert said.out.count(" verified ") == 30
    assert said.err == "2 older snapshots left out: see --last\n"
    assert len(nights.history("--last", "31")["snapshots"]) == 31
    assert len(nights.history("--key", "k00")["versions"]) == 1
    assert nights.history("--key", "k00")["versions"][0]["snapshots"] == 32


@pytest.mark.usefixtures("later")
def test_a_night_that_changed_much_is_marked_by_the_measure_of_the_settings(
    nights: Nights,
) -> None:
    nights.fill(20)
    nights.shop.snapshot()
    nights.shop.put("k00", b"other")
    nights.shop.bucket.delete("k01")
    nights.shop.snapshot()
    assert nights.history()["snapshots"][0]["changed_much"] is None
    strict = {"PGBEN_SUSPECT_CHANGED": "0.05"}
    reason = nights.history(changed=strict)["snapshots"][0]["changed_much"]
    assert reason == "1 of 20 known objects were overwritten and 1 deleted: more than 5%"
    said = nights.pgben("objects", "history", str(TARGET), **strict)
    assert f"changed much: {reason}" in said.out
    assert "changed much" not in nights.pgben("objects", "history", str(TARGET)).out


def test_on_a_terminal_the_nights_fit_and_numbers_stand_below_each_other(nights: Nights) -> None:
    nights.fill(12)
    nights.shop.snapshot()
    nights.shop.put("k11", b"other")
    nights.shop.put("new", b"")
    second = nights.shop.snapshot()
    environment = nights.environment()
    shown = commands.on_a_terminal("objects", "history", str(TARGET), environment=environment)
    assert max(map(len, shown)) <= 80, shown
    head, _, newest, about, *_ = shown
    assert head.split() == ["backup", "data", "as", "of", "added", "changed", "tags", "deleted"]
    assert newest.startswith(second.backup)
    for name, number in (("added", "1"), ("changed", "1"), ("tags", "0"), ("deleted", "0")):
        end = head.index(name) + len(name)
        assert newest[end - 1] == number
        assert newest[end - 2] == " "
    assert about.strip() == "verified, 13 objects, 115 B"
    key = commands.on_a_terminal(
        "objects", "history", str(TARGET), "--key", "k11", environment=environment
    )
    tables = [one for one in key if "pgben restore" not in one]
    assert max(map(len, tables)) <= 80, key


def test_tags_are_not_compared_with_a_night_whose_server_kept_none(
    nights: Nights, bucket: TroubledBucket
) -> None:
    nights.shop.put("a", b"1", tags={"setor": "social"})
    nights.shop.snapshot()
    kept = bucket.keeps_tags
    setattr(bucket, "keeps_tags", lambda _key: False)  # noqa: B010 - for one night
    nights.shop.put("a", b"2")
    older = nights.shop.snapshot()
    setattr(bucket, "keeps_tags", kept)  # noqa: B010
    bucket.put_tags("a", {"setor": "saude"})
    newer = nights.shop.snapshot()
    rows = nights.history()["snapshots"]
    assert rows[0]["changes"]["retagged"] == NOTHING
    (second, first) = nights.history("--key", "a")["versions"]
    assert (first["what"], second["what"], second["snapshots"]) == ("first seen", "bytes", 2)
    nights.shop.bucket.put_tags("a", {})
    nights.shop.snapshot()
    assert nights.history("--key", "a")["versions"][0]["what"] == "tags"
    said = nights.pgben("objects", "diff", str(TARGET), older.backup, newer.backup, "--json")
    assert said.json["differences"] == []


def test_an_object_without_bytes_is_not_compared_and_told(
    nights: Nights, bucket: TroubledBucket
) -> None:
    nights.fill(3)
    nights.shop.snapshot()
    bucket.broken["k01"] = PermanentError("bit rot")
    nights.shop.put("k01", b"other")
    chain = nights.shop.chain("backup")
    with pytest.raises(BackupIncomplete):
        chain.run()
    newest = nights.history()["snapshots"][0]
    assert (newest["backup"], newest["state"]) == (chain.job.backup, "incomplete")
    assert (newest["unreadable"], newest["changes"]["not_compared"]) == (1, 1)
    assert "1 unreadable" in nights.pgben("objects", "history", str(TARGET)).out
    second, first = nights.history("--key", "k01")["versions"]
    assert (second["what"], second["version"], second["command"]) == ("unreadable", None, None)
    assert (first["what"], first["version"], first["size"]) == ("first seen", 1, 10)


def test_no_more_than_two_inventories_lie_open_and_all_are_gone_in_the_end(
    nights: Nights,
) -> None:
    shop = nights.shop
    nights.fill(3)
    for number in range(5):
        shop.put(f"new {number}", b"")
        shop.snapshot()
    choice = history.choose(survey(shop.tools.repository, TARGET), last=4, since=None)
    with spool.passing_folder(shop.tools.spool) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        lying = [
            len(list(folder.iterdir()))
            for _ in history.nights(shop.tools, choice, folder, NoProgress())
        ]
        assert lying == [2, 2, 2, 2]
        spool.fresh(folder)
        seen = history.sightings(shop.tools, choice, "k00", folder, NoProgress())
        assert [len(list(folder.iterdir())) for _ in seen] == [0, 0, 0, 0]
    nights.history()
    nights.history("--key", "k00")
    direct = Path(shop.shop.environment["PGBEN_SPOOL_DIR"]) / "direct"
    assert [one for one in direct.rglob("*") if one.is_file()] == []


def test_progress_counts_the_objects_of_all_nights(nights: Nights) -> None:
    nights.fill(7)
    for _ in range(3):
        nights.shop.snapshot()
    told = Told()
    choice = history.choose(survey(nights.shop.tools.repository, TARGET), last=None, since=None)
    with spool.passing_folder(nights.shop.tools.spool) as folder:
        list(history.nights(nights.shop.tools, choice, folder, told))
    assert (told.total, told.unit, told.done) == (21, "objects", 21)
    with spool.passing_folder(nights.shop.tools.spool) as folder:
        list(history.sightings(nights.shop.tools, choice, "k00", folder, told))
    assert (told.total, told.unit, told.done) == (3, "snapshots", 3)


# --- what cannot be read


def test_a_damaged_night_is_told_and_the_next_is_compared_with_the_last_good_one(
    nights: Nights,
) -> None:
    nights.fill(5)
    first = nights.shop.snapshot()
    damaged = []
    for number in range(4):
        nights.shop.put(f"new {number}", b"")
        damaged.append(nights.shop.snapshot())
    last = damaged.pop()
    flip(nights.inventory(damaged[0]))
    nights.inventory(damaged[1]).unlink()
    nights.manifest(damaged[2]).write_bytes(b"{}")
    found = nights.history(code=5)
    newest, *between, oldest = found["snapshots"]
    assert (newest["backup"], oldest["backup"]) == (last.backup, first.backup)
    assert (newest["compared_with"], newest["changes"]["added"]["objects"]) == (first.backup, 4)
    assert [one["backup"] for one in between] == [one.backup for one in damaged[::-1]]
    assert [one["changes"] for one in between] == [None, None, None]
    unbelievable, missing, flipped = between
    assert (unbelievable["state"], unbelievable["moment"]) == ("unreadable", None)
    assert "is not valid" in unbelievable["fault"]
    assert inventory_of(damaged[1]).path in missing["fault"]
    assert inventory_of(damaged[0]).path in flipped["fault"]
    said = nights.pgben("objects", "history", str(TARGET))
    assert said.code == 5
    assert f"compared with {first.backup}" in said.out
    assert said.out.count("cannot be read: ") == 3

    versions = nights.history("--key", "new 0", code=5)
    assert [one["backup"] for one in versions["unread"]] == [one.backup for one in damaged]
    (only,) = versions["versions"]
    assert (only["first"], only["what"]) == (last.backup, "first seen")
    said = nights.pgben("objects", "history", str(TARGET), "--key", "new 0")
    assert (said.code, said.err.count("cannot be read: ")) == (5, 3)
    # The night before the chosen ones is looked for in the same way.
    (alone,) = nights.history("--last", "1")["snapshots"]
    assert alone["compared_with"] == first.backup
    assert "is no bucket" in nights.pgben("objects", "history", "postgres").err


def test_a_night_that_retention_removes_meanwhile_is_no_damage(nights: Nights) -> None:
    nights.fill(5)
    repository = nights.shop.tools.repository
    first, pruned, last = (nights.shop.snapshot() for _ in range(3))
    choice = history.choose(survey(repository, TARGET), last=None, since=None)
    decision = {"kind": "prune", "packs_checked": 0, "opened": False, "manifest": None}
    of = {"repository": repository.id, "target": str(TARGET), "backup": pruned.backup}
    repository.record(samples.verification(**of, **decision))
    repository.remove_manifest(TARGET, pruned.backup_id)
    with spool.passing_folder(nights.shop.tools.spool) as folder:
        found = list(history.nights(nights.shop.tools, choice, folder, NoProgress()))
        seen = list(history.sightings(nights.shop.tools, choice, "k00", folder, NoProgress()))
    assert [(str(one.id), one.fault) for one in found] == [
        (first.backup, None),
        (last.backup, None),
    ]
    assert str(found[1].compared_with) == first.backup
    assert len(seen) == 2


def test_without_an_identity_nothing_is_read_and_it_is_said(nights: Nights) -> None:
    nights.fill(1)
    nights.shop.snapshot()
    without = {"PGBEN_AGE_IDENTITY_FILE": "", "PGBEN_INVENTORY_IDENTITY_FILE": ""}
    for more in ((), ("--key", "k00")):
        said = nights.pgben("objects", "history", str(TARGET), *more, **without)
        assert (said.code, said.out) == (2, "")
        assert "error: " in said.err
        assert "HINT: set PGBEN_INVENTORY_IDENTITY_FILE" in said.err


def test_neither_catalog_nor_broker_is_asked(nights: Nights) -> None:
    nights.fill(1)
    nights.shop.snapshot()
    dead = {"PGBEN_CATALOG_URL": DEAD, "PGBEN_REDIS_URL": "redis://127.0.0.1:1/0"}
    assert len(nights.history(changed=dead)["snapshots"]) == 1
    assert len(nights.history("--key", "k00", changed=dead)["versions"]) == 1


def test_what_is_not_there_is_one_sentence_and_a_hint(nights: Nights) -> None:
    protected = {"PGBEN_BUCKETS": TARGET.name, "PGBEN_MINIO_ACCESS_KEY": "access"}
    wrong: dict[tuple[str, ...], tuple[int, str, str]] = {
        ("bucket/nope",): (2, "'bucket/nope' is not protected by this", "known targets: "),
        ("postgres/postgres",): (2, "'postgres/postgres' is no bucket", "name a bucket, as in"),
        (str(TARGET),): (1, f"there is no snapshot of '{TARGET}' in ", f"`pgben backup {TARGET}`"),
        (str(TARGET), "--last", "0"): (
            2,
            "invalid value for '--last': must",
            "`pgben objects history --help`",
        ),
        (str(TARGET), "--since", "then"): (2, "'then' is not a moment", "write it like"),
    }
    for words, (code, sentence, hint) in wrong.items():
        said = nights.pgben("objects", "history", *words, **protected)
        assert said.code == code, said.all
        assert said.err.startswith(f"error: {sentence}"), said.err
        assert f"HINT: {hint}" in said.err, said.err
        assert said.out == ""
    nights.fill(1)
    nights.shop.snapshot()
    said = nights.pgben("objects", "history", str(TARGET), "--since", "2999-01-01")
    assert said.code == 1
    assert said.err.startswith(f"error: '{TARGET}' has no snapshot from 2999-01-01 00:00:00-03:00")
    assert f"HINT: `pgben list {TARGET}` shows" in said.err
    for absent in ("K00", "k0", "k000", "", "\udcff"):
        said = nights.pgben("objects", "history", str(TARGET), f"--key={absent}")
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith(f"error: no snapshot of '{TARGET}' that can be read holds that")
        assert "`pgben objects ls` shows them" in said.err
        assert "k0" not in said.err


# --- the versions of one object


@pytest.mark.usefixtures("later")
def test_the_versions_of_an_object_are_told_from_its_first_to_its_end(nights: Nights) -> None:
    shop = nights.shop
    nights.fill(10)
    taken = []

    def night() -> None:
        taken.append(shop.snapshot())

    night()
    shop.put("a", b"one", metadata={"iv": "1"})
    night()
    night()
    shop.put("a", b"two", metadata={"iv": "2"})
    night()
    shop.put("a", b"two", metadata={"iv": "2"}, headers={"content-language": "pt"})
    night()
    shop.bucket.put_tags("a", {"setor": "social"})
    night()
    shop.bucket.delete("a")
    night()
    shop.put(
        "a",
        b"two",
        metadata={"iv": "2"},
        headers={"content-language": "pt"},
        tags={"setor": "social"},
    )
    night()
    found = nights.history("--key", "a")
    assert (found["target"], found["key"], found["unread"]) == (str(TARGET), "a", [])
    told = [
        (one["version"], one["what"], one["first"], one["last"], one["snapshots"])
        for one in found["versions"]
    ]
    ids = [one.backup for one in taken]
    assert told == [
        (5, "as before", ids[7], ids[7], 1),
        (None, "gone", ids[6], ids[6], 1),
        (4, "tags", ids[5], ids[5], 1),
        (3, "headers", ids[4], ids[4], 1),
        (2, "bytes, metadata", ids[3], ids[3], 1),
        (1, "first seen", ids[1], ids[2], 2),
    ]
    first = found["versions"][-1]
    entry = shop.entries(taken[1])["a"]
    assert (first["size"], first["sha256"]) == (3, entry.sha256)
    assert datetime.fromisoformat(first["modified"]) == entry.modified
    assert [f"--backup {one} " in first["command"] for one in ids[:4]] == [
        False,
        False,
        True,
        False,
    ]
    assert len(nights.history("--key", "a", "--last", "3")["versions"]) == 3
    assert len(nights.history("--key", "a", "--last", "2")["versions"]) == 1

    said = nights.pgben("objects", "history", str(TARGET), "--key", "a")
    assert said.code == 0
    assert said.out.count("pgben restore bucket/documentos --backup ") == 5
    assert f"version 1, newest in {ids[2]} (verified):" in said.out
    assert str(entry.sha256)[:12] in said.out


def test_the_source_of_a_version_is_a_snapshot_that_a_restore_takes(nights: Nights) -> None:
    shop = nights.shop
    nights.fill(6)
    whole = shop.snapshot()
    shop.put("new", b"new")
    later = shop.snapshot()
    (pack,) = later.own_packs
    flip(shop.shop.repository / pack.path)
    with pytest.raises(IntegrityError):
        shop.run("verify", {"level": "full"})
    (only,) = nights.history("--key", "k00")["versions"]
    assert (only["last"], f"--backup {whole.backup} " in only["command"]) == (later.backup, True)
    (only,) = nights.history("--key", "new")["versions"]
    assert f"--backup {later.backup} --damaged " in only["command"]


def typed(command: str, shell: str = "bash") -> list[str]:
    """Return the arguments that pgben gets when a shell reads the command."""
    done = subprocess.run(
        [shell, "-c", f'pgben() {{ printf "%s\\0" "$@"; }}; {command}'],
        capture_output=True,
        check=True,
        timeout=60,
    )
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("shell", [pytest.param(one, marks=needs(one)) for one in ("bash", "zsh")])
def test_a_strange_key_is_found_and_its_command_can_be_typed(nights: Nights, shell: str) -> None:
    for key in STRANGE:
        nights.shop.put(key, b"1")
    taken = nights.shop.snapshot()
    for key in STRANGE:
        said = nights.pgben("objects", "history", str(TARGET), f"--key={key}")
        assert said.code == 0, said.err
        (line,) = [one for one in said.out.splitlines() if one.startswith("    pgben restore ")]
        assert line.isprintable()
        assert typed(line, shell) == [
            *("restore", str(TARGET), "--backup", taken.backup),
            *("--in-place", "--confirm", TARGET.name, f"--key={key}"),
        ]
        (only,) = nights.history(f"--key={key}")["versions"]
        assert only["command"] == line.strip()


def test_a_key_may_stand_apart_from_its_option_and_begin_with_a_dash(nights: Nights) -> None:
    nights.fill(2)
    nights.shop.put("-x y", b"1")
    nights.shop.snapshot()
    assert len(nights.history("--key", "-x y")["versions"]) == 1


def test_what_is_printed_brings_each_version_back(
    workshop: Workshop, protected_s3: EmbeddedS3
) -> None:
    def at(name: str) -> S3Bucket:
        return S3Bucket(bucket_location(protected_s3, bucket=name))

    shop = BucketShop(workshop, at(TARGET.name), at)
    shop.bucket.create()
    nights = Nights(PointShop(shop).buckets)
    keys = ("-cidad\u00e3o/1/rg 'frente'.jpg", "linha\nnova")
    versions: dict[str, list[object]] = {key: [] for key in keys}
    nights.fill(20)
    for number in range(2):
        for key in keys:
            shop.put(key, f"{number} {key}".encode(), metadata={"iv": f"{number}"})
            versions[key].append(contents(shop.bucket)[key])
        shop.snapshot()
    for key in keys:
        shop.bucket.delete(key)
    shop.snapshot()
    server = {
        "PGBEN_MINIO_HOST": protected_s3.endpoint,
        "PGBEN_MINIO_ACCESS_KEY": protected_s3.access_key,
        "PGBEN_MINIO_SECRET_KEY": protected_s3.secret_key,
        "PGBEN_BUCKETS": TARGET.name,
    }
    try:
        for key, before in versions.items():
            gone, newer, older = nights.history(f"--key={key}", changed=server)["versions"]
            assert gone["what"] == "gone"
            for one, content in zip((older, newer), before, strict=True):
                done = nights.pgben(*typed(one["command"]), "--direct", **server)
                assert done.code == 0, done.all
                assert contents(shop.bucket)[key] == content
    finally:
        for listed in list(shop.bucket.list()):
            shop.bucket.delete(listed.key)


# --- after a suspicion


def test_after_a_suspicion_the_newest_good_night_before_is_named(nights: Nights) -> None:
    shop = nights.shop
    nights.fill(20)
    shop.snapshot()
    good = shop.snapshot()
    for number in range(10):
        shop.bucket.delete(f"k{number:02d}")
    suspect = shop.snapshot()
    shop.put("new", b"1")
    after = shop.snapshot()
    assert (suspect.suspect is None, after.suspect) == (False, None)
    found = nights.history()
    assert found["suspect_since"]["backup"] == suspect.backup
    assert found["suspect_since"]["reason"] == suspect.suspect
    assert found["before"] == {
        "backup": good.backup,
        "moment": good.snapshot_time.isoformat().replace("+00:00", "Z"),
        "command": f"pgben restore {TARGET} --backup {good.backup}",
    }
    assert found["snapshots"][1]["changed_much"] == suspect.suspect
    said = nights.pgben("objects", "history", str(TARGET))
    assert said.code == 0
    assert f"suspect: {suspect.suspect}" in said.out
    assert f"suspect since {suspect.backup} (20" in said.err
    assert "no verified recovery point is from before" in said.err
    assert f"newest good snapshot before: {good.backup} (20" in said.err
    assert f"HINT: `{found['before']['command']}` restores it beside" in said.err
    assert nights.history("--key", "k00")["before"] == found["before"]
    assert nights.history("--last", "1")["before"] == found["before"]

    shop.run("acknowledge", {"backup": suspect.backup, "reason": "meant"})
    quiet = nights.history()
    assert (quiet["suspect_since"], quiet["before"]) == (None, None)
    said = nights.pgben("objects", "history", str(TARGET))
    assert f"suspect (acknowledged): {suspect.suspect}" in said.out
    assert said.err == ""


def test_after_a_suspicion_the_newest_recovery_point_before_is_named(shop: BucketShop) -> None:
    points = PointShop(shop)
    nights = Nights(points.buckets)
    nights.fill(20)
    older = points.form()
    shop.put("new", b"1")
    best = points.form()
    # Of a snapshot alone there is no point.
    points.buckets.snapshot()
    for number in range(10):
        shop.bucket.delete(f"k{number:02d}")
    with pytest.raises(PermanentError, match="joins no recovery point"):
        points.form()
    # One that is verified and holds the loss.
    assert points.form().good
    before = nights.history()["before"]
    assert before == {
        "point": str(best.id),
        "moment": best.moment.isoformat().replace("+00:00", "Z"),
        "command": f"pgben plan --all --point {best.id}",
    }
    said = nights.pgben("objects", "history", str(TARGET))
    assert f"newest recovery point before: {best.id} (20" in said.err
    assert f"HINT: `pgben plan --all --point {best.id}` shows what would come back" in said.err
    planned = nights.pgben(*shlex.split(before["command"])[1:], "--direct")
    # The bucket is one in memory here, so no server of it answers: that is told.
    assert (planned.code, str(best.id) in planned.out) == (3, True), planned.out
    # A member is damaged: the point does not count any more.
    (database,) = [one for one in best.members if one.target == str(shop.shop.target)]
    repository = points.tools.repository
    manifest = repository.manifest(shop.shop.target, BackupId.parse(database.backup))
    flip(shop.shop.repository / manifest.own_packs[0].path)
    with pytest.raises(IntegrityError):
        shop.shop.verify(level="full")
    assert nights.history()["before"]["point"] == str(older.id)


def test_where_nothing_good_is_from_before_a_suspicion_it_is_said(nights: Nights) -> None:
    nights.fill(10)
    first = nights.shop.snapshot()
    for number in range(9):
        nights.shop.bucket.delete(f"k{number:02d}")
    nights.shop.snapshot()
    (pack,) = first.own_packs
    flip(nights.shop.shop.repository / pack.path)
    with pytest.raises(IntegrityError):
        nights.shop.run("verify", {"level": "full"})
    found = nights.history()
    assert (found["suspect_since"] is None, found["before"]) == (False, None)
    said = nights.pgben("objects", "history", str(TARGET))
    assert "no verified snapshot is from before\n" in said.err
    assert f"HINT: `pgben list {TARGET}` shows what there is" in said.err
