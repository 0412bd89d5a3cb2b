"""What a report is made with: who gathers it, where it is kept, who renders and sends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from pgben_tasks.domain.report import Report
from pgben_tasks.language import Language
from pgben_tasks.ports.work import Mailer

#: Where the images of a page are: beside it in a mail, within it in a file, within it as text.
Images = Literal["cid", "inline", "svg"]


class RenderedReport(Protocol):
    """A report in one language; ``images`` are those of a mail, by their content ids."""

    @property
    def subject(self) -> str:
        """The subject of a mail, with the verdict."""

    @property
    def text(self) -> str:
        """The report as plain text, which reads well alone."""

    @property
    def html(self) -> str:
        """The report as a page; as a part of one where its images are ``svg``."""

    @property
    def images(self) -> Mapping[str, bytes]:
        """The images that a mail carries beside the page."""


class Render(Protocol):
    """Renders a report."""

    def __call__(self, report: Report, language: Language, *, images: Images) -> RenderedReport:
        """Return the report in a language."""


class ReportRecord(Protocol):
    """The reports that were made."""

    def add(
        self,
        report: Report,
        *,
        job: UUID | None,
        window: datetime | None,
        pages: Mapping[Language, str],
    ) -> None:
        """Keep a report, and its page in each language; one that is kept already stays as it is."""

    def document(self, report: str) -> Report | None:
        """Return a report by its id; None when it was not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporting:
    """What the step needs that makes, keeps and mails a report."""

    #: Returns the report with this id about a window of the verification; None is the latest.
    gather: Callable[[str, datetime | None], Report]
    record: ReportRecord
    render: Render
    #: None where the settings name no mail server or no recipient.
    mailer: Mailer | None
    #: The language of mails and files.
    language: Language
