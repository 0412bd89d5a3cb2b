"""The chains, built from names alone: light to import, nothing registered.

Each public task is an entry that claims the job and replaces itself by one of these. ``ref`` is a
``JobRef`` as JSON; every step receives it from the step before. Steps that share a spool run on
the queue of the node that made the files.
"""

from __future__ import annotations

from typing import Final

from celery import Celery, chain, signature
from celery.canvas import Signature

from pgben_tasks import names
from pgben_tasks.contracts import JSON
from pgben_tasks.events import NO_NAMED_ARGUMENTS, shown_arguments

#: The place of a step that runs on the node that has its files, in this role.
NODE_BACKUP: Final = "node:backup"
NODE_RESTORE: Final = "node:restore"

#: The steps of every chain in order, with the place where each runs; ``Job.chain`` names one.
CHAINS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "backup": (
        (names.BACKUP_POSTGRES_DUMP, NODE_BACKUP),
        (names.BACKUP_POSTGRES_CHECKSUM, NODE_BACKUP),
        (names.BACKUP_POSTGRES_UPLOAD, NODE_BACKUP),
        # Only the maintenance worker's credential may delete.
        (names.BACKUP_POSTGRES_PRUNE, names.QUEUE_MAINTENANCE),
        (names.BACKUP_POSTGRES_RECORD, NODE_BACKUP),
    ),
    "backup_bucket": (
        (names.BACKUP_BUCKET_SNAPSHOT, NODE_BACKUP),
        (names.BACKUP_BUCKET_COPY, NODE_BACKUP),
        (names.BACKUP_BUCKET_CHECKSUM, NODE_BACKUP),
        (names.BACKUP_BUCKET_UPLOAD, NODE_BACKUP),
        (names.BACKUP_BUCKET_PRUNE, names.QUEUE_MAINTENANCE),
        (names.BACKUP_BUCKET_RECORD, NODE_BACKUP),
    ),
    # A backup that is new enough answers: only the maintenance worker's key may sign a hold of it.
    "existing": ((names.BACKUP_POSTGRES_RECORD, names.QUEUE_MAINTENANCE),),
    "existing_bucket": ((names.BACKUP_BUCKET_RECORD, names.QUEUE_MAINTENANCE),),
    # Backups of everything, then the recovery point that joins them; none needs a file of another.
    "point": (
        (names.BACKUP_ALL_DATABASES, names.QUEUE_BACKUP),
        (names.BACKUP_ALL_BUCKETS, names.QUEUE_BACKUP),
        (names.BACKUP_ALL_JOIN, names.QUEUE_BACKUP),
        (names.BACKUP_ALL_RECORD, names.QUEUE_BACKUP),
    ),
    "restore": (
        (names.RESTORE_POSTGRES_SELECT, NODE_RESTORE),
        (names.RESTORE_POSTGRES_FETCH, NODE_RESTORE),
        (names.RESTORE_POSTGRES_LOAD, NODE_RESTORE),
        (names.RESTORE_POSTGRES_CHECK, NODE_RESTORE),
        (names.RESTORE_POSTGRES_FINISH, NODE_RESTORE),
    ),
    # What comes after the check needs no file, so it goes on wherever a restore worker runs.
    "swap": (
        (names.RESTORE_POSTGRES_SELECT, NODE_RESTORE),
        (names.RESTORE_POSTGRES_FETCH, NODE_RESTORE),
        (names.RESTORE_POSTGRES_LOAD, NODE_RESTORE),
        (names.RESTORE_POSTGRES_CHECK, NODE_RESTORE),
        (names.RESTORE_POSTGRES_SWAP, names.QUEUE_RESTORE),
        (names.RESTORE_POSTGRES_FINISH, names.QUEUE_RESTORE),
    ),
    "restore_bucket": (
        (names.RESTORE_BUCKET_SELECT, NODE_RESTORE),
        (names.RESTORE_BUCKET_PLAN, NODE_RESTORE),
        (names.RESTORE_BUCKET_COPY, NODE_RESTORE),
        (names.RESTORE_BUCKET_FINISH, NODE_RESTORE),
    ),
    "replace": (
        (names.RESTORE_BUCKET_SELECT, NODE_RESTORE),
        (names.RESTORE_BUCKET_REPLACE_PLAN, NODE_RESTORE),
        (names.RESTORE_BUCKET_REPLACE_ASIDE, NODE_RESTORE),
        (names.RESTORE_BUCKET_REPLACE_WRITE, NODE_RESTORE),
        (names.RESTORE_BUCKET_REPLACE_FINISH, NODE_RESTORE),
    ),
    # A part of a restore of everything: what is missing is added before anything is overwritten.
    "replace_part": (
        (names.RESTORE_BUCKET_SELECT, NODE_RESTORE),
        (names.RESTORE_BUCKET_REPLACE_PLAN, NODE_RESTORE),
        (names.RESTORE_BUCKET_REPLACE_ADD, NODE_RESTORE),
        (names.RESTORE_BUCKET_REPLACE_ASIDE, NODE_RESTORE),
        (names.RESTORE_BUCKET_REPLACE_WRITE, NODE_RESTORE),
        (names.RESTORE_BUCKET_REPLACE_FINISH, NODE_RESTORE),
    ),
    # Everything of a recovery point: restores of databases and buckets, which are jobs.
    "restore_all": (
        (names.RESTORE_ALL_SELECT, names.QUEUE_RESTORE),
        (names.RESTORE_ALL_DATABASES, names.QUEUE_RESTORE),
        (names.RESTORE_ALL_BUCKETS, names.QUEUE_RESTORE),
        (names.RESTORE_ALL_CHECK, names.QUEUE_RESTORE),
        (names.RESTORE_ALL_FINISH, names.QUEUE_RESTORE),
    ),
    "replace_all": (
        (names.RESTORE_ALL_SELECT, names.QUEUE_RESTORE),
        (names.RESTORE_ALL_DATABASES, names.QUEUE_RESTORE),
        (names.RESTORE_ALL_BUCKETS, names.QUEUE_RESTORE),
        (names.RESTORE_ALL_CHECK, names.QUEUE_RESTORE),
        (names.RESTORE_ALL_SWAP, names.QUEUE_RESTORE),
        (names.RESTORE_ALL_OBJECTS, names.QUEUE_RESTORE),
        (names.RESTORE_ALL_FINISH, names.QUEUE_RESTORE),
    ),
    "undo": ((names.UNDO_RUN_FINISH, names.QUEUE_RESTORE),),
    "undo_all": ((names.UNDO_ALL_FINISH, names.QUEUE_RESTORE),),
    "verify": (
        (names.VERIFY_RUN_EXAMINE, names.QUEUE_VERIFY),
        (names.VERIFY_RUN_FINISH, names.QUEUE_VERIFY),
    ),
    "prune": ((names.PRUNE_RUN_FINISH, names.QUEUE_MAINTENANCE),),
    # Only the maintenance worker's key may sign what an operator decides.
    "acknowledge": ((names.ACKNOWLEDGE_RUN_FINISH, names.QUEUE_MAINTENANCE),),
    "hold": ((names.HOLD_RUN_FINISH, names.QUEUE_MAINTENANCE),),
    "sweep": ((names.SWEEP_RUN_FINISH, names.QUEUE_MAINTENANCE),),
    # Where audit entries are stored, and alarms are mailed from.
    "report": ((names.REPORT_RUN_FINISH, names.QUEUE_MAINTENANCE),),
}

