"""What every handler of the console does first: say who asks, and refuse whoever may not.

``Guarded`` stands in front of Flower's own handlers, ``Handler`` is the base of ours.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from inspect import isawaitable
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined
from tornado.web import HTTPError, RequestHandler

from pgben_tasks.console.access import (
    LONGEST_SECONDS,
    NOBODY,
    Logins,
    Remembered,
    Sessions,
    Throttle,
    Visitor,
    basic_credentials,
    is_own_host,
)
from pgben_tasks.console.facts import Facts, Status
from pgben_tasks.console.words import LANGUAGES, Words
from pgben_tasks.errors import ConfigurationError, PgbenError, TransientError
from pgben_tasks.language import Language, translatable as _
from pgben_tasks.words import LEVELS, SIGNS

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: Where our pages lie; what comes before is Flower's option ``url_prefix``.
HOME: Final = "/pgben"
SESSION: Final = "pgben_session"
LANGUAGE: Final = "pgben_language"
_ONE_YEAR_DAYS: Final = 365
#: Pages load nothing from outside, run only our own script, and are shown in no frame.
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
#: For so many seconds the same request of the same person is the same job.
_SAME_SECONDS: Final = 15.0
_MOST_ASKED: Final = 1000
#: More logins at a time are an attack; two are checked, the others wait.
_MOST_CHECKING: Final = 20


class Asked:
    """What was asked for a moment ago: a double click, or a second tab, asks for nothing new."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing asked."""
        self._clock = clock
        self._keys: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def first(self, what: str, key: str) -> str:
        """Return the key under which ``what`` is asked for: ``key``, unless it was just asked."""
        now = self._clock()
        known = self._keys.get(what)
        if known is not None and now - known[1] < _SAME_SECONDS:
            return known[0]
        self._keys[what] = key, now
        self._keys.move_to_end(what)
        while len(self._keys) > _MOST_ASKED:
            self._keys.popitem(last=False)
        return key

    def forget(self, what: str) -> None:
        """Forget what could not be sent, so that it may be tried again."""
        self._keys.pop(what, None)


