"""Make the report of a week: gather it, keep it, mail it.

The mail must go when anything else fails, so a repository that is away only keeps the report from
being kept there, which is tried again. One job is one report: what is repeated after a crash sends
the same one, under the same id.
"""

from __future__ import annotations

import hashlib
from typing import Any, get_args

import structlog

from pgben_tasks.contracts import JSON, ReportRequest
from pgben_tasks.domain import layout
from pgben_tasks.domain.documents import REPORTS
from pgben_tasks.domain.job import EVERYTHING
from pgben_tasks.domain.report import Report
from pgben_tasks.domain.target import BackupId
from pgben_tasks.errors import FenceLost, PermanentError, PgbenError, RequestRefused
from pgben_tasks.language import Language
from pgben_tasks.operations.repository import evidence
from pgben_tasks.operations.toolbox import Run, Toolbox, Workers
from pgben_tasks.ports import Mail, Reporting

log = structlog.get_logger(__name__)


def require_new_workers(workers: Workers) -> None:
    """Raise ``RequestRefused`` while a worker counts whose version would call reports foreign."""
    if not workers.may_use_new_fields(REPORTS, in_use=False):
        raise RequestRefused(
            "a report cannot be kept while a worker runs, or ran within a day, whose version of "
            "pgben knows none",
            "update every worker; `pgben report` shows one without keeping it",
        )


def finish(run: Run, tools: Toolbox) -> JSON:
    """Gather the report, keep it in the catalog, mail it, and keep it in the repository."""
    reporting = _reporting(tools)
    run.progress.begin("report")
    report = _gathered(run, tools, reporting)
    told: dict[str, Any] = {
        "report": report.id,
        "colour": report.colour,
        "reasons": [one.text for one in report.reasons],
    }
    failed: list[PgbenError] = []
    # The mail first: a repository in a folder may hang for hours.
    for event, part in (
        ("report_not_mailed", lambda: _mail(run, reporting, report)),
        ("report_not_kept", lambda: {"file": _keep(run, tools, reporting, report)}),
    ):
        try:
            told |= part()
        except FenceLost:
            raise
        except PgbenError as exc:
            log.error(event, why=exc.sentence, hint=exc.hint)  # noqa: TRY400 - a sentence
            failed.append(exc)
    if failed:
        raise failed[0]
    log.info("report_made", report=report.id, colour=report.colour, mailed=told["mailed"])
    return told


def _reporting(tools: Toolbox) -> Reporting:
    if tools.reporting is None:
        raise PermanentError(
            "a report is made by a maintenance worker only", "`pgben report` shows one at once"
        )
    return tools.reporting


def _gathered(run: Run, tools: Toolbox, reporting: Reporting) -> Report:
    """Return the report of this job: the one it has made already, else a new one."""
    begun = run.job.context.get("report")
    made = reporting.record.document(begun) if begun else None
    if made is not None:
        return made
    report_id = begun or str(BackupId.make(tools.clock.now(), tools.suffix()))
    run.ledger.keep(context={"report": report_id})
    report = reporting.gather(report_id, run.job.window)
    languages: tuple[Language, ...] = get_args(Language)
    pages = {one: reporting.render(report, one, images="svg").html for one in languages}
    run.ledger.hold()
    reporting.record.add(report, job=run.job_id, window=run.job.window, pages=pages)
    return report


def _keep(run: Run, tools: Toolbox, reporting: Reporting, report: Report) -> str:
    """Store the report as one file beside the audit trail, which names its digest."""
    page = reporting.render(report, reporting.language, images="inline").html.encode()
    run.ledger.hold()
    digest = tools.repository.store_report(report.id, page)
    if digest != hashlib.sha256(page).hexdigest():
        # Another try of this job stored it, perhaps drawn by another version.
        log.info("report_kept_before", report=report.id)
    path = layout.report_path(report.id)
    tools.trail.append_missing(
        [evidence.report_entry(path, digest)],
        who=run.job.requested_by,
        action=evidence.REPORT,
        target=EVERYTHING,
        result=evidence.KEPT,
        job=str(run.job_id),
    )
    return path


def _mail(run: Run, reporting: Reporting, report: Report) -> JSON:
    """Send the report, unless an earlier run of this step did; return what became of it."""
    if run.job.context.get("mailed"):
        return {"mailed": True}
    if not ReportRequest.parse(run.job.request).mail:
        return _not_mailed(what="nobody asked for a mail")
    if reporting.mailer is None:
        log.error(
            "report_not_mailed",
            hint="set PGBEN_SMTP_HOST and PGBEN_ADMIN_EMAIL",
        )
        return _not_mailed(what="no mail server or no recipient is set")
    rendered = reporting.render(report, reporting.language, images="cid")
    run.ledger.hold()
    refused = reporting.mailer.send(
        Mail(
            subject=rendered.subject,
            body=rendered.text,
            at=report.made_at,
            id=f"report.{run.job_id}",
            html=rendered.html,
            images=rendered.images,
        )
    )
    # A crash before this sends the same mail once more, under the same id.
    run.ledger.keep(context={"mailed": True})
    if refused:
        log.warning("report_recipient_refused", why=f"not taken for {', '.join(refused)}")
    return {"mailed": True, "refused_for": len(refused)}


def _not_mailed(*, what: str) -> JSON:
    return {"mailed": False, "not_mailed": what}
