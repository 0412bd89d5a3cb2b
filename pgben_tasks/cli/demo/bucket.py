"""The demo's bucket: snapshots of its documents, their ruin, and what proves that all came back."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pgben_tasks.cli.demo import environment as stage
from pgben_tasks.cli.demo.jobs import Jobs
from pgben_tasks.cli.view import output

if TYPE_CHECKING:
    from pgben_tasks.embedded.bucket_client import StoredObject
    from pgben_tasks.embedded.stack import EmbeddedStack


def back_up_twice(jobs: Jobs, documents: stage.Documents) -> dict[str, Any]:
    """Take a first snapshot, and one of the unchanged bucket; give what they proved."""
    target = documents.target
    first, second = (
        jobs.do("backup", target, {"target": target}, typed=f"backup {target}") for _ in range(2)
    )
    return {
        "snapshot": first.backup,
        "snapshot_state": first.result["state"],
        "objects": first.result["objects"],
        # `fetched` also counts objects of which only the tags are read again, in their turn.
        "objects_fetched": first.result["wanted"],
        "objects_fetched_unchanged": second.result["wanted"],
    }


def contents(documents: stage.Documents) -> dict[str, StoredObject]:
    """Fetch every object by the platform's own client."""
    from pgben_tasks.embedded.data import compare_bucket

    return compare_bucket.contents(documents.client)


def ruin(documents: stage.Documents) -> dict[str, int]:
    """Let people and ransomware do their work; give what it did."""
    from pgben_tasks.embedded.data import compare_bucket, ruin as demo_ruin

    done = demo_ruin.ruin(documents.client)
    output.say(
        f"\nan accident: {done.deleted} objects deleted, {done.overwritten} overwritten by "
        f"ransomware, tags of {done.retagged} changed, {done.extra} ransom note"
    )
    return {
        "objects_deleted": done.deleted,
        "objects_overwritten": done.overwritten,
        "objects_retagged": done.retagged,
        "objects_opened_ruined": compare_bucket.opened(
            contents(documents), documents.cipher, {}
        ).open,
    }


def restore(jobs: Jobs, documents: stage.Documents) -> dict[str, Any]:
    """Put everything back in place; give what became of it."""
    target, bucket = documents.target, documents.client.bucket
    asked = {"target": target, "in_place": True, "confirm": bucket, "delete_extra": True}
    typed = f"restore {target} --in-place --delete-extra --confirm {bucket}"
    done = jobs.do("restore", target, asked, typed=typed)
    return {
        "objects_put_back": done.result["written"],
        "aside": done.result["aside"],
        "objects_aside": done.result["aside_objects"],
    }


def compare(
    stack: EmbeddedStack,
    documents: stage.Documents,
    before: dict[str, StoredObject],
    *,
    database: str,
) -> dict[str, Any]:
    """Fetch everything again, compare it with what there was, and open every document.

    ``database`` is the restored one: what it knows must be what the restored bucket holds.
    """
    from pgben_tasks.embedded.data import compare_bucket, documents as demo_documents

    output.say("\ncomparing every object, and opening every document …")
    now = contents(documents)
    found = compare_bucket.difference(before, now)
    known = demo_documents.known(stack.postgres.dsn(), database, sorted(before))
    opened = compare_bucket.opened(now, documents.cipher, known)
    return {
        "objects_compared": len(before),
        "objects_missing": list(found.missing),
        "objects_extra": list(found.extra),
        "objects_differing": list(found.differing),
        "objects_opened": opened.open,
        "documents_known": len(known),
        "documents_as_in_database": opened.as_in_database,
    }


def faults(proof: dict[str, Any]) -> list[str]:
    """Say in sentences what did not come back as it was."""
    compared = proof["objects_compared"]
    counted = {
        "are missing": len(proof["objects_missing"]),
        "are too many": len(proof["objects_extra"]),
        "differ": len(proof["objects_differing"]),
        "do not open": compared - proof["objects_opened"],
    }
    wrong = [
        f"{count} of {compared} objects {what} after the restore"
        for what, count in counted.items()
        if count
    ]
    unlike = proof["documents_known"] - proof["documents_as_in_database"]
    if unlike:
        wrong.append(f"{unlike} documents are not what the restored database knows of them")
    if again := proof["objects_fetched_unchanged"]:
        wrong.append(f"a snapshot of the unchanged bucket fetched {again} objects")
    return wrong


def facts(proof: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what was proved, for people."""
    compared = proof["objects_compared"]
    unlike = sum(len(proof[f"objects_{what}"]) for what in ("missing", "extra", "differing"))
    yield "first snapshot", f"{proof['snapshot']} ({proof['snapshot_state']})"
    yield "objects fetched by the first snapshot", output.number(proof["objects_fetched"])
    yield "by the next one, unchanged", output.number(proof["objects_fetched_unchanged"])
    yield (
        "deleted, overwritten, retagged",
        ", ".join(
            output.number(proof[f"objects_{what}"])
            for what in ("deleted", "overwritten", "retagged")
        ),
    )
    yield "objects that opened after that", f"{proof['objects_opened_ruined']} of {compared}"
    yield "put back in place", output.number(proof["objects_put_back"])
    yield "kept aside before that", f"{output.number(proof['objects_aside'])} in {proof['aside']}"
    yield "objects as they were, to the byte", f"{compared - unlike} of {compared}"
    yield "objects that open with their metadata", f"{proof['objects_opened']} of {compared}"
    yield (
        "documents as the database knows them",
        f"{proof['documents_as_in_database']} of {proof['documents_known']}",
    )
