"""What `pgben bootstrap` does: everything back from a repository, an identity and a fingerprint.

Beside ``direct`` in the layers. Each part can be done again: keys and catalog that are there are
used, and the restore is one job of the new catalog, under a key of its own, which goes on where it
was interrupted (docs/decisions/0029-bootstrap.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pgben_tasks import runtime
from pgben_tasks.adapters.keys import key_set
from pgben_tasks.adapters.packs.codec import AgePackCodec
from pgben_tasks.adapters.postgres.server import roles_without_password
from pgben_tasks.contracts import RestoreAllRequest
from pgben_tasks.direct.jobs import LedgerJobs, Onlooker
from pgben_tasks.direct.place import DirectPlace
from pgben_tasks.domain.job import EVERYTHING, Job
from pgben_tasks.errors import RestoreRefused
from pgben_tasks.files.durable import durable_file
from pgben_tasks.settings import Settings
from pgben_tasks.setup import catalog_rebuild
from pgben_tasks.setup.catalog_rebuild import Rebuilt
from pgben_tasks.setup.initialise import (
    COMMON_FILE,
    InitResult,
    enter_keys,
    initialise,
    lines,
)
from pgben_tasks.setup.new_servers import job_key
from pgben_tasks.setup.new_site import NewSite

#: The first of the settings that a finished bootstrap writes and `pgben init` does not.
_FINISHED: Final = "PGBEN_REPOSITORY="


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrapped:
    """What became of it: ``job`` is the restore as it ended; ``rebuilt`` is None when it had ended.

    ``roles`` are those that may log in and have no password yet, ``files`` the settings that were
    written, none where the restore failed.
    """

    made: InitResult
    rebuilt: Rebuilt | None
    job: Job
    roles: tuple[str, ...]
    files: tuple[Path, ...]


def bootstrap(
    site: NewSite,
    *,
    who: str,
    now: datetime,
    onlooker: Onlooker,
    announce: Callable[[str], None],
) -> Bootstrapped:
    """Bring back everything that ``site`` found; ``announce`` is told what begins.

    Raises ``RestoreRefused`` when anything stands in the way, before anything is changed.
    """
    _require_free_way(site)
    announce("keys: a new signing key, and the old ones stay believed")
    key_set.read_or_adopt(
        site.answers.keys.absolute(), site.known, identity=site.answers.identity, now=now
    )
    announce("the catalog's tables, the public keys in the repository, a new recovery card")
    made = initialise(site.settings, keys_folder=site.answers.keys, roles="single", now=now)
    settings = Settings.load({**site.environment, **made.environment})
    work = runtime.Workplace(settings)
    with work.database.kept():
        job = _asked(site, work, who=who)
        rebuilt = None
        if job.state != "succeeded":
            announce("catalog rebuild: every backup, its state, the audit trail")
            rebuilt = catalog_rebuild.rebuild(
                DirectPlace(settings), onlooker, who=who, dry_run=False
            )
            if made.public_keys is not None:
                enter_keys(work.trail, made.public_keys, who=who)
            announce(f"restore of everything of recovery point {site.point}")
            work.audit(job, result="began")
            job = _restored(work, job, onlooker)
            _enter(site, work, job, who=who)
        while work.trail.store_missing():
            pass
    done = job.state == "succeeded"
    return Bootstrapped(
        made=made,
        rebuilt=rebuilt,
        job=job,
        roles=roles_without_password(runtime.first_server(settings)) if done else (),
        files=_write_settings(made, site.environment) if done else (),
    )


def _require_free_way(site: NewSite) -> None:
    if site.obstacles:
        first, *others = site.obstacles
        more = "; ".join(one.sentence for one in others)
        raise RestoreRefused(f"{first.sentence}{more and '; '}{more}", first.hint)
    if site.job is not None and not key_set.exists(site.answers.keys):
        raise RestoreRefused(
            f"a bootstrap was begun with this catalog, and '{site.answers.keys}' does not hold its "
            "keys",
            "name the folder of its keys with --keys; where that is lost, drop the catalog and the "
            "databases and buckets that came back, and begin anew",
        )


def _asked(site: NewSite, work: runtime.Workplace, *, who: str) -> Job:
    """Return the restore of everything, written now or by a bootstrap before; queued if it failed.

    One of another point, or whose files lie in another spool, is called off.
    """
    key = job_key(site.known.repository, str(site.point))
    before = site.job
    if before is not None and not before.ended and (before.key, before.node) != (key, work.node):
        _call_off(work, before)
    request = RestoreAllRequest(
        point=str(site.point),
        in_place=True,
        confirm=site.names,
        settings=True,
        roles=True,
        requested_by=who,
        idempotency_key=key,
    )
    job, _ = work.ledger.request(
        "restore_all",
        target=EVERYTHING,
        key=key,
        request=request.model_dump(mode="json"),
        requested_by=who,
    )
    if job.ended and job.state != "succeeded":
        work.ledger.queue_again(job.id)
    return work.ledger.job(job.id)


def _call_off(work: runtime.Workplace, job: Job) -> None:
    error = {
        "type": "JobCancelled",
        "sentence": f"another bootstrap takes the place of this one, of node '{job.node}'",
        "hint": "",
        "step": job.step or "",
    }
    if job.state != "queued" and work.ledger.cancel(job.id, error=error):
        runtime.abandon(work.ledger.job(job.id), work.tools)


def _restored(work: runtime.Workplace, job: Job, onlooker: Onlooker) -> Job:
    """Do the restore and its parts; return it as it ended."""

    def enter(ended: Job) -> None:
        work.audit(ended, result=ended.state, detail=(ended.error or {}).get("sentence", ""))

    jobs = LedgerJobs(work.ledger, work.tools, onlooker=onlooker, on_end=enter)
    try:
        jobs.clean()
        ended = jobs.finish(job)
        jobs.clean()
    finally:
        if isinstance(work.tools.codec, AgePackCodec):
            work.tools.codec.close()
    return ended


def _enter(site: NewSite, work: runtime.Workplace, job: Job, *, who: str) -> None:
    """Enter the bootstrap itself into the audit trail: from which keys, and which point."""
    work.trail.append(
        who=who,
        action="bootstrap",
        target=EVERYTHING,
        job=str(job.id),
        result=job.state,
        detail=f"recovery point {site.point}; believed the public keys {site.known.fingerprint}",
    )


def _write_settings(made: InitResult, environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Write all settings into the file beside the keys, secrets into files of their own.

    One that has been written stays: it may have been edited.
    """
    path = made.keys.file(COMMON_FILE)
    if path.exists() and _FINISHED in path.read_text(encoding="utf-8"):
        return ()
    files, plain = [path], {}
    for name, text in environment.items():
        if not Settings.is_secret(name):
            plain[name] = text
            continue
        secret = made.keys.file(f"{name.removeprefix('PGBEN_').lower().replace('_', '-')}.txt")
        with durable_file(secret) as file:
            file.write(text.encode())
        files.append(secret)
        plain[f"{name}_FILE"] = str(secret)
    with durable_file(path) as file:
        file.write(lines({**plain, **made.environment}).encode())
    return tuple(files)
