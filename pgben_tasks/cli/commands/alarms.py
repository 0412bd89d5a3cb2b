"""The command about alarms: which there were, which are open, who was told, what channels take."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from pgben_tasks.cli.ask.installation import open_workplace
from pgben_tasks.cli.options import AsJson, Wide, examples
from pgben_tasks.cli.view import outcome, output
from pgben_tasks.errors import ConfigurationError, PgbenError

if TYPE_CHECKING:
    from pgben_tasks.adapters.catalog.outbox import ChannelRecord
    from pgben_tasks.domain.alarm import Delivery, KeptAlarm
    from pgben_tasks.ports import Channel
    from pgben_tasks.runtime import Workplace

app = typer.Typer()

ALARMS_EXAMPLES = examples(
    ("pgben alarms", "the newest alarms: which are open, since when, who was told"),
    ("pgben alarms --open", "only those that are not over"),
    ("pgben alarms --test", "send a test now by every channel, and say which took it"),
    ("pgben alarms --limit 100 --json", "more of them, for scripts"),
)


@app.command(epilog=ALARMS_EXAMPLES)
def alarms(
    test: Annotated[
        bool,
        typer.Option("--test", help="Send a test by every channel of these settings; no catalog."),
    ] = False,
    open_only: Annotated[
        bool, typer.Option("--open", help="Only those that are not over.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many to show.")] = 20,
    wide: Wide = False,
    as_json: AsJson = False,
) -> int:
    """Show the newest alarms, open and over, and which channels told them, or try the channels."""
    work = open_workplace()
    if test:
        return _send_test(work, as_json=as_json)
    found = work.outbox.open()[::-1][:limit] if open_only else work.outbox.newest(limit)
    if as_json:
        records = work.outbox.channels()
        output.print_json(
            {
                "mail": work.mailer is not None,
                "channels": [_of_channel(one, records) for one in work.channels],
                "alarms": [_document(one) for one in found],
            }
        )
        return outcome.DONE
    if found:
        output.show([_listing(found, work.zone, wide=output.is_wide(wide))], wide=wide)
    else:
        output.say("no alarm is open" if open_only else "there were no alarms yet")
    if not work.channels:
        output.say(
            "alarms go nowhere: the settings name no mail server or no recipient, and no URL",
            style="yellow",
        )
        output.hint(
            "set PGBEN_SMTP_HOST and PGBEN_ADMIN_EMAIL, or PGBEN_ALERT_URLS, then try "
            "`pgben alarms --test`"
        )
    return outcome.DONE


def _send_test(work: Workplace, *, as_json: bool) -> int:
    """Try every channel; the error of the only one is the command's own."""
    from pgben_tasks.health.looks import Look
    from pgben_tasks.operations.alarms.mail import compose_test
    from pgben_tasks.operations.alarms.send import SEND_WITHIN

    channels = work.channels
    if not channels:
        raise ConfigurationError(
            "no alarm can be sent: the settings name no mail server or no recipient, and no URL",
            "set PGBEN_SMTP_HOST and PGBEN_ADMIN_EMAIL, or PGBEN_ALERT_URLS",
        )
    # The catalog's clock is not asked: a test needs the channels only.
    mail = compose_test(letterhead=work.letterhead, now=datetime.now(UTC))
    under_way = [(one, Look(one.name, partial(one.send, mail))) for one in channels]
    refused: dict[str, tuple[str, ...]] = {}
    failed: dict[str, PgbenError] = {}
    for channel, look in under_way:
        try:
            refused[channel.name] = look.answer(SEND_WITHIN)
        except PgbenError as exc:
            failed[channel.name] = exc
    if len(channels) == 1 and failed:
        raise failed[channels[0].name]
    if as_json:
        output.print_json(_test_document(work, channels, refused, failed))
    else:
        _say_tested(work, channels, refused, failed)
    return outcome.FAILED if failed or any(refused.values()) else outcome.DONE


