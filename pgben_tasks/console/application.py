"""Flower's application with our pages before its own, and nothing in it that changes anything."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from flower.app import Flower
from flower.urls import handlers as flowers_handlers, settings as flowers_settings
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream
from tornado.netutil import bind_sockets
from tornado.template import Loader, Template
from tornado.web import HTTPError, RequestHandler, StaticFileHandler, url

from pgben_tasks.adapters.report.render import STYLES
from pgben_tasks.console.api import Apply, ReadOnly, Result
from pgben_tasks.console.events import MaskedEvents, MaskedInspector
from pgben_tasks.console.handlers import HOME, BaseHandler, Guarded, Handler, Shared
from pgben_tasks.console.pages import (
    FORMS,
    AskedPage,
    BackupsPage,
    HistoryFile,
    HistoryPage,
    JobPage,
    JobsPage,
    LanguagePage,
    LoginPage,
    LogoutPage,
    NightPage,
    NoPage,
    OverviewPage,
    PointsPage,
    ReportPage,
)

#: Seconds that a connection may be silent, and a request's body may take.
_IDLE_SECONDS: Final = 60.0
#: No request is larger: a form has names, a service's request keys of some objects.
_MOST_BODY_BYTES: Final = 2 * 1024 * 1024
#: Fewer than a process may open files, so that there is always one left.
_MOST_CONNECTIONS: Final = 200
_STATIC: Final = Path(__file__).parent / "static"
#: Flower's addresses that start, change or stop something, whatever the method.
_CHANGING: Final = r"/api/(?:worker/.+|task/(?:send-task|abort|timeout|rate-limit|revoke)/.*)"
#: What the list of Flower's pages begins with, in the bar at their head.
_FIRST_OF_BAR: Final = '<ul class="app-nav navbar-nav">'
#: Flower's addresses that ours stand for.
_REPLACED: Final = frozenset({"/login/?", "/healthcheck"})


class FlowersTemplates(Loader):
    """Flower's templates; the bar at the head of its pages leads back to ours."""

    def __init__(self, shared: Shared) -> None:
        """Read them where Flower has them."""
        super().__init__(flowers_settings["template_path"])
        self._back = (
            f'<li class="nav-item"><a class="nav-link" href="{shared.url(HOME)}">pgben</a></li>'
        )

    def _create_template(self, name: str) -> Template:
        text = Path(self.root, name).read_text(encoding="utf-8")
        if name == "navbar.html":
            text = text.replace(_FIRST_OF_BAR, _FIRST_OF_BAR + self._back, 1)
        return Template(text, name=name, loader=self)


class Static(BaseHandler, StaticFileHandler):
    """The stylesheet, the script and the icon of our pages; the login page needs them, too."""

    async def get(self, path: str, include_body: bool = True) -> None:  # noqa: FBT001, FBT002 - Tornado's signature
        """Send one of them."""
        if not path.isprintable():
            raise HTTPError(HTTPStatus.NOT_FOUND)
        await super().get(path, include_body)

    def set_extra_headers(self, path: str) -> None:  # noqa: ARG002 - Tornado's signature
        """Let browsers keep it for minutes."""
        self.set_header("Cache-Control", "max-age=300")


class Healthcheck(Handler):
    """Whether this process answers, for probes: it says nothing else, so it needs no login."""

    open_to_all = True

    def get(self) -> None:
        """Answer ``OK``."""
        self.set_header("Content-Type", "text/plain")
        self.finish("OK")