#: The entry task of every kind of job, for a database where it is about one, and the queue where
#: it is claimed.
_ENTRIES: Final[dict[str, tuple[str, str]]] = {
    "backup": (names.BACKUP_POSTGRES, names.QUEUE_BACKUP),
    "point": (names.BACKUP_ALL, names.QUEUE_BACKUP),
    "restore": (names.RESTORE_POSTGRES, names.QUEUE_RESTORE),
    "restore_all": (names.RESTORE_ALL, names.QUEUE_RESTORE),
    "undo": (names.UNDO_RUN, names.QUEUE_RESTORE),
    "undo_all": (names.UNDO_ALL, names.QUEUE_RESTORE),
    "verify": (names.VERIFY_RUN, names.QUEUE_VERIFY),
    "prune": (names.PRUNE_RUN, names.QUEUE_MAINTENANCE),
    "acknowledge": (names.ACKNOWLEDGE_RUN, names.QUEUE_MAINTENANCE),
    "hold": (names.HOLD_RUN, names.QUEUE_MAINTENANCE),
    "sweep": (names.SWEEP_RUN, names.QUEUE_MAINTENANCE),
    "report": (names.REPORT_RUN, names.QUEUE_MAINTENANCE),
}

#: The entry task of a kind of job of a bucket, where that has one of its own.
_BUCKET_ENTRIES: Final[dict[str, str]] = {
    "backup": names.BACKUP_BUCKET,
    "restore": names.RESTORE_BUCKET,
}


