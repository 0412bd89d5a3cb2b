"""The plan of a restore: how long it takes, what stands in the way, and what to type."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from typing import Any

from pgben_tasks.domain.plan import Occupied, PlannedPart, RestorePlan, size_of
from pgben_tasks.domain.target import BackupId, Target
from tests.support import samples

NOW = datetime(2026, 11, 30, 5, tzinfo=UTC)
POINT = BackupId.parse("20261130T050000Z-1f0c9a")


def part(target: str, **fields: Any) -> PlannedPart:
    values: dict[str, Any] = {
        "target": Target.parse(target),
        "backup": BackupId.parse("20261130T050000Z-aaaaaa"),
        "state": "verified",
        "moment": NOW,
        "objects": None,
        "rows": 7,
        "size": 100,
        "stored": 50,
        "exists": True,
        "live": Occupied(size=9, sessions={"pgben (api)": 3}),
        "seconds": 2.0,
        "obstacles": (),
        "in_place": (),
    }
    return PlannedPart(**{**values, **fields})


def plan(*parts: PlannedPart, point: BackupId | None = POINT, **fields: Any) -> RestorePlan:
    values: dict[str, Any] = {"moment": NOW, "faults": 0, "needed": 10, "free": 20}
    return RestorePlan(point=point, parts=parts, **{**values, **fields})


DATABASE = part("postgres/pgben")
BUCKET = part("bucket/docs", objects=3, rows=None, live=None)


def test_how_long_it_takes_is_known_only_when_it_is_known_of_every_part() -> None:
    assert plan(DATABASE, BUCKET).seconds == 4.0
    assert plan(DATABASE, part("bucket/docs", seconds=None)).seconds is None


def test_the_command_for_everything_names_all_that_is_replaced_once() -> None:
    whole = plan(BUCKET, DATABASE, part("bucket/pgben"))
    assert shlex.split(whole.command(in_place=False)) == [
        *("pgben", "restore", "--all", "--point", str(POINT))
    ]
    assert shlex.split(whole.command(in_place=True))[5:] == [
        *("--in-place", "--confirm", "docs", "--confirm", "pgben")
    ]


def test_the_command_for_one_target_names_its_backup() -> None:
    one = plan(DATABASE, point=None)
    assert one.command(in_place=True) == (
        "pgben restore postgres/pgben --backup 20261130T050000Z-aaaaaa --in-place --confirm pgben"
    )


def test_what_stands_against_a_restore_stands_against_one_in_place_too() -> None:
    blocked = part("postgres/pgben", obstacles=("no room",), in_place=("a slot",))
    found = plan(blocked, BUCKET)
    assert found.obstacles == ["'postgres/pgben': no room"]
    assert found.obstacles_in_place == ["'postgres/pgben': no room", "'postgres/pgben': a slot"]


def test_dumps_that_do_not_fit_together_stand_in_the_way() -> None:
    assert plan(DATABASE, needed=21).obstacles == [
        "the spool has 20 bytes free, all databases together need about 21"
    ]


def test_services_get_plain_json() -> None:
    told = json.loads(json.dumps(plan(DATABASE, BUCKET).to_json()))
    assert (told["point"], told["seconds"], told["faults"]) == (str(POINT), 4.0, 0)
    assert [one["connected"] for one in told["parts"]] == [{"pgben (api)": 3}, {}]
    assert [one["live_bytes"] for one in told["parts"]] == [9, None]
    assert told["commands"]["beside"] == f"pgben restore --all --point {POINT}"
    assert plan(DATABASE, point=None).to_json()["point"] is None


def test_the_size_of_a_database_is_that_of_its_dump() -> None:
    manifest = samples.manifest()
    assert size_of(manifest) == manifest.plain_bytes > 0