@dataclass
class Shared:
    """What all handlers of one console share."""

    facts: Facts
    logins: Logins | None
    prefix: str
    sessions: Sessions | None = None
    remembered: Remembered | None = None
    throttle: Throttle = field(default_factory=Throttle)
    asked: Asked = field(default_factory=Asked)
    #: What Flower's own check is given, once ours has let somebody in.
    flower_secret: str = field(default_factory=lambda: f"console:{secrets.token_urlsafe(32)}")
    #: Passwords are hashed apart: each takes much memory, and must not keep pages waiting.
    hashing: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="hashing")
    )
    reading: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(8, thread_name_prefix="reading")
    )
    #: Who waits for workers keeps nobody waiting who reads the catalog.
    asking: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(8, thread_name_prefix="asking")
    )
    #: How many passwords are being checked, or wait for that.
    checking: int = 0
    _status: asyncio.Future[Status] | None = None
    last_status: Status = field(
        default_factory=lambda: Status(document=None, asked=None, error=None)
    )

    def __post_init__(self) -> None:
        """Make what belongs to the logins."""
        if self.logins is not None:
            self.sessions = Sessions(self.logins)
            self.remembered = Remembered(self.logins)
        self.templates = Environment(
            loader=PackageLoader("pgben_tasks.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def url(self, path: str) -> str:
        """Return the path of a page of ours, or of Flower, as browsers ask for it."""
        return f"{self.prefix}{path}"

    async def run(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Run what blocks off the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.reading, partial(function, *arguments, **named))

    async def ask(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Run what waits for a worker's answer off the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.asking, partial(function, *arguments, **named))

    async def status(self, wait: float) -> Status:
        """Return what workers say of the installation, or what they said last after ``wait`` s."""
        if self._status is None or self._status.done():
            self._status = asyncio.ensure_future(self.ask(self.facts.status))
        with suppress(TimeoutError):
            self.last_status = await asyncio.wait_for(asyncio.shield(self._status), wait)
        return self.last_status

    async def log_in(self, name: str, password: str, address: str) -> Visitor:
        """Return whoever has this name and password; raises ``HTTPError`` 401 or 429."""
        wait = self.throttle.wait(name, address)
        if self.checking >= _MOST_CHECKING:
            wait = max(wait, 1.0)
        if wait > 0:
            log.warning("login_slowed_down", address=address)
            raise TooManyTries(wait)
        logins = self.logins
        if logins is None:
            raise HTTPError(HTTPStatus.UNAUTHORIZED)
        self.throttle.tried(name, address)
        self.checking += 1
        try:
            loop = asyncio.get_running_loop()
            visitor = await loop.run_in_executor(self.hashing, logins.check, name, password)
        finally:
            self.checking -= 1
        if visitor is None:
            log.warning("login_failed", address=address)
            raise HTTPError(HTTPStatus.UNAUTHORIZED)
        self.throttle.succeeded(name, address)
        return visitor


class TooManyTries(HTTPError):
    """Too many logins failed; the next may be tried in ``seconds``."""

    def __init__(self, seconds: float) -> None:
        """Remember how long to wait."""
        super().__init__(HTTPStatus.TOO_MANY_REQUESTS)
        self.seconds = max(int(seconds + 1), 1)


class BaseHandler(RequestHandler):
    """Base of every handler, Flower's among them: who asks, cookies, headers."""

    @property
    def shared(self) -> Shared:
        """What all handlers of this console share."""
        return self.application.shared  # type: ignore[attr-defined,no-any-return]  # Console has it

    @property
    def wants_json(self) -> bool:
        """Whether a program asks: it is answered 401, not sent to the login page."""
        path = self.request.path.removeprefix(self.shared.prefix)
        return path.startswith("/api/") or path == "/metrics"

    def set_default_headers(self) -> None:
        """Set what protects every page."""
        super().set_default_headers()
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Referrer-Policy", "same-origin")

    def set_cookie(self, name: str, value: str | bytes, *arguments: Any, **named: Any) -> None:
        """Set a cookie that no script reads and no other site sends along."""
        always: dict[str, Any] = {
            "httponly": True,
            "samesite": "Lax",
            "path": f"{self.shared.prefix}/",
        }
        named = always | named
        named["secure"] = self.request.protocol == "https"
        super().set_cookie(name, value, *arguments, **named)

    async def identify(self) -> Visitor | None:
        """Return who asks: by name and password, or by a session; None when nobody says so.

        Raises ``HTTPError`` when name or password is wrong, or users cannot be read: only the log
        says of those why.
        """
        try:
            return await self._identified()
        except ConfigurationError as exc:
            log.error("users_not_read", why=exc.sentence)  # noqa: TRY400 - a sentence, no trace
            raise HTTPError(HTTPStatus.SERVICE_UNAVAILABLE) from None

    async def _identified(self) -> Visitor | None:
        shared = self.shared
        if shared.sessions is None or shared.remembered is None:
            return Visitor(NOBODY, "watch") if is_own_host(self.request.host) else None
        header = self.request.headers.get("Authorization")
        if header is not None:
            given = basic_credentials(header)
            if given is None:
                raise HTTPError(HTTPStatus.UNAUTHORIZED)
            visitor = shared.remembered.get(*given)
            if visitor is None:
                visitor = await shared.log_in(*given, self.request.remote_ip or "?")
                shared.remembered.keep(*given, visitor)
            return visitor
        token = self.get_cookie(SESSION)
        return None if token is None else shared.sessions.visitor(token)

    async def admit(self) -> bool:
        """Let somebody in who logged in; answer everybody else, and return whether it may go on."""
        visitor = await self.identify()
        if visitor is not None:
            self.visitor = visitor
            return True
        if self.shared.sessions is None:
            raise HTTPError(HTTPStatus.FORBIDDEN)
        if self.wants_json or self.request.method not in {"GET", "HEAD"}:
            raise HTTPError(HTTPStatus.UNAUTHORIZED)
        target = quote(self.request.uri or "/", safe="")
        self.redirect(self.shared.url(f"{HOME}/login?next={target}"))
        return False

    def write_error(self, status_code: int, **named: Any) -> None:
        """Answer an error in one sentence, without a trace."""
        error = (named.get("exc_info") or (None, None, None))[1]
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        if isinstance(error, TooManyTries):
            self.set_header("Retry-After", str(error.seconds))
            self.finish(f"too many logins failed: try again in {error.seconds} s\n")
        elif status_code == HTTPStatus.UNAUTHORIZED:
            self.set_header("WWW-Authenticate", 'Basic realm="pgben", charset="UTF-8"')
            self.finish("log in with the name and the password of a user of the console\n")
        else:
            said = error.get_message() if isinstance(error, HTTPError) else None
            self.finish(f"{said or HTTPStatus(status_code).phrase.lower()}\n")


class Guarded(BaseHandler):
    """Before a handler of Flower: nobody passes without a login, and nothing is changed."""

    async def prepare(self) -> None:
        """Ask who it is, then hand Flower's own check what it wants to see."""
        if not await self.admit():
            return
        secret = base64.b64encode(self.shared.flower_secret.encode()).decode()
        self.request.headers["Authorization"] = f"Basic {secret}"
        prepared = super().prepare()
        if isawaitable(prepared):
            await prepared


class Handler(BaseHandler):
    """Base of our own pages."""

    #: Whether it answers without a login.
    open_to_all = False
    visitor: Visitor

    def check_xsrf_cookie(self) -> None:
        """Check that a page of ours sent this: by what the browser says, and by the token.

        A page of another host of the same site, or of another port, can set the token's cookie.
        """
        site = self.request.headers.get("Sec-Fetch-Site")
        origin = self.request.headers.get("Origin")
        # Browsers say more over TLS and on this machine; proxies may take the port out of ``Host``.
        foreign = (
            site not in {"same-origin", "none"}
            if site is not None
            else origin is not None and urlsplit(origin).hostname != self.request.host_name
        )
        if foreign:
            raise HTTPError(HTTPStatus.FORBIDDEN)
        if self.needs_token:
            super().check_xsrf_cookie()

    @property
    def needs_token(self) -> bool:
        """Whether the token of a form is needed."""
        return True

    async def prepare(self) -> None:
        """Ask who it is."""
        if not self.open_to_all:
            await self.admit()

    def set_default_headers(self) -> None:
        """Set what protects our pages."""
        super().set_default_headers()
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("Cache-Control", "no-store")

    @property
    def language(self) -> Language:
        """The language that was chosen, or the browser's, or that of the settings."""
        chosen = self.get_cookie(LANGUAGE)
        for known in LANGUAGES:
            if chosen == known:
                return known
        for wanted in self.request.headers.get("Accept-Language", "").lower().split(","):
            for known in LANGUAGES:
                if wanted.strip().startswith(known[:2]):
                    return known
        return self.shared.facts.settings.language

    @property
    def words(self) -> Words:
        """The words of this page."""
        return Words(self.language, self.shared.facts.work.zone)

    def keep_language(self, language: str) -> None:
        """Remember the language that was chosen."""
        if language in LANGUAGES:
            self.set_cookie(LANGUAGE, language, expires_days=_ONE_YEAR_DAYS)

    def keep_session(self, token: str) -> None:
        """Hand a session's token to the browser."""
        self.set_cookie(SESSION, token, max_age=int(LONGEST_SECONDS))

    def show(self, template: str, **values: Any) -> None:
        """Write a page."""
        words = self.words
        page = self.shared.templates.get_template(template)
        self.set_header("Content-Type", "text/html; charset=UTF-8")
        self.finish(
            page.render(
                {
                    "_": words,
                    "words": words,
                    "url": self.shared.url,
                    "visitor": getattr(self, "visitor", None),
                    "logins": self.shared.sessions is not None,
                    "language": words.language,
                    "languages": LANGUAGES,
                    "levels": LEVELS,
                    "signs": SIGNS,
                    "here": self.request.path,
                    "uri": self.request.uri,
                    "zone": self.shared.facts.settings.timezone,
                    "contacts": self.shared.facts.settings.contacts,
                    "xsrf": self.xsrf_token.decode(),
                    "fragment": False,
                    **values,
                }
            )
        )

    def show_error(self, error: PgbenError, *, status: int | None = None) -> None:
        """Write a page that says what is wrong, and what to do."""
        sentence, hint = self.words.error(error)
        self.set_status(status or status_of(error))
        self.show("error.html", sentence=sentence, hint=hint)

    def write_error(self, status_code: int, **named: Any) -> None:
        """Answer an error with a page."""
        error = (named.get("exc_info") or (None, None, None))[1]
        if isinstance(error, PgbenError):
            self.show_error(error)
            return
        if self.wants_json or status_code == HTTPStatus.UNAUTHORIZED:
            super().write_error(status_code, **named)
            return
        words = self.words
        if status_code == HTTPStatus.NOT_FOUND:
            sentence = words(_("There is no such page."))
        elif status_code == HTTPStatus.FORBIDDEN and self.request.method == "POST":
            sentence = words(
                _(
                    "This was not sent by a page of this console, or the page was too old. Open it "
                    "again."
                )
            )
        else:
            sentence = words(_("Something went wrong; the console's log says what."))
        self.show("error.html", sentence=sentence, hint="")

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log what nobody expected; what is ours is said on the page."""
        if isinstance(value, PgbenError):
            log.info("page_refused", path=self.request.path, why=type(value).__name__)
        elif isinstance(value, HTTPError):
            log.info("page_refused", path=self.request.path, status=value.status_code)
        else:
            log.error("page_failed", path=self.request.path, exc_info=(typ, value, tb))

    def require_operator(self) -> bool:
        """Return whether the visitor may start something; else answer that it may not."""
        if self.visitor.may_operate:
            return True
        self.set_status(HTTPStatus.FORBIDDEN)
        words = self.words
        self.show(
            "error.html",
            sentence=words(_("You may watch, and this starts or changes something.")),
            hint=words(_("Ask somebody whose login may operate.")),
        )
        return False


def status_of(error: PgbenError) -> int:
    """Return the HTTP status for an error of ours."""
    if isinstance(error, TransientError):
        return HTTPStatus.SERVICE_UNAVAILABLE
    if type(error).__name__ in {"JobNotFound", "BackupNotFound"}:
        return HTTPStatus.NOT_FOUND
    if isinstance(error, ConfigurationError):
        return HTTPStatus.INTERNAL_SERVER_ERROR
    return HTTPStatus.BAD_REQUEST


def own_path(text: str, *, prefix: str) -> str:
    """Return where to go after a login: a path of this console, never another site."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return f"{prefix}{HOME}"
    safe = not (parts.scheme or parts.netloc) and text.startswith("/") and "\\" not in text
    return text if safe and not text.startswith("//") and text.isprintable() else f"{prefix}{HOME}"