def entry(kind: str, target: str | None) -> tuple[str, str]:
    """Return the entry task of a kind of job for a target, and the queue where it is claimed."""
    name, queue = _ENTRIES[kind]
    of_bucket = target is not None and target.startswith("bucket/")
    return (_BUCKET_ENTRIES.get(kind, name) if of_bucket else name), queue


def entry_tasks() -> frozenset[str]:
    """Return the entry task of every kind of job, those of buckets among them."""
    return frozenset({name for name, _ in _ENTRIES.values()} | set(_BUCKET_ENTRIES.values()))


def entry_queue(kind: str) -> str:
    """Return the queue where jobs of a kind are claimed."""
    return _ENTRIES[kind][1]


def queue_of(place: str, node: str) -> str:
    """Return the queue of a step that runs at ``place`` for a job claimed by ``node``."""
    kind, _, role = place.partition(":")
    return names.node_queue(role, node) if kind == "node" else place


def first_step(chain: str) -> str:
    """Return the first step of a chain."""
    return CHAINS[chain][0][0]


def has_step(chain: str, step: str) -> bool:
    """Return whether ``step`` is one of a chain's: another version may have had others."""
    return step in [name for name, _ in CHAINS[chain]]


def needs_its_node(chain: str, step: str) -> bool:
    """Return whether ``step`` or one after it runs where the job's files are."""
    names_and_places = CHAINS[chain]
    position = [name for name, _ in names_and_places].index(step)
    return any(place.startswith("node:") for _, place in names_and_places[position:])


def next_step(chain: str, step: str) -> str | None:
    """Return the step after ``step``, or None after the last."""
    steps = [name for name, _ in CHAINS[chain]]
    position = steps.index(step) + 1
    return steps[position] if position < len(steps) else None


def build(
    app: Celery,
    name: str,
    ref: JSON,
    *,
    node: str,
    start: str | None = None,
    root_task: str | None = None,
) -> Signature:
    """Build the chain ``name`` for a job, from its beginning or from the step ``start``.

    ``root_task`` is the id that callers wait on: the last step gets it, as it does when an entry
    task replaces itself.
    """
    steps = CHAINS[name]
    if start is not None:
        position = [step for step, _ in steps].index(start)
        steps = steps[position:]
    (first, place), *rest = steps
    links = [signature(first, args=(ref,), app=app, queue=queue_of(place, node))]
    links += [signature(step, app=app, queue=queue_of(at, node)) for step, at in rest]
    for link in links:
        # Every step gets the same job from the one before it.
        link.set(argsrepr=shown_arguments((ref,)), kwargsrepr=NO_NAMED_ARGUMENTS)
    if root_task is not None:
        links[-1].set(task_id=root_task)
    return chain(*links, app=app)
