"""The pages of the console: what is known of the installation, and the forms that start work.

A form sends the same entry task as everybody else; its page then waits for the job in the ledger.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from datetime import date, datetime, time as wall_time
from hashlib import sha256
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import structlog
from tornado.web import HTTPError

from pgben_tasks import canvases, names
from pgben_tasks.console import forms
from pgben_tasks.console.facts import Facts, JobFacts
from pgben_tasks.console.forms import Form
from pgben_tasks.console.handlers import (
    HOME,
    SESSION,
    Handler,
    TooManyTries,
    own_path,
    status_of,
)
from pgben_tasks.console.summary import answers, job_page, month, progress_of
from pgben_tasks.console.words import LANGUAGES
from pgben_tasks.domain.history import TABLE, whole_table
from pgben_tasks.domain.job import EVERYTHING, Job, uncancellable
from pgben_tasks.domain.target import LATEST, BackupId, Target
from pgben_tasks.errors import (
    ConfigurationError,
    PgbenError,
    RequestRefused,
    TransientError,
)
from pgben_tasks.language import translatable as _

log = structlog.get_logger(__name__)

#: Seconds that a page waits for what workers say, before it is shown without it.
_FIRST_WAIT: Final = 4.0
_LATER_WAIT: Final = 0.2
#: How many jobs a list shows.
_LISTED: Final = 100
#: What was chosen so far, by the names of fields.
Values = dict[str, str]
#: What a form's page shows of a plan where it has none.
_NOTHING_CHOSEN: Final = {"plan": None, "plan_problem": None, "choose": None}
#: How many looks for a job are soon, a second apart; later ones are rarer.
_SOON: Final = 20
_LONGEST_NUMBER: Final = 6
#: The keys that forms are sent with; others are keys of somebody else's jobs.
_KEY: Final = re.compile(r"console:[0-9a-f]{32}")
#: Fields of a form that are the page's own.
_OF_THE_PAGE: Final = ("_xsrf", "key")


class LoginPage(Handler):
    """Logs people in."""

    open_to_all = True

    def get(self) -> None:
        """Show the form."""
        if self.shared.sessions is None:
            self.redirect(self.shared.url(HOME))
            return
        self.show("login.html", next=self.get_argument("next", ""), name="", problem="")

    async def post(self) -> None:
        """Check name and password; begin a session."""
        shared, words = self.shared, self.words
        name = self.get_body_argument("name", "")
        password = self.get_body_argument("password", "", strip=False)
        target = self.get_body_argument("next", "")
        try:
            visitor = await shared.log_in(name, password, self.request.remote_ip or "?")
        except TooManyTries as exc:
            self.set_status(exc.status_code)
            self.set_header("Retry-After", str(exc.seconds))
            problem = words(
                _("Too many logins failed. Try again in {seconds} s."), seconds=exc.seconds
            )
        except ConfigurationError as exc:
            log.error("users_not_read", why=exc.sentence)  # noqa: TRY400 - a sentence, no trace
            self.set_status(HTTPStatus.SERVICE_UNAVAILABLE)
            problem = words(_("Something went wrong; the console's log says what."))
        except HTTPError as exc:
            self.set_status(exc.status_code)
            problem = words(_("This name and this password do not go together."))
        else:
            sessions = shared.sessions
            if sessions is not None:
                sessions.end(self.get_cookie(SESSION) or "")
                self.keep_session(sessions.begin(visitor))
            log.info("logged_in", user=visitor.name, role=visitor.role)
            self.redirect(own_path(target, prefix=shared.prefix))
            return
        self.show("login.html", next=target, name=name, problem=problem)


class LogoutPage(Handler):
    """Logs people out."""

    open_to_all = True

    def get(self) -> None:
        """Show the button: a link of another page must not log anybody out."""
        self.show("logout.html")

    def post(self) -> None:
        """End the session."""
        token = self.get_cookie(SESSION)
        if token is not None and self.shared.sessions is not None:
            self.shared.sessions.end(token)
        self.clear_cookie(SESSION, path=f"{self.shared.prefix}/")
        self.redirect(self.shared.url(f"{HOME}/login"))


class NoPage(Handler):
    """Stands for every address of ours that has no page."""

    def get(self, _: str) -> None:
        """Raise 404, which is answered by a page."""
        raise HTTPError(HTTPStatus.NOT_FOUND)

    post = get


class LanguagePage(Handler):
    """Changes the language."""

    open_to_all = True

    def get(self, language: str) -> None:
        """Remember it, and go back."""
        if language not in LANGUAGES:
            raise HTTPError(HTTPStatus.NOT_FOUND)
        self.keep_language(language)
        self.redirect(own_path(self.get_argument("next", ""), prefix=self.shared.prefix))


class OverviewPage(Handler):
    """Whether everything can be restored, to when and how fast; then what happened and happens."""

    async def get(self, fragment: str | None = None) -> None:
        """Show it, or the part of it that changes."""
        shared, words = self.shared, self.words
        status = await shared.status(_LATER_WAIT if fragment else _FIRST_WAIT)
        problem: PgbenError | None = None
        overview = None
        try:
            overview = await shared.run(shared.facts.overview)
        except PgbenError as exc:
            problem = exc
        self.show(
            "overview_live.html" if fragment else "overview.html",
            fragment=bool(fragment),
            status=status,
            status_problem=words.error(status.error) if status.error else None,
            answers=answers(status, overview, words),
            overview=overview,
            problem=words.error(problem) if problem else None,
            weeks=month(overview.nights) if overview else (),
            targets=shared.facts.work.target_names(),
            alarm=words.alarm,
            progress_of=progress_of,
            keep_restored=shared.facts.settings.keep_restored,
            keep_replaced=shared.facts.settings.keep_replaced,
        )


class NightPage(Handler):
    """What became of the windows of one night."""

    async def get(self, text: str) -> None:
        """Show its jobs."""
        try:
            day = date.fromisoformat(text)
        except ValueError as exc:
            raise HTTPError(HTTPStatus.NOT_FOUND) from exc
        facts = self.shared.facts
        begins = datetime.combine(day, wall_time(), facts.work.zone)
        jobs = await self.shared.run(facts.night, begins)
        self.show("night.html", day=day, jobs=jobs)


class JobsPage(Handler):
    """The newest jobs."""

    async def get(self) -> None:
        """List them."""
        jobs = await self.shared.run(self.shared.facts.jobs, limit=_LISTED)
        self.show("jobs.html", jobs=jobs)


class HistoryPage(Handler):
    """How jobs ended, as the files of the history say it."""

    async def get(self) -> None:
        """List the newest ends."""
        lines = await self.shared.run(self.shared.facts.history, limit=_LISTED)
        self.show("history.html", lines=lines)


class HistoryFile(Handler):
    """The whole history as a table for programs."""

    async def get(self) -> None:
        """Send it, the oldest end first."""
        lines = await self.shared.run(self.shared.facts.history)
        self.set_header("Content-Type", "text/csv; charset=UTF-8")
        self.set_header("Content-Disposition", f'attachment; filename="{TABLE.name}"')
        self.finish(whole_table(lines[::-1]))


class JobPage(Handler):
    """One job: its steps with their times, its error with its hint, who asked for it."""

    async def get(self, name: str, fragment: str | None = None) -> None:
        """Show it, or the part of it that changes."""
        found = await self.shared.run(self.shared.facts.job, name)
        if not fragment and name != str(found.job.id):
            self.redirect(self.shared.url(f"{HOME}/jobs/{found.job.id}"))
            return
        waits = await self._missing_workers(found.job)
        self.show(
            "job_live.html" if fragment else "job.html",
            fragment=bool(fragment),
            **job_page(found, self.words),
            missing=waits,
            may_cancel=self.visitor.may_operate and uncancellable(found.job) is None,
            row=last_step(found.job),
        )

    async def _missing_workers(self, job: Job) -> list[str]:
        """Return the roles of workers that a waiting job needs, and of which none is alive."""
        if job.state not in {"queued", "waiting"}:
            return []
        living = {
            name.partition(".")[0] for name in await self.shared.run(self.shared.facts.workers)
        }
        places = [canvases.entry_queue(job.kind), *(at for _, at in canvases.CHAINS[job.chain])]
        return sorted({place.removeprefix("node:") for place in places} - living)


def last_step(job: Job) -> str:
    """Return the name of the row that stands for a job in Flower."""
    return canvases.CHAINS[job.chain][-1][0]


class AskedPage(Handler):
    """Waits for the job of something that was asked for."""

    async def get(self, key: str) -> None:
        """Go to the job as soon as a worker has written it."""
        job = await self.shared.run(self.shared.facts.by_key, key)
        if job is not None:
            self.redirect(self.shared.url(f"{HOME}/jobs/{job.id}"))
            return
        role, looks = self.get_argument("role", ""), self.get_argument("looks", "0")
        living = await self.shared.run(self.shared.facts.workers)
        count = int(looks) + 1 if looks.isdecimal() and len(looks) < _LONGEST_NUMBER else 1
        self.show(
            "asked.html",
            again=f"{self.request.path}?role={quote(role)}&looks={count}",
            late=count > _SOON,
            workers=living,
            missing=role in names.QUEUES and not any(one.startswith(f"{role}.") for one in living),
            role=role,
        )


class BackupsPage(Handler):
    """The backups of one target, to choose from."""

    async def get(self) -> None:
        """List them."""
        target = str(_known_target(self.get_argument("target", ""), self.shared.facts))
        before = self.get_argument("before", None)
        found = await self.shared.ask(self.shared.facts.backups, target, before=before)
        self.show("backups.html", target=target, found=found)


class PointsPage(Handler):
    """The recovery points, to choose from."""

    async def get(self) -> None:
        """List them."""
        before = self.get_argument("before", None)
        found = await self.shared.ask(self.shared.facts.points, before=before)
        self.show("points.html", found=found)


class ReportPage(Handler):
    """The newest report, or an earlier one, as the step that made it drew it."""

    async def get(self, report: str | None = None) -> None:
        """Show it."""
        found = await self.shared.run(self.shared.facts.report, report, self.words.language)
        if report is not None and found.kept is None:
            raise HTTPError(HTTPStatus.NOT_FOUND)
        self.show("report.html", kept=found.kept, page=found.page, others=found.others)


class FormPage(Handler, ABC):
    """Base of the pages with a form: ``get`` shows it, ``post`` sends what it asks for."""

    #: Whether something that exists would be replaced, or a job ends: its button is red.
    grave = False

    @abstractmethod
    def heading(self, values: Values) -> str:
        """Return what the form does."""

    async def load(self, values: Values) -> None:
        """Read what the form is made from; raises when there is no such thing."""

    async def look(self, values: Values) -> dict[str, Any]:  # noqa: ARG002 - pages look at them
        """Return what the page shows beside the form; may replace ``latest`` by what it found."""
        return {}

    @abstractmethod
    def form(self, values: Values) -> Form:
        """Return the form for what was chosen so far."""

    async def get(self) -> None:
        """Show the form."""
        if not self.require_operator():
            return
        values = {name: self.get_query_argument(name) for name in self.request.query_arguments}
        await self.load(values)
        shown = await self.look(values)
        self._show(self.form(values), values, shown, key=f"console:{uuid4().hex}")

    async def post(self) -> None:
        """Check what was typed, and send it; show the form again when it cannot be."""
        if not self.require_operator():
            return
        typed = {
            name: self.get_body_arguments(name, strip=False)
            for name in self.request.body_arguments
            if name not in _OF_THE_PAGE
        }
        values = {name: some[-1] for name, some in typed.items()}
        key = self.get_body_argument("key", "")
        if not _KEY.fullmatch(key):
            key = f"console:{uuid4().hex}"
        await self.load(values)
        form = self.form(values)
        try:
            found = forms.read(form, typed)
            where = await self._send(form, found, key)
        except (RequestRefused, TransientError, ConfigurationError) as exc:
            self.set_status(status_of(exc))
            shown = await self.look(values)
            self._show(form.filled(typed), values, shown, key=key, error=exc)
            return
        self.redirect(where)

    async def _send(self, form: Form, found: dict[str, Any], key: str) -> str:
        """Send the request; return the page to go to."""
        shared, who = self.shared, self.visitor.name
        kind, request = forms.request_of(form, found, who=who, key=key)
        same = repr((kind, request.model_dump(mode="json", exclude={"idempotency_key"})))
        # A page that a browser kept may be filled in otherwise: that is another job.
        key = f"{key}:{sha256(same.encode()).hexdigest()[:12]}"
        first = shared.asked.first(same, key)
        if first == key and await shared.run(shared.facts.by_key, key) is None:
            try:
                sent = request.model_copy(update={"idempotency_key": key})
                await shared.run(shared.facts.client.send, kind, sent)
            except PgbenError:
                shared.asked.forget(same)
                raise
            log.info("asked", user=who, kind=kind, target=found.get("target", ""))
        role = canvases.entry_queue(kind)
        return shared.url(f"{HOME}/asked/{quote(first, safe=':')}?role={role}")

    def _show(
        self,
        form: Form,
        values: Values,
        shown: dict[str, Any],
        *,
        key: str,
        error: PgbenError | None = None,
    ) -> None:
        self.show(
            "form.html",
            heading=self.heading(values),
            form=form,
            key=key,
            grave=self.grave or _in_place(values),
            problem=self.words.form_error(error) if error else None,
            **(_NOTHING_CHOSEN | shown),
        )


class BackupForm(FormPage):
    """Backs one target up, or everything."""

    def heading(self, values: Values) -> str:  # noqa: ARG002 - the base has them
        """Return what the form does."""
        return self.words(_("Back up now"))

    def form(self, values: Values) -> Form:
        """Return the form."""
        facts = self.shared.facts
        return forms.backup_form(
            facts.work.target_names(),
            points=facts.settings.forms_points,
            chosen=values.get("target"),
        )


class VerifyForm(FormPage):
    """Verifies one backup, one target or everything."""

    def heading(self, values: Values) -> str:
        """Return what the form does."""
        if "backup" in values:
            return self.words(_("Verify backup {backup}"), backup=values["backup"])
        return self.words(_("Verify now"))

    async def load(self, values: Values) -> None:
        """Check what was chosen."""
        if values.get("target", EVERYTHING) != EVERYTHING:
            values["target"] = str(_known_target(values["target"], self.shared.facts))
        if "backup" in values:
            _check_id(values["backup"])

    def form(self, values: Values) -> Form:
        """Return the form."""
        return forms.verify_form(
            self.shared.facts.work.target_names(),
            chosen=values.get("target"),
            backup=values.get("backup"),
        )


class RestoreForm(FormPage):
    """Restores one backup beside the original, or in its place: the plan first."""

    def heading(self, values: Values) -> str:
        """Return what the form does."""
        text = _("Restore {target} in place") if _in_place(values) else _("Restore {target} beside")
        return self.words(text, target=values["target"])

    async def load(self, values: Values) -> None:
        """Check what was chosen."""
        values["target"] = str(_known_target(values.get("target", ""), self.shared.facts))
        values.setdefault("backup", LATEST)
        _check_id(values["backup"])

    async def look(self, values: Values) -> dict[str, Any]:
        """Return the plan, and the other way to restore."""
        target = values["target"]
        shown = await self._planned({"target": target, "backup": values["backup"]}, values)
        if shown["plan"]:
            values["backup"] = shown["plan"]["parts"][0]["backup"]
        other = "false" if _in_place(values) else "true"
        return {
            **shown,
            "choose": f"{HOME}/backups?target={quote(target, safe='')}",
            "other_way": f"{HOME}/do/restore?target={quote(target, safe='')}"
            f"&backup={values['backup']}&in_place={other}",
        }

    def form(self, values: Values) -> Form:
        """Return the form for the backup that was chosen."""
        return forms.restore_form(
            values["target"],
            values["backup"],
            in_place=_in_place(values),
            name=Target.parse(values["target"]).name,
        )

    async def _planned(self, fields: dict[str, Any], values: Values) -> dict[str, Any]:
        words, in_place = self.words, _in_place(values)
        try:
            plan = await self.shared.ask(self.shared.facts.plan, fields)
        except PgbenError as exc:
            return {"plan": None, "plan_problem": words.error(exc), "in_place": in_place}
        against = plan["obstacles_in_place" if in_place else "obstacles"]
        return {
            "plan": plan,
            "in_place": in_place,
            "obstacles": [words.obstacle(one) for one in against],
        }


class RestoreAllForm(RestoreForm):
    """Restores everything of a recovery point: the plan first."""

    def heading(self, values: Values) -> str:
        """Return what the form does."""
        text = (
            _("Restore everything in place")
            if _in_place(values)
            else _("Restore everything beside")
        )
        return self.words(text)

    async def load(self, values: Values) -> None:
        """Check what was chosen."""
        values.setdefault("point", LATEST)
        _check_id(values["point"])

    async def look(self, values: Values) -> dict[str, Any]:
        """Return the plan, and the other way to restore."""
        shown = await self._planned({"point": values["point"]}, values)
        if shown["plan"]:
            values["point"] = shown["plan"]["point"]
        other = "false" if _in_place(values) else "true"
        return {
            **shown,
            "choose": f"{HOME}/points",
            "other_way": f"{HOME}/do/restore_all?point={values['point']}&in_place={other}",
        }

    def form(self, values: Values) -> Form:
        """Return the form for the point that was chosen."""
        targets = [Target.parse(one).name for one in self.shared.facts.work.target_names()]
        return forms.restore_all_form(
            values["point"], in_place=_in_place(values), names=list(dict.fromkeys(targets))
        )


class ReportForm(FormPage):
    """Makes a report now."""

    def heading(self, values: Values) -> str:  # noqa: ARG002 - the base has them
        """Return what the form does."""
        return self.words(_("Make a report now"))

    def form(self, values: Values) -> Form:  # noqa: ARG002 - the base has them
        """Return the form."""
        return forms.report_form()


class JobForm(FormPage):
    """Base of the forms about a job."""

    grave = True
    found: JobFacts

    async def load(self, values: Values) -> None:
        """Read the job."""
        if not values.get("job"):
            raise RequestRefused("no job was named", "open the page of a job, and begin there")
        self.found = await self.shared.run(self.shared.facts.job, values["job"])


class UndoForm(JobForm):
    """Turns a swap back, or all swaps of a restore of everything."""

    def heading(self, values: Values) -> str:  # noqa: ARG002 - the base has them
        """Return what the form does."""
        return self.words(_("Undo a restore in place"))

    async def load(self, values: Values) -> None:
        """Read the job; raises ``RequestRefused`` when there is nothing to turn back."""
        await super().load(values)
        if not self.found.replaced:
            raise RequestRefused(
                f"job '{self.found.job.id}' has replaced nothing that could be turned back",
                "its page says what became of it",
            )

    async def look(self, values: Values) -> dict[str, Any]:  # noqa: ARG002 - the base has them
        """Return what takes its name again."""
        return {"swaps": self.found.replaced}

    def form(self, values: Values) -> Form:  # noqa: ARG002 - the base has them
        """Return the form for the job whose swaps are turned back."""
        job, swaps = self.found.job, self.found.replaced
        if job.kind == "restore_all":
            return forms.undo_all_form(str(job.id), names=[one.live for one in swaps])
        (swap,) = swaps
        return forms.undo_form(swap.target, str(swap.job), name=swap.live)


class CancelForm(JobForm):
    """Cancels a job."""

    def heading(self, values: Values) -> str:  # noqa: ARG002 - the base has them
        """Return what the form does."""
        return self.words(_("Cancel this job"))

    async def look(self, values: Values) -> dict[str, Any]:  # noqa: ARG002 - the base has them
        """Return the job."""
        return {"job": self.found.job}

    def form(self, values: Values) -> Form:  # noqa: ARG002 - the base has them
        """Return the form for one job."""
        return forms.cancel_form(str(self.found.job.id))

    async def _send(self, form: Form, found: dict[str, Any], key: str) -> str:  # noqa: ARG002 - it has no job
        facts, who, job = self.shared.facts, self.visitor.name, self.found.job.id
        await self.shared.ask(facts.cancel, job, requested_by=who)
        log.info("cancelled", user=who, job=str(job))
        return self.shared.url(f"{HOME}/jobs/{job}")


class AcknowledgeForm(FormPage):
    """Records that a suspect backup is plausible."""

    def heading(self, values: Values) -> str:
        """Return what the form does."""
        return self.words(_("Acknowledge backup {backup}"), backup=values["backup"])

    async def load(self, values: Values) -> None:
        """Check what was chosen."""
        values["target"] = str(_known_target(values.get("target", ""), self.shared.facts))
        values.setdefault("backup", "")
        _check_id(values["backup"])

    def form(self, values: Values) -> Form:
        """Return the form for one backup."""
        return forms.acknowledge_form(values["target"], values["backup"])


class HoldForm(AcknowledgeForm):
    """Keeps a backup from being pruned."""

    def heading(self, values: Values) -> str:
        """Return what the form does."""
        return self.words(_("Hold backup {backup}"), backup=values["backup"])

    def form(self, values: Values) -> Form:
        """Return the form for one backup."""
        return forms.hold_form(values["target"], values["backup"])


class ReleaseForm(AcknowledgeForm):
    """Ends a hold."""

    def heading(self, values: Values) -> str:
        """Return what the form does."""
        return self.words(_("Release backup {backup}"), backup=values["backup"])

    def form(self, values: Values) -> Form:
        """Return the form for one backup."""
        return forms.release_form(values["target"], values["backup"])


def _in_place(values: Values) -> bool:
    """Return whether what exists is replaced: databases call it a swap."""
    return "true" in (values.get("in_place"), values.get("swap"))


def _check_id(text: str) -> None:
    """Raise ``RequestRefused`` unless a text is an id or ``latest``."""
    try:
        if text != LATEST:
            BackupId.parse(text)
    except ConfigurationError as exc:
        raise RequestRefused(exc.sentence, exc.hint) from exc


def _known_target(text: str, facts: Facts) -> Target:
    """Return a protected target; raises ``RequestRefused`` for any other."""
    try:
        target = Target.parse(text)
    except ConfigurationError as exc:
        raise RequestRefused(exc.sentence, exc.hint) from exc
    if str(target) not in facts.work.target_names():
        raise RequestRefused(
            f"'{target}' is not protected by this installation",
            "see PGBEN_DB_NAME, PGBEN_SERVERS_FILE and PGBEN_BUCKETS",
        )
    return target


#: The page of each form, by the word in its address.
FORMS: Final[dict[str, type[FormPage]]] = {
    "backup": BackupForm,
    "verify": VerifyForm,
    "restore": RestoreForm,
    "restore_all": RestoreAllForm,
    "undo": UndoForm,
    "acknowledge": AcknowledgeForm,
    "hold": HoldForm,
    "release": ReleaseForm,
    "cancel": CancelForm,
    "report": ReportForm,
}