class Console(Flower):
    """Flower, read-only for everybody, with the pages of pgben."""

    def __init__(self, options: Any, capp: Any, shared: Shared, io_loop: Any = None) -> None:
        """Serve ``shared`` and the Celery application ``capp``."""
        self.shared = shared
        loop = io_loop or IOLoop.current()
        # Flower's own check is passed by the secret that our own check hands it.
        options.basic_auth = [shared.flower_secret]
        options.read_only = True
        super().__init__(
            options=options,
            capp=capp,
            io_loop=loop,
            events=MaskedEvents(
                capp,
                io_loop=loop,
                enable_events=options.enable_events,
                max_workers_in_memory=options.max_workers,
                max_tasks_in_memory=options.max_tasks,
            ),
            template_loader=FlowersTemplates(shared),
            **flowers_settings,
        )
        self.inspector = MaskedInspector(loop, capp, options.inspect_timeout / 1000)
        # Flower's routes, which its constructor added, are replaced by the same ones guarded.
        self.default_router.rules.clear()
        self.wildcard_router.rules.clear()
        self.add_handlers(r".*", [*_ours(shared), *_guarded(shared.prefix)])

    def start_http_server(self) -> int:
        """Listen; return the port. Before a login nobody may send much, slowly, or very often."""
        sockets = bind_sockets(self.options.port, address=self.options.address)
        server = FewConnections(
            self,
            ssl_options=self.ssl_options,
            xheaders=self.options.xheaders,
            idle_connection_timeout=_IDLE_SECONDS,
            body_timeout=_IDLE_SECONDS,
            max_body_size=_MOST_BODY_BYTES,
            max_buffer_size=2 * _MOST_BODY_BYTES,
        )
        server.add_sockets(sockets)
        return int(sockets[0].getsockname()[1])


class FewConnections(HTTPServer):
    """A server that hangs up where more are open than a console has visitors."""

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """Serve a connection, or close it."""
        if len(self._connections) >= _MOST_CONNECTIONS:
            stream.close()
            return
        super().handle_stream(stream, address)


def _ours(shared: Shared) -> list[Any]:
    """Return the routes of our own pages."""
    one_job = rf"{HOME}/jobs/([0-9a-f-]{{1,36}})"
    routes: list[tuple[Any, ...]] = [
        (HOME + r"/?", OverviewPage),
        (HOME + r"/(live)", OverviewPage),
        (HOME + r"/login", LoginPage),
        (HOME + r"/logout", LogoutPage),
        (HOME + r"/language/(\w+)", LanguagePage),
        (HOME + r"/nights/([0-9-]+)", NightPage),
        (HOME + r"/jobs", JobsPage),
        (HOME + r"/history", HistoryPage),
        (HOME + r"/history\.csv", HistoryFile),
        (one_job, JobPage),
        (one_job + r"/(live)", JobPage),
        (HOME + r"/asked/([^/]+(?:/[^/]+)*)", AskedPage),
        (HOME + r"/backups", BackupsPage),
        (HOME + r"/points", PointsPage),
        (HOME + r"/report", ReportPage),
        (HOME + r"/report/([0-9TZa-f-]{1,40})", ReportPage),
        (HOME + r"/styles/(report\.css)", Static, {"path": str(STYLES)}),
        *((rf"{HOME}/do/{name}", page) for name, page in FORMS.items()),
        (HOME + r"/static/(.*)", Static, {"path": str(_STATIC)}),
        (HOME + r"/(.*)", NoPage),
        (r"/api/task/(apply|async-apply)/(.+)", Apply),
        (r"/api/task/result/(.+)", Result),
        (_CHANGING, ReadOnly),
        (r"/healthcheck", Healthcheck),
    ]
    return [url(shared.url(route), *rest) for route, *rest in routes] + [
        url(shared.url("/logout"), LogoutPage, name="logout")
    ]


def _guarded(prefix: str) -> list[Any]:
    """Return Flower's routes, each behind our login."""
    guarded: dict[type[RequestHandler], type[RequestHandler]] = {}
    routes = []
    for one in flowers_handlers:
        route = one if isinstance(one, url) else url(*one)
        pattern = route.regex.pattern.removesuffix("$")
        if pattern in _REPLACED or route.name == "logout":
            continue
        handler = route.handler_class
        if handler not in guarded:
            guarded[handler] = type(f"Guarded{handler.__name__}", (Guarded, handler), {})
        routes.append(
            url(
                pattern if pattern == ".*" else f"{prefix}{pattern}",
                guarded[handler],
                route.kwargs,
                name=route.name,
            )
        )
    return routes
