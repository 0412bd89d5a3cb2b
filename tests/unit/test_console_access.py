"""Logins of the console: sessions that end, failed logins that are slowed down, other sites."""

from __future__ import annotations

import base64

import pytest

from pgben_tasks.console.access import (
    IDLE_SECONDS,
    LONGEST_SECONDS,
    FlowerLogins,
    Remembered,
    Sessions,
    Throttle,
    Visitor,
    basic_credentials,
    is_loopback,
    is_own_host,
)
from pgben_tasks.console.handlers import Asked, own_path
from pgben_tasks.errors import ConfigurationError

pytestmark = pytest.mark.unit


ANA = Visitor("ana", "operate", b"1")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Book:
    """Logins whose stamp a test changes."""

    def __init__(self) -> None:
        self.stamps: dict[str, bytes] = {"ana": b"1"}
        self.asked = 0

    def check(self, name: str, password: str) -> Visitor | None:
        self.asked += 1
        return Visitor(name, "operate", self.stamps[name]) if password == "right" else None

    def stamp(self, name: str) -> bytes | None:
        return self.stamps.get(name)


def test_a_session_ends_when_it_is_idle_too_long() -> None:
    clock = Clock()
    sessions = Sessions(Book(), clock)
    token = sessions.begin(ANA)
    clock.now += IDLE_SECONDS - 1
    assert sessions.visitor(token) == ANA
    clock.now += IDLE_SECONDS + 1
    assert sessions.visitor(token) is None
    clock.now -= IDLE_SECONDS
    assert sessions.visitor(token) is None, "it does not come back"


def test_a_session_ends_after_a_day_however_busy_it_is() -> None:
    clock = Clock()
    sessions = Sessions(Book(), clock)
    token = sessions.begin(ANA)
    for _ in range(int(LONGEST_SECONDS / (IDLE_SECONDS / 2))):
        assert sessions.visitor(token) is not None
        clock.now += IDLE_SECONDS / 2
    clock.now += 1
    assert sessions.visitor(token) is None


@pytest.mark.parametrize("stamp", [None, b"2"], ids=["removed", "another password or role"])
def test_a_session_ends_when_its_login_changes(stamp: bytes | None) -> None:
    book = Book()
    sessions = Sessions(book, Clock())
    token = sessions.begin(ANA)
    if stamp is None:
        del book.stamps["ana"]
    else:
        book.stamps["ana"] = stamp
    assert sessions.visitor(token) is None


def test_a_session_has_the_rights_of_the_login_that_was_checked() -> None:
    """The file may change between the check of a password and the beginning of the session."""
    book = Book()
    sessions, known = Sessions(book, Clock()), Remembered(book, Clock())
    visitor = book.check("ana", "right")
    assert visitor is not None
    book.stamps["ana"] = b"demoted"
    assert sessions.visitor(sessions.begin(visitor)) is None
    known.keep("ana", "right", visitor)
    assert known.get("ana", "right") is None


def test_a_session_that_was_ended_is_nobodys_and_no_token_is_like_another() -> None:
    sessions = Sessions(Book(), Clock())
    first, second = (sessions.begin(ANA) for _ in range(2))
    assert first != second
    sessions.end(first)
    assert sessions.visitor(first) is None
    assert sessions.visitor(second) is not None
    assert sessions.visitor("") is None


def waits(throttle: Throttle, count: int, name: str = "ana") -> list[float]:
    """Return how long to wait after each of so many failures."""
    found = []
    for _ in range(count):
        throttle.tried(name, "10.0.0.1")
        found.append(throttle.wait(name, "10.0.0.9"))
    return found


def test_failed_logins_are_slowed_down_by_name_up_to_a_minute() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    assert waits(throttle, 12) == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert throttle.wait("rui", "10.0.0.1") == 0, "others of that address go on"
    clock.now += 61
    assert throttle.wait("ana", "10.0.0.1") == 0
    assert waits(throttle, 1) == [60]
    throttle.succeeded("ana", "10.0.0.1")
    assert throttle.wait("ana", "10.0.0.1") == 0
    assert waits(throttle, 4)[-1] == 1
    clock.now += 1000
    assert waits(throttle, 1) == [0], "what is long ago is forgotten"


