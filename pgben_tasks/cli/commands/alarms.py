"""The command about alarms: which there were, whether their mails went, whether mails go at all."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from pgben_tasks.cli.ask.installation import open_workplace
from pgben_tasks.cli.options import AsJson, Wide, examples
from pgben_tasks.cli.view import outcome, output
from pgben_tasks.errors import ConfigurationError

if TYPE_CHECKING:
    from pgben_tasks.domain.alarm import KeptAlarm
    from pgben_tasks.runtime import Workplace

app = typer.Typer()

ALARMS_EXAMPLES = examples(
    ("pgben alarms", "the newest alarms, and whether their mails were sent"),
    ("pgben alarms --test", "send a test mail now and say whether the server took it"),
    ("pgben alarms --limit 100 --json", "more of them, for scripts"),
)


@app.command(epilog=ALARMS_EXAMPLES)
def alarms(
    test: Annotated[
        bool, typer.Option("--test", help="Send a test mail with these settings; no catalog.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many to show.")] = 20,
    wide: Wide = False,
    as_json: AsJson = False,
) -> int:
    """Show the newest alarms and whether their mails were sent, or try the mail settings."""
    work = open_workplace()
    if test:
        return _send_test(work, as_json=as_json)
    found = work.outbox.newest(limit)
    if as_json:
        output.print_json(
            {"mail": work.mailer is not None, "alarms": [_document(a) for a in found]}
        )
        return outcome.DONE
    if found:
        output.show([_listing(found, work.zone, wide=output.is_wide(wide))], wide=wide)
    else:
        output.say("there were no alarms yet")
    if work.mailer is None:
        output.say("no mail is sent: the settings name no server or no recipient", style="yellow")
        output.hint("set PGBEN_SMTP_HOST and PGBEN_ADMIN_EMAIL, then try `pgben alarms --test`")
    return outcome.DONE


def _send_test(work: Workplace, *, as_json: bool) -> int:
    from pgben_tasks.operations.alarms.mail import compose_test

    mailer = work.mailer
    if mailer is None:
        raise ConfigurationError(
            "no mail can be sent: the settings name no server or no recipient",
            "set PGBEN_SMTP_HOST and PGBEN_ADMIN_EMAIL",
        )
    # The catalog's clock is not asked: a test of the mail needs the mail server only.
    refused = mailer.send(compose_test(letterhead=work.letterhead, now=datetime.now(UTC)))
    taken = [one for one in mailer.recipients if one not in refused]
    if as_json:
        said = {"server": mailer.describe(), "from": mailer.sender, "to": taken}
        output.print_json({"test": {**said, "refused": list(refused)}})
    else:
        output.say(
            f"'{mailer.describe()}' took a test mail from {mailer.sender} to {', '.join(taken)}",
            style="green",
        )
        output.say("look into that mailbox, and into its spam folder")
        if refused:
            output.complain(
                f"it did not take one for {', '.join(refused)}", "look at PGBEN_ADMIN_EMAIL"
            )
    return outcome.FAILED if refused else outcome.DONE


def _listing(found: list[KeptAlarm], zone: tzinfo, *, wide: bool) -> RenderableType:
    when = output.moment if wide else output.minute
    columns = ("raised", "kind", "target", "job", "mail", "what")
    rows = [
        (
            when(one.raised_at, zone),
            one.alarm.kind,
            one.alarm.target or "-",
            str(one.alarm.job)[:8] if one.alarm.job else "-",
            _mail(one, zone),
            one.alarm.facts.get("sentence") or one.alarm.facts.get("what", "-"),
        )
        for one in found
    ]
    return output.table(columns, rows, below=2)


def _mail(one: KeptAlarm, zone: tzinfo) -> Text:
    if one.sent_at is not None:
        note = f" ({one.last_error})" if one.last_error else ""
        return Text(f"sent {output.moment(one.sent_at, zone)}{note}", style="green")
    if not one.tries:
        return Text("not sent", style="yellow")
    often = "once" if one.tries == 1 else f"{one.tries} times"
    return Text(f"not sent, tried {often}: {one.last_error}", style="yellow")


def _document(one: KeptAlarm) -> dict[str, Any]:
    alarm = one.alarm
    return {
        "kind": alarm.kind,
        "target": alarm.target,
        "job": alarm.job and str(alarm.job),
        "happened_at": alarm.happened_at,
        "facts": dict(alarm.facts),
        "raised_at": one.raised_at,
        "sent_at": one.sent_at,
        "tries": one.tries,
        "next_try_at": None if one.sent_at else one.next_try_at,
        "error": one.last_error,
    }