def _say_tested(
    work: Workplace,
    channels: tuple[Channel, ...],
    refused: dict[str, tuple[str, ...]],
    failed: dict[str, PgbenError],
) -> None:
    mailer = work.mailer
    for channel in channels:
        if error := failed.get(channel.name):
            output.complain(f"'{channel.name}' took no test: {error.sentence}", error.hint)
        elif mailer is not None and channel.name == mailer.name:
            missed = refused[channel.name]
            taken = ", ".join(one for one in mailer.recipients if one not in missed)
            output.say(
                f"'{mailer.describe()}' took a test mail from {mailer.sender} to {taken}",
                style="green",
            )
            output.say("look into that mailbox, and into its spam folder")
            if missed:
                output.complain(
                    f"it did not take one for {', '.join(missed)}", "look at PGBEN_ADMIN_EMAIL"
                )
        else:
            output.say(f"'{channel.name}' took a test", style="green")


def _test_document(
    work: Workplace,
    channels: tuple[Channel, ...],
    refused: dict[str, tuple[str, ...]],
    failed: dict[str, PgbenError],
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "channels": [
            {
                "channel": one.name,
                "taken": one.name in refused,
                "error": failed[one.name].sentence if one.name in failed else None,
            }
            for one in channels
        ]
    }
    mailer = work.mailer
    if mailer is not None and mailer.name in refused:
        missed = refused[mailer.name]
        document["test"] = {
            "server": mailer.describe(),
            "from": mailer.sender,
            "to": [one for one in mailer.recipients if one not in missed],
            "refused": list(missed),
        }
    return document


def _listing(found: list[KeptAlarm], zone: tzinfo, *, wide: bool) -> RenderableType:
    when = output.moment if wide else output.minute
    columns = ("raised", "state", "kind", "target", "job", "told", "what")
    rows = [
        (
            when(one.raised_at, zone),
            _state(one, zone, wide=wide),
            one.alarm.kind,
            one.alarm.target or "-",
            str(one.alarm.job)[:8] if one.alarm.job else "-",
            _told(one, zone, wide=wide),
            one.alarm.facts.get("sentence") or one.alarm.facts.get("what", "-"),
        )
        for one in found
    ]
    return output.table(columns, rows, below=2)


def _state(one: KeptAlarm, zone: tzinfo, *, wide: bool) -> Text:
    if one.cleared_at is None:
        return Text("open", style="yellow")
    if one.cleared_at == one.raised_at:
        # It only happened.
        return Text("-")
    when = output.moment if wide else output.minute
    return Text(f"over {when(one.cleared_at, zone)}", style="green")


def _told(one: KeptAlarm, zone: tzinfo, *, wide: bool) -> Text:
    """Return by which channels an alarm went, and what keeps it from the others."""
    if not one.deliveries:
        return Text("not sent", style="yellow")
    when = output.moment if wide else output.minute
    told = Text()
    for each in one.deliveries:
        if told:
            told.append("; ")
        told.append_text(_delivered(each, when(each.told_at, zone) if each.told_at else None))
    return told


def _delivered(one: Delivery, at: str | None) -> Text:
    if at is not None:
        reminded = f", reminded {_times(one.reminders)}" if one.reminders else ""
        note = f" ({one.last_error})" if one.last_error else ""
        return Text(f"{one.channel} {at}{reminded}{note}", style="green")
    if not one.tries:
        return Text(f"{one.channel}: waits", style="yellow")
    return Text(
        f"{one.channel}: not sent, tried {_times(one.tries)}: {one.last_error}",
        style="yellow",
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _of_channel(channel: Channel, records: dict[str, ChannelRecord]) -> dict[str, Any]:
    record = records.get(channel.name)
    return {
        "channel": channel.name,
        "worked_at": record.worked_at if record else None,
        "failing_since": record.failing_since if record else None,
        "error": record.last_error if record else None,
    }


def _document(one: KeptAlarm) -> dict[str, Any]:
    alarm = one.alarm
    return {
        "kind": alarm.kind,
        "target": alarm.target,
        "job": alarm.job and str(alarm.job),
        "happened_at": alarm.happened_at,
        "facts": dict(alarm.facts),
        "episode": one.episode,
        "open": one.open,
        "raised_at": one.raised_at,
        "cleared_at": one.cleared_at,
        "sent_at": one.sent_at,
        "channels": [
            {
                "channel": each.channel,
                "told_at": each.told_at,
                "last_sent_at": each.last_sent_at,
                "reminders": each.reminders,
                "resolved_at": each.over_at,
                "tries": each.tries,
                "next_try_at": None if each.told_at else each.next_try_at,
                "error": each.last_error,
            }
            for each in one.deliveries
        ],
    }
