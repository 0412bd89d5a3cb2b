"""Sixty nights with faults, on a real database: what is left is what the retention plan promises.

The story keeps its own books: which backups there are, what happened to each, and, computed from
the document alone (``tests/support/retention_promises.py``), what every prune must remove.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from pgben_tasks.adapters.postgres.source import PostgresSource
from pgben_tasks.contracts import REQUESTS
from pgben_tasks.direct import chain as in_process
from pgben_tasks.domain.documents import Manifest, Verification
from pgben_tasks.domain.retention import Policy
from pgben_tasks.domain.target import BackupId, Target
from pgben_tasks.errors import DatabaseUnavailable, IntegrityError
from pgben_tasks.operations import spool
from pgben_tasks.operations.toolbox import NoProgress, Toolbox
from pgben_tasks.runtime import postgres_servers
from tests.support.archive import DAY, Archive, SetClock
from tests.support.installation import FILL_PEDIDO, PACK_SIZE, Crash, Installation
from tests.support.retention_promises import FORTALEZA, Look, Past, Rules, expected

pytestmark = pytest.mark.unmeasured

NIGHTS: Final = 60
#: The night of which 60 are counted: a Saturday, two o'clock in Fortaleza.
FIRST: Final = datetime(2026, 11, 28, 5, 0, tzinfo=UTC)
#: The process dies while it prunes. From FIRST on, two backups leave on this night.
KILLED: Final = 52
MEBIBYTE: Final = 1024 * 1024
RULES: Final = Rules(days=14, weekly=4, monthly=2, zone=FORTALEZA)


class PaperRow(in_process.MemoryRow):
    """A job on paper.

    ``before_hold`` happens when its process makes sure that the job is its own, and may be its end.
    """

    before_hold: Callable[[], None] = staticmethod(lambda: None)

    def hold(self) -> None:
        self.before_hold()


class PaperChain(in_process.Chain):
    """Its steps run when told, and a crash leaves it where it was."""

    row: PaperRow


@dataclass
class Story:
    """What happens, and the books about it."""

    installation: Installation
    catalog: SetClock
    worker: SetClock
    store: SetClock
    tools: Toolbox
    books: dict[str, Past] = field(default_factory=dict)
    chains: list[PaperChain] = field(default_factory=list)
    made: dict[int, str] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    refused: list[int] = field(default_factory=list)
    kept_bytes: dict[Path, bytes] = field(default_factory=dict)
    night: int = 0
    die: Callable[[str], None] = lambda _key: None

    @classmethod
    def begin(cls, installation: Installation, first: datetime) -> Story:
        """Begin with two backups, the second of the night ``first``."""
        # The installation's own are of today.
        archive = Archive(installation, first - 2 * DAY)
        policy = Policy(
            max_age=timedelta(days=RULES.days),
            keep_weekly=RULES.weekly,
            keep_monthly=RULES.monthly,
            zone=RULES.zone,
            brake=RULES.brake,
        )
        catalog, worker, store = (replace(archive.clock) for _ in range(3))
        tools = replace(
            installation.tools,
            clock=catalog,
            own_clock=worker,
            # One pack a night is enough; the two that die have several.
            limits=replace(installation.tools.limits, retention=policy, pack_size=MEBIBYTE),
        )
        story = cls(installation, catalog, worker, store, tools, night=-2)
        story.tools = replace(tools, captures=story)
        installation.store.clock = store
        installation.store.after = story.stored
        for _ in range(2):
            story.pass_a_day()
            story.ordinary()
        return story

    def stored(self, key: str) -> None:
        """Date what was stored by the clock of the story; perhaps the process dies then."""
        moment = self.store.now().timestamp()
        os.utime(self.installation.repository / key, (moment, moment))
        self.die(key)

    def pass_a_day(self) -> None:
        """Let it be the next night."""
        self.night += 1
        for clock in (self.catalog, self.worker, self.store):
            clock.shown += DAY

    # What happens by night

    def ordinary(self, *, suspect: bool = False) -> None:
        """Back up: everything goes well."""
        chain = self.chain("backup").until("prune")
        backup = self.committed(chain, suspect=suspect)
        self.ended_well(chain, backup)

    def ended_well(self, chain: PaperChain, backup: str) -> None:
        """Let a backup prune and end."""
        left = self.must_leave(own=backup)
        pruned = chain.step().result["prune"]
        self.pruned(pruned, left)
        chain.rest()
        self.books[backup].verified = True
        self.made[self.night] = backup

    def emptied(self) -> None:
        """Back up: somebody emptied a table the day before."""
        self.installation.run_sql("TRUNCATE pedido")
        self.ordinary(suspect=True)

    def wrong_clocks(self, by: timedelta, *clocks: str) -> None:
        """Back up: some clocks are wrong on this night."""
        for name in clocks:
            getattr(self, name).wrong = by
        self.ordinary()
        for name in clocks:
            getattr(self, name).wrong = timedelta(0)

    def no_database(self) -> None:
        """Back up: the server does not answer."""
        target = self.installation.target
        server = postgres_servers(self.installation.shop.work.settings)[target]
        away = {target: PostgresSource(replace(server, port=1), target.name)}
        chain = self.chain("backup", tools=replace(self.tools, sources=away))
        with pytest.raises(DatabaseUnavailable):
            chain.step()
        self.given_up(chain)

    def killed_while_it_stored(self, ending: str) -> None:
        """Back up: the process dies after it stored the first file that ends so; nobody goes on."""
        limits = replace(self.tools.limits, pack_size=PACK_SIZE)
        chain = self.chain("backup", tools=replace(self.tools, limits=limits)).until("upload")

        def die(key: str) -> None:
            if key.endswith(ending):
                raise Crash

        self.die = die
        with pytest.raises(Crash):
            chain.step()
        self.die = lambda _key: None
        self.given_up(chain)

    def killed_while_it_pruned(self) -> None:
        """Back up: the process dies after it removed the manifests and before it removed packs."""
        chain = self.chain("backup").until("prune")
        backup = self.committed(chain)
        leaving = self.must_leave(own=backup)
        assert len(leaving) == 2
        holds: list[int] = []

        def die() -> None:
            holds.append(1)
            if len(holds) > len(leaving):
                raise Crash

        chain.row.before_hold = die
        with pytest.raises(Crash):
            chain.step()
        self.given_up(chain)
        self.gone(leaving)
        assert all(any((self.packs / one).iterdir()) for one in leaving)
        # The next attempt of the same night finishes that, and has nothing else to remove.
        self.ordinary()
        assert not any(any((self.packs / one).iterdir()) for one in leaving)

    # What happens by day

    def sweep(self) -> int:
        """Remove what dead runs left."""
        return int(self.chain("sweep").rest().result["sweep"]["removed"])

    def prune_without_brake(self) -> None:
        """Prune once with the brake off: somebody looked, and it is meant."""
        policy = replace(self.tools.limits.retention, brake=Decimal(1))
        tools = replace(self.tools, limits=replace(self.tools.limits, retention=policy))
        left = self.must_leave(rules=replace(RULES, brake=Decimal(1)))
        assert len(left) > 2
        self.pruned(self.chain("prune", tools=tools).rest().result["prune"], left)

    def acknowledge_all(self) -> None:
        """Look at what is suspect and find it plausible."""
        for backup, past in self.books.items():
            if past.suspect and not past.acknowledged:
                self.chain("acknowledge", backup=backup, reason="pedidos arquivados").rest()
                past.acknowledged = True

    def damage(self, *nights: int) -> None:
        """Change one byte of a pack of each; a verification finds that."""
        for backup in (self.made[night] for night in nights):
            path = next((self.packs / backup).iterdir())
            data = self.kept_bytes[path] = path.read_bytes()
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
            with pytest.raises(IntegrityError, match="found faults, 1 in all"):
                self.chain("verify", level="full", backup=backup).rest()
            self.books[backup].damaged = True

    def repair(self, night: int) -> None:
        """Bring what was changed back from a copy; a verification believes it."""
        backup = self.made[night]
        for path, data in self.kept_bytes.items():
            if path.parent.name == backup:
                path.write_bytes(data)
        self.chain("verify", level="full", backup=backup).rest()
        self.books[backup].damaged = False

    def hold(self, night: int) -> None:
        """Sign that a backup must never be pruned."""
        backup = self.made[night]
        now = self.catalog.now()
        self.tools.repository.record(
            Verification(
                repository=self.tools.repository.id,
                target=str(self.installation.target),
                backup=backup,
                id=str(BackupId.make(now, "abcdef")),
                kind="hold",
                job="story",
                at=now,
                opened=False,
                packs_checked=0,
                bytes_read=0,
                manifest=None,
                findings=(),
                reasons=("an audit asks for it",),
            )
        )
        self.books[backup].held = True

    # The books

    @property
    def packs(self) -> Path:
        return self.installation.repository / "packs" / str(self.installation.target)

    def chain(self, kind: Any, *, tools: Toolbox | None = None, **request: Any) -> PaperChain:
        """Begin a job."""
        used, target = tools or self.tools, str(self.installation.target)
        job = in_process.new_job(
            kind,
            REQUESTS[kind].parse({"target": target, "requested_by": "workshop", **request}),
            target=target,
            node=used.node,
            now=used.clock.now(),
            context={},
        )
        chain = PaperChain(PaperRow(job, used.clock), used, NoProgress())
        self.chains.append(chain)
        return chain

    def running(self, _target: Target) -> frozenset[str]:
        """Return the backup ids of jobs that have not ended."""
        return frozenset(
            one.job.backup for one in self.chains if not one.job.ended and one.job.backup
        )

    def named(self, target: Target) -> frozenset[str]:
        """Nobody restores in this story."""
        return self.running(target)

    def given_up(self, chain: PaperChain) -> None:
        """Let the reconciler give a dead job up."""
        chain.row.job = replace(chain.job, state="failed")
        spool.remove(chain.folder)

    def committed(self, chain: PaperChain, *, suspect: bool = False) -> str:
        """Write a new backup into the books."""
        backup = chain.job.backup or ""
        manifest = self.manifest(backup)
        assert (manifest.suspect is not None) == suspect, (self.night, manifest.suspect)
        assert manifest.started == self.catalog.now().replace(microsecond=0)
        self.books[backup] = Past(
            sequence=manifest.sequence, started=manifest.started, suspect=suspect
        )
        return backup

    def manifest(self, backup: str) -> Manifest:
        return self.tools.repository.manifest(self.installation.target, BackupId.parse(backup))

    def must_leave(self, *, own: str | None = None, rules: Rules = RULES) -> set[str]:
        """Compute what a prune at this moment must remove."""
        look = Look(
            before=list(self.books.values()),
            now=self.catalog.now(),
            rules=rules,
            other_clocks=(self.worker.now(), self.store.now()),
            own=None if own is None else self.books[own].sequence,
        )
        sequences = expected(look)
        return {name for name, past in self.books.items() if past.sequence in sequences}

    def pruned(self, told: dict[str, Any], left: set[str]) -> None:
        """Compare what a prune says with the books, and note it there."""
        assert set(told["expired"]) == left, (self.night, told, left)
        if told["refused"] is not None:
            self.refused.append(self.night)
        self.gone(left)

    def gone(self, backups: set[str]) -> None:
        for backup in backups:
            del self.books[backup]
        self.removed |= backups

    def check(self) -> None:
        """Compare the repository with the books."""
        there = {str(one) for one in self.tools.repository.backups(self.installation.target)}
        assert there == set(self.books), self.night


@pytest.fixture
def story(installation: Installation) -> Story:
    return Story.begin(installation, FIRST)


ALL_CLOCKS: Final = ("catalog", "worker", "store")

#: Every other night is an ordinary one.
BY_NIGHT: Final[dict[int, Callable[[Story], None]]] = {
    3: Story.no_database,
    8: lambda story: story.killed_while_it_stored("2.tar.age"),
    10: Story.no_database,
    12: lambda story: story.killed_while_it_stored("manifest.json.sig"),
    18: Story.emptied,
    19: Story.emptied,
    20: Story.emptied,
    31: lambda story: story.wrong_clocks(5 * DAY, *ALL_CLOCKS),
    38: lambda story: story.wrong_clocks(timedelta(minutes=-6), "store"),
    # The machine is off.
    **dict.fromkeys(range(42, 46), lambda _story: None),
    KILLED: Story.killed_while_it_pruned,
}
BY_DAY: Final[dict[int, Callable[[Story], None]]] = {
    20: Story.acknowledge_all,
    24: lambda story: story.damage(17, 23),
    27: lambda story: story.hold(14),
    29: lambda story: story.repair(23),
    37: Story.prune_without_brake,
    47: Story.prune_without_brake,
}


def test_sixty_nights_with_faults_end_with_what_the_plan_promises(story: Story) -> None:
    swept: dict[int, int] = {}
    for night in range(1, NIGHTS + 1):
        story.pass_a_day()
        BY_NIGHT.get(night, Story.ordinary)(story)
        if night in BY_DAY:
            BY_DAY[night](story)
        # A reader put the others off.
        if night % 4 == 0 and (removed := story.sweep()):
            swept[night] = removed
        story.check()
    story.installation.run_sql(FILL_PEDIDO)

    # Three nights of suspicion; a clock that jumped, and the brake when it was right again; the
    # store's clock; the silence of four nights, and the brake.
    assert story.refused == [*range(18, 21), *range(31, 36), 36, 37, 38, 46, 47]
    # Packs of the first death, packs and signature of the second, each eight nights later.
    assert set(swept) == {16, 20}
    _books_are_kept_with_reason(story)
    _nothing_else_is_left(story)
    _everything_kept_can_be_read(story)


def _books_are_kept_with_reason(story: Story) -> None:
    made = story.made
    nights = {backup: night for night, backup in made.items()}
    kept = {nights[backup] for backup in story.books if backup in nights}
    assert made[14] in story.books, "it is held"
    assert made[17] not in story.books, "damaged, and too old"
    # Two weeks, and before them the newest of a week or a month; nothing of the first days.
    assert set(range(47, 61)) <= kept
    assert 1 <= len({night for night in kept if night < 46} - {14}) <= 6
    assert len(story.removed) > 30


def _nothing_else_is_left(story: Story) -> None:
    installation = story.installation
    repository = installation.tools.repository
    named = {pack.path for one in story.books for pack in story.manifest(one).packs}
    assert set(repository.packs(installation.target)) == named
    assert repository.lone_signatures(installation.target) == []
    assert repository.stray(installation.target) == []
    files = installation.files()
    for backup in story.removed:
        assert installation.state(backup) == "expired"
        left = [path.partition("/")[0] for path in files if f"/{backup}/" in path]
        assert set(left) == {"verifications"}


def _everything_kept_can_be_read(story: Story) -> None:
    installation = story.installation
    checked = story.chain("verify", level="full").rest().result
    assert (checked["findings_total"], checked["backups"]) == (0, len(story.books))
    assert {installation.state(backup) for backup in story.books} == {"verified"}
    oldest, newest = min(story.books), max(story.books)
    for backup, rows in ((oldest, 850), (newest, 450)):
        chain = installation.restore(backup=backup)
        assert chain.rest().result["rows_compared"] == rows


# The same rules on other days of the calendar, with made-up backups

BRIEF: Final = Rules(days=8, weekly=3, monthly=2, zone=FORTALEZA)


def at(day: str) -> datetime:
    """Return a moment of this day in Fortaleza's night."""
    return datetime.fromisoformat(f"{day}T05:00Z")


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(at("2027-01-15"), id="the end of a month"),
        pytest.param(at("2026-12-18"), id="the end of a year, with a 53rd week"),
        pytest.param(at("2028-02-15"), id="a leap day"),
        pytest.param(at("2027-03-08"), id="from a Monday"),
        pytest.param(at("2027-03-14"), id="from a Sunday"),
        # In UTC it is the next day.
        pytest.param(datetime(2026, 11, 29, 2, 11, tzinfo=UTC), id="before midnight"),
    ],
)
def test_whatever_the_calendar_every_prune_ends_with_what_the_plan_promises(
    installation: Installation, first: datetime
) -> None:
    archive, books = Archive(installation, first), dict[str, Past]()
    most = 0
    for night in range(3 * 7 + 2):
        manifest = archive.add(timedelta(0))
        books[manifest.backup] = Past(
            sequence=manifest.sequence, started=manifest.started, verified=True
        )
        if night > BRIEF.days:
            sequences = expected(Look(before=list(books.values()), now=archive.now, rules=BRIEF))
            leaving = [name for name, past in books.items() if past.sequence in sequences]
            prune_and_die(archive, leaving, after=night % (len(leaving) + 1))
            for backup in leaving:
                del books[backup]
            most = max(most, len(leaving))
            assert archive.left() == sorted(books), night
            assert len(archive.pack_paths()) == len(books)
        archive.pass_time(DAY)
    assert most >= 2


def prune_and_die(archive: Archive, leaving: list[str], *, after: int) -> None:
    """Prune; the process dies after it removed ``after`` manifests, and the next one goes on."""
    chain = archive.chain(
        max_age=timedelta(days=BRIEF.days),
        keep_weekly=BRIEF.weekly,
        keep_monthly=BRIEF.monthly,
        zone=BRIEF.zone,
        brake=BRIEF.brake,
    )
    if leaving:
        holds, before = [0], len(archive.left())

        def die() -> None:
            holds[0] += 1
            if holds[0] > after:
                raise Crash

        chain.row.before_hold = die
        with pytest.raises(Crash):
            chain.step()
        assert len(archive.left()) == before - after
        chain.row.before_hold = lambda: None
    removed = chain.rest().result["prune"]["expired"]
    assert removed == sorted(leaving)[min(after, len(leaving)) :]
