"""Measures in the format of Prometheus, and the HTTP server that a Prometheus asks for them.

Names follow its conventions: base units, a prefix, one meaning each. What is not known has no
sample. `FAMILIES` is all of it, with the words of the documentation.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final, Literal, get_args
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pgben_tasks import names
from pgben_tasks.domain.alarm import AlarmKind
from pgben_tasks.domain.job import JobKind
from pgben_tasks.domain.metrics import STATES, Measures, Objectives, QueueMeasures

_HEALTH: Final = "/healthz"
_METRICS: Final = "/metrics"
_OPEN_STATES: Final = ("queued", "running", "waiting", "retrying")
_ENDED_STATES: Final = ("succeeded", "failed", "refused", "cancelled")
#: Seconds after which a client that sends nothing is left.
_PATIENCE: Final = 10

_Values = Iterable[tuple[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What one scrape is answered with; None where catalog or broker did not answer."""

    version: str
    objectives: Objectives
    measures: Measures | None
    queues: QueueMeasures | None


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name without the prefix, what it means, its labels, and its samples."""

    name: str
    meaning: str
    labels: tuple[str, ...]
    values: Callable[[Readings], _Values]
    kind: Literal["gauge", "counter"] = "gauge"

    @property
    def full_name(self) -> str:
        """The name as Prometheus stores it."""
        return f"pgben_{self.name}"

    def metric(self, readings: Readings) -> Metric:
        """Return it with its samples."""
        if self.kind == "counter":
            name = self.full_name.removesuffix("_total")
            counter = CounterMetricFamily(name, self.meaning, labels=self.labels)
            for labels, value in self.values(readings):
                counter.add_metric(labels, value)
            return counter
        gauge = GaugeMetricFamily(self.full_name, self.meaning, labels=self.labels)
        for labels, value in self.values(readings):
            gauge.add_metric(labels, value)
        return gauge


def _one(value: float | None) -> _Values:
    return [] if value is None else [((), float(value))]


def _moment(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def _seconds(length: timedelta | None) -> float | None:
    return None if length is None else length.total_seconds()


def _of_catalog(ask: Callable[[Measures], float | None]) -> Callable[[Readings], _Values]:
    """Return the one sample that the catalog knows."""
    return lambda got: [] if got.measures is None else _one(ask(got.measures))


def _of_targets(ask: Callable[[Any, Measures], float | None]) -> Callable[[Readings], _Values]:
    """Return a sample of each target where it is known."""

    def values(got: Readings) -> _Values:
        for one in got.measures.targets if got.measures else ():
            value = ask(one, got.measures)  # type: ignore[arg-type]  # there are targets in it
            if value is not None:
                yield (one.target,), float(value)

    return values


def _of_space(ask: Callable[[Any], float | None]) -> Callable[[Readings], _Values]:
    def values(got: Readings) -> _Values:
        for one in got.measures.space if got.measures else ():
            value = ask(one)
            if value is not None:
                yield (one.place, one.where), float(value)

    return values


def _states(got: Readings) -> _Values:
    for one in got.measures.targets if got.measures else ():
        for state in dict.fromkeys((*STATES, one.state)):
            yield (one.target, state), float(state == one.state)


def _backups(got: Readings) -> _Values:
    for one in got.measures.targets if got.measures else ():
        for state, number in sorted(one.backups.items()):
            yield (one.target, state), float(number)


def _jobs(
    counts: Callable[[Measures], Mapping[tuple[str, str], int]], states: tuple[str, ...]
) -> Callable[[Readings], _Values]:
    """Return a sample for each kind of job and state, zeros too: an alert may then rely on it."""

    def values(got: Readings) -> _Values:
        if got.measures is None:
            return
        found = counts(got.measures)
        known = ((kind, state) for kind in get_args(JobKind) for state in states)
        for labels in dict.fromkeys((*known, *found)):
            yield labels, float(found.get(labels, 0))

    return values


def _counted(
    counts: Callable[[Measures], Mapping[str, int]], known: Iterable[str]
) -> Callable[[Readings], _Values]:
    """Return a sample for each name that is known or counted, zeros too."""
    certain = tuple(known)

    def values(got: Readings) -> _Values:
        found = counts(got.measures) if got.measures else {}
        for name in dict.fromkeys((*certain, *found)) if got.measures else ():
            yield (name,), float(found.get(name, 0))

    return values


def _queues(got: Readings) -> _Values:
    for queue, number in got.queues.waiting.items() if got.queues else ():
        yield (queue,), float(number)


_TARGET: Final = ("target",)
_PLACE: Final = ("place", "where")

FAMILIES: Final = (
    Family(
        "build_info",
        "Always 1; the label is the version of the exporter.",
        ("version",),
        lambda got: [((got.version,), 1.0)],
    ),
    Family(
        "up",
        "Whether the catalog answered; when it did not, only what needs no catalog is shown.",
        (),
        lambda got: _one(got.measures is not None),
    ),
    Family(
        "broker_up",
        "Whether Redis answered.",
        (),
        lambda got: _one(got.queues is not None),
    ),
    Family(
        "catalog_read_timestamp_seconds",
        "When the catalog was read, by its own clock.",
        (),
        _of_catalog(lambda got: _moment(got.now)),
    ),
    Family(
        "rpo_seconds",
        "Most data, in time, that may be lost (PGBEN_RPO).",
        (),
        lambda got: _one(_seconds(got.objectives.rpo)),
    ),
    Family(
        "rto_seconds",
        "How long a restore may take (PGBEN_RTO).",
        (),
        lambda got: _one(_seconds(got.objectives.rto)),
    ),
    Family(
        "verification_interval_seconds",
        "How often everything is to be verified (PGBEN_VERIFY_DAYS).",
        (),
        lambda got: _one(_seconds(got.objectives.verify_every)),
    ),
    Family(
        "target_newest_verified_timestamp_seconds",
        "The moment whose data the newest verified backup holds.",
        _TARGET,
        _of_targets(lambda one, _: one.newest_good and _moment(one.newest_good.taken)),
    ),
    Family(
        "target_newest_verified_age_seconds",
        "How old these data are: what would be lost now.",
        _TARGET,
        _of_targets(lambda one, got: one.newest_good and _seconds(got.now - one.newest_good.taken)),
    ),
    Family(
        "target_newest_verified_bytes",
        "Stored bytes of that backup.",
        _TARGET,
        _of_targets(lambda one, _: one.newest_good and one.newest_good.stored_bytes),
    ),
    Family(
        "target_restorable",
        "Whether there is a verified backup at all.",
        _TARGET,
        _of_targets(lambda one, _: one.newest_good is not None),
    ),
    Family(
        "target_state",
        "1 for the state of the newest backup, 0 for the others.",
        ("target", "state"),
        _states,
    ),
    Family(
        "target_backups",
        "Backups that the catalog knows, by state.",
        ("target", "state"),
        _backups,
    ),
    Family(
        "target_last_backup_timestamp_seconds",
        "When the last backup that ended well ended.",
        _TARGET,
        _of_targets(lambda one, _: one.last_backup and _moment(one.last_backup.ended)),
    ),
    Family(
        "target_last_backup_duration_seconds",
        "How long it took.",
        _TARGET,
        _of_targets(lambda one, _: one.last_backup and _seconds(one.last_backup.took)),
    ),
    Family(
        "target_last_backup_bytes",
        "Bytes that it stored.",
        _TARGET,
        _of_targets(lambda one, _: one.last_backup and one.last_backup.stored_bytes),
    ),
    Family(
        "target_failures",
        "Backups that failed or were refused since the last one that ended well.",
        _TARGET,
        _of_targets(lambda one, _: one.failures),
    ),
    Family(
        "target_last_full_verification_timestamp_seconds",
        "When a full verification of the target last ended without a finding.",
        _TARGET,
        _of_targets(lambda one, _: _moment(one.last_full_verification)),
    ),
    Family(
        "target_last_restore_duration_seconds",
        "How long the last restore of the target took: what was measured of the RTO.",
        _TARGET,
        _of_targets(lambda one, _: _seconds(one.last_restore)),
    ),
    Family(
        "restore_everything_duration_seconds",
        "How long the last restore of everything took.",
        (),
        _of_catalog(lambda got: _seconds(got.restored_everything_in)),
    ),
    Family(
        "recovery_point_timestamp_seconds",
        "The moment whose data the newest verified recovery point holds.",
        (),
        _of_catalog(lambda got: _moment(got.point.moment if got.point else None)),
    ),
    Family(
        "recovery_point_cross_check_faults",
        "Rows of that point whose objects are not as they say, where they were compared.",
        (),
        _of_catalog(lambda got: got.point.faults if got.point else None),
    ),
    Family(
        "jobs_open",
        "Jobs that have not ended; one that is tried again later is `retrying`.",
        ("kind", "state"),
        _jobs(lambda got: got.open_jobs, _OPEN_STATES),
    ),
    Family(
        "jobs_ended_total",
        "Jobs that ended, as the ledger has them.",
        ("kind", "state"),
        _jobs(lambda got: got.ended_jobs, _ENDED_STATES),
        "counter",
    ),
    Family(
        "queue_messages",
        "Messages that wait in a queue of Redis.",
        ("queue",),
        _queues,
    ),
    Family(
        "messages_set_aside",
        "Messages that were none and are not recorded yet.",
        (),
        lambda got: _one(None if got.queues is None else got.queues.set_aside),
    ),
    Family(
        "workers",
        "Workers that send heartbeats.",
        ("role",),
        _counted(lambda got: got.workers, names.QUEUES),
    ),
    Family(
        "reconciler_last_tick_timestamp_seconds",
        "When the reconciler last ran.",
        (),
        _of_catalog(lambda got: _moment(got.last_tick)),
    ),
    Family(
        "beat_last_tick_timestamp_seconds",
        "When the reconciler last ran because beat had sent it.",
        (),
        _of_catalog(lambda got: _moment(got.last_beat)),
    ),
    Family(
        "alarms_open",
        "Alarms that are open.",
        ("kind",),
        _counted(lambda got: got.open_alarms, get_args(AlarmKind)),
    ),
    Family(
        "alarms_unsent",
        "Alarms that nobody was told of yet.",
        (),
        _of_catalog(lambda got: got.unsent_alarms),
    ),
    Family(
        "space_used_bytes",
        "Bytes that are used of a place that fills.",
        _PLACE,
        _of_space(lambda one: one.used),
    ),
    Family(
        "space_capacity_bytes",
        "Bytes that the place has, or may have.",
        _PLACE,
        _of_space(lambda one: one.capacity),
    ),
    Family(
        "space_free_bytes",
        "Bytes that are left there.",
        _PLACE,
        _of_space(lambda one: one.free),
    ),
    Family(
        "space_growth_bytes_per_day",
        "How much more is used there each day.",
        _PLACE,
        _of_space(lambda one: one.growth_per_day),
    ),
    Family(
        "space_days_left",
        "In how many days it is full at that rate.",
        _PLACE,
        _of_space(lambda one: one.days_left),
    ),
    Family(
        "space_tonight_bytes",
        "What the windows until this time tomorrow will write there, by earlier nights.",
        _PLACE,
        _of_space(lambda one: one.tonight),
    ),
    Family(
        "space_tonight_fits",
        "Whether that fits.",
        _PLACE,
        _of_space(lambda one: one.fits),
    ),
    Family(
        "space_critical",
        "Whether it is full, or what comes does not fit.",
        _PLACE,
        _of_space(lambda one: one.critical),
    ),
)


class _Collected(Collector):
    """The metrics of one scrape."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def exposition(readings: Readings) -> bytes:
    """Return readings as text in the format of Prometheus."""
    return generate_latest(_Collected(family.metric(readings) for family in FAMILIES))


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking the DNS for the name of this machine, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _ServerOfVersion6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE

    def log_message(self, *_: Any) -> None:
        """Write nothing: a scrape comes every few seconds."""


class MetricsServer:
    """Serves `/metrics`, and `/healthz`, which asks nobody. Port 0 takes a free one."""

    def __init__(self, read: Callable[[], Readings], *, address: str, port: int) -> None:
        """Listen; raises ``OSError`` when that cannot be."""

        def application(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
            path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
            if method not in {"GET", "HEAD"}:
                return _answer(start, HTTPStatus.METHOD_NOT_ALLOWED, b"only GET\n")
            if path == _METRICS:
                return _answer(start, HTTPStatus.OK, exposition(read()), CONTENT_TYPE_LATEST)
            if path == _HEALTH:
                return _answer(start, HTTPStatus.OK, b"ok\n")
            return _answer(start, HTTPStatus.NOT_FOUND, b"look at /metrics\n")

        self._server = make_server(
            address,
            port,
            application,
            server_class=_ServerOfVersion6 if ":" in address else _Server,
            handler_class=_Handler,
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_port)

    def serve(self) -> None:
        """Answer until something is raised in this thread, as by a signal."""
        with self._server:
            self._server.serve_forever()


def _answer(
    start: Any, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8"
) -> Iterable[bytes]:
    start(f"{status.value} {status.phrase}", [("Content-Type", kind)])
    return [body]
