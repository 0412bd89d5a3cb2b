"""What `pgben restore` is asked: the fields of its request, and the plan of a restore in place."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pgben_tasks.cli.view import outcome, output
from pgben_tasks.cli.view.snapshots import opened
from pgben_tasks.contracts import BucketRestoreRequest
from pgben_tasks.domain.swap import check_confirmation
from pgben_tasks.domain.target import Target
from pgben_tasks.errors import ConfigurationError

if TYPE_CHECKING:
    from pgben_tasks.domain.buckets.restore_plan import Found, PlanTotals

#: What the plan shows, in its order, and the words for it.
_SHOWN: dict[Found, str] = {
    "missing": "missing, would be put back",
    "differing": "differing, would be copied aside and put back",
    "tags": "differing in tags only, would be given back",
    "same": "the same",
    "extra": "extra, stay without --delete-extra",
    "unreadable": "not in the snapshot, stay as they are",
}


def confirmed(target: Target, confirm: str | None, *, swap: bool, in_place: bool) -> dict[str, Any]:
    """Return the fields of a request to replace something, if that was asked for and confirmed."""
    if swap and target.kind == "bucket":
        raise ConfigurationError(
            "a bucket is not swapped", "put objects back with --in-place, or restore beside it"
        )
    if swap or in_place:
        check_confirmation(target.name, confirm)
        return {"confirm": confirm, **({"swap": True} if swap else {})}
    if confirm is not None:
        raise ConfigurationError(
            "--confirm was given without --swap or --in-place", "nothing would be replaced"
        )
    return {}


def of_bucket(target: Target, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that only a restore of a bucket has; refuse them for a database."""
    if target.kind == "bucket":
        return asked
    if any(asked.values()):
        raise ConfigurationError(
            f"'{target}' is a database, which has no keys",
            "--prefix, --key, --put-below, --settings, --in-place, --delete-extra and --damaged "
            "are for buckets",
        )
    return {}


def require_plan(target: Target, only: dict[str, Any], *, in_place: bool) -> None:
    """Refuse where there is no plan to show, or where no restore could be asked for like that."""
    if target.kind != "bucket" or not in_place:
        raise ConfigurationError(
            "--dry-run was given without a restore in place",
            "only `pgben restore bucket/NAME --in-place` overwrites what exists",
        )
    BucketRestoreRequest.parse({"target": str(target), "in_place": True, **only})


def show_plan(snapshot: str, at: datetime | None, only: dict[str, Any], *, as_json: bool) -> int:
    """Compare the bucket with a snapshot here and now, and show what a restore in place would do.

    ``only`` has the ``prefix`` and the ``keys`` that are asked for. With ``as_json`` each object
    that differs is a document of its own, and the totals are the last.
    """
    from pgben_tasks.domain.buckets.restore_plan import KeyChoice, PlanTotals
    from pgben_tasks.operations.buckets.browse import open_inventory
    from pgben_tasks.operations.buckets.compare import compare_live
    from pgben_tasks.operations.buckets.restoring import capture_of, require_found

    totals = PlanTotals()
    choice = KeyChoice(prefix=only["prefix"], keys=frozenset(only["keys"]))
    with opened(snapshot, at=at) as (tools, manifest, folder):
        live = tools.other_bucket(manifest.target_name.name)
        output.say(f"comparing snapshot '{manifest.backup}' with {live.describe()}")
        capture, inventory = capture_of(manifest), open_inventory(tools, manifest, folder)
        for verdict in compare_live(tools, live, capture, inventory, choice, folder):
            totals.count(verdict)
            if as_json and verdict.found != "same":
                fields = {"key": verdict.key, "found": verdict.found, "differs": verdict.differs}
                sys.stdout.write(json.dumps({**fields, "size": verdict.size}) + "\n")
        require_found(
            choice,
            readable=totals.readable,
            unreadable=totals.of("unreadable"),
            backup=manifest.backup,
        )
    if as_json:
        counted = {
            found: {"objects": totals.of(found), "bytes": totals.size(found)} for found in _SHOWN
        }
        document = {"snapshot": manifest.backup, "dry_run": True, "totals": counted}
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        output.out().print(output.table(("objects", "bytes", "what"), _rows(totals)))
    return outcome.DONE


def _rows(totals: PlanTotals) -> list[tuple[str, str, str]]:
    return [
        (output.number(totals.of(found)), output.size(totals.size(found)), words)
        for found, words in _SHOWN.items()
        if totals.of(found)
    ]