def test_an_address_that_tries_many_names_is_slowed_down() -> None:
    throttle = Throttle(Clock())
    for number in range(31):
        throttle.tried(f"user{number}", "10.0.0.1")
    assert throttle.wait("somebody else", "10.0.0.1") == 1
    assert throttle.wait("somebody else", "10.0.0.2") == 0
    throttle.succeeded("user1", "10.0.0.1")
    assert throttle.wait("somebody else", "10.0.0.1") == 0


def test_no_number_of_failures_breaks_it_and_in_the_end_all_are_forgotten() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    assert waits(throttle, 3000)[-1] == 60
    clock.now += 901
    assert throttle.wait("ana", "10.0.0.1") == 0


def test_a_password_of_the_api_is_not_hashed_again_for_a_minute_unless_the_login_changes() -> None:
    clock, book = Clock(), Book()
    known = Remembered(book, clock)
    known.keep("ana", "right", ANA)
    assert known.get("ana", "right") == ANA
    assert known.get("ana", "wrong") is None
    assert known.get("an", "aright") is None
    clock.now += 61
    assert known.get("ana", "right") is None
    known.keep("ana", "right", ANA)
    book.stamps["ana"] = b"2"
    assert known.get("ana", "right") is None


def test_users_of_flowers_own_option_may_watch() -> None:
    logins = FlowerLogins(["olga:sécret:with:colons"])
    assert logins.check("olga", "sécret:with:colons") == Visitor("olga", "watch")
    assert logins.check("olga", "secret") is None
    assert logins.check("rui", "") is None
    with pytest.raises(ConfigurationError) as refused:
        FlowerLogins(["canary-password"])
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("Basic " + base64.b64encode(b"ana:se:nha").decode(), ("ana", "se:nha")),
        ("basic " + base64.b64encode("ana:ção".encode()).decode(), ("ana", "ção")),
        ("Basic " + base64.b64encode(b"no colon").decode(), None),
        ("Basic " + base64.b64encode(b"\xff:\xfe").decode(), None),
        ("Basic !!!", None),
        ("Bearer abc", None),
        ("", None),
    ],
)
def test_an_authorization_header_is_read_or_is_none(
    header: str, found: tuple[str, str] | None
) -> None:
    assert basic_credentials(header) == found


def test_only_this_machine_is_loopback() -> None:
    assert all(is_loopback(one) for one in ("127.0.0.1", "127.8.8.8", "::1", "localhost"))
    assert not any(is_loopback(one) for one in ("", "0.0.0.0", "::", "10.0.0.1", "pgben.example"))  # noqa: S104 - refused
    assert all(is_own_host(one) for one in ("127.0.0.1:5555", "localhost", "[::1]:5555"))
    assert not any(is_own_host(one) for one in ("evil.example:5555", "127.0.0.1.evil.example", ""))


@pytest.mark.parametrize(
    "text",
    [
        "https://evil.example/",
        "//evil.example/",
        "//[",
        "/\\evil.example",
        "javascript:alert(1)",
        "\t//evil.example",
        "/\n/evil.example",
        "",
        "pgben",
    ],
)
def test_a_login_leads_to_no_other_site(text: str) -> None:
    assert own_path(text, prefix="/backups") == "/backups/pgben"


def test_a_login_leads_to_the_page_that_was_asked_for() -> None:
    assert own_path("/pgben/jobs?x=1", prefix="") == "/pgben/jobs?x=1"


def test_the_same_request_within_seconds_is_the_same_job() -> None:
    clock = Clock()
    asked = Asked(clock)
    assert asked.first("backup of x", "one") == "one"
    assert asked.first("backup of x", "two") == "one"
    assert asked.first("backup of y", "three") == "three"
    clock.now += 16
    assert asked.first("backup of x", "four") == "four"
    asked.forget("backup of x")
    assert asked.first("backup of x", "five") == "five"
