"""The documents say what the code does: names, fields, errors, dependencies, links."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import typer

from pgben_tasks import canvases, contracts, errors, names
from pgben_tasks.cli.main import app
from pgben_tasks.domain import documents
from pgben_tasks.domain.values import Document
from tests.support import restore_page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
#: What operators read; the others tell of what was, too.
GUIDES = [
    ROOT / "README.md",
    *sorted([*DOCS.glob("*.md"), *DOCS.glob("pt_BR/*.md"), *DOCS.glob("runbooks/**/*.md")]),
]
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(#[^)\s]+)?\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
#: Hosts and paths that pages may name: examples and public documents, nobody's own surroundings.
HOST = re.compile(r"\w://(?:[^\s/@`]*@)?([\w.-]+)")
HOSTS = {"127.0.0.1", "age-encryption.org", "keepachangelog.com", "semver.org"}
ABSOLUTE = re.compile(r"(?<![\w.:/>…~*$])/\w[\w.-]*/[\w.-]+")
PLACES = (
    *("/backup/", "/dev/null", "/dev/stdin", "/etc/pgben", "/etc/systemd", "/mnt/repository"),
    *("/opt/pgben", "/run/secrets", "/usr/bin", "/usr/local", "/var/lib"),
    # Addresses of the console.
    "/api/",
)
UPWARD = re.compile(r"(?:\.\./)+[\w./-]*\w")


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def title(page: Path) -> str:
    return str(page.relative_to(ROOT))


def task_names() -> list[str]:
    return sorted(
        value
        for value in vars(names).values()
        if isinstance(value, str) and value.startswith("pgben.")
    )


def error_names() -> list[str]:
    return sorted(
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.PgbenError)
    )


def stored_documents() -> list[type[Document]]:
    return [
        value
        for value in vars(documents).values()
        if isinstance(value, type) and issubclass(value, Document) and value is not Document
    ]


def dependencies() -> Iterator[str]:
    project = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
    for line in chain(project["dependencies"], *project["optional-dependencies"].values()):
        match = re.match(r"[A-Za-z0-9._-]+(\[[a-z]+\])?", line)
        assert match is not None
        yield match[0]


def anchor(heading: str) -> str:
    plain = re.sub(r"[^\w\s-]", "", heading.lower())
    return "#" + plain.strip().replace(" ", "-")


def test_the_readme_is_short_and_names_both_commands() -> None:
    text = read(ROOT / "README.md")
    assert len(text.splitlines()) < 200
    assert "make demo" in text
    assert "make test" in text


@pytest.mark.parametrize("language", restore_page.HEADINGS)
def test_the_restore_page_asks_three_questions_and_answers_each(language: str) -> None:
    text = restore_page.page(language)
    rows = re.findall(r"^\| \*\*(.+?\?)\*\*(.*)$", text, re.MULTILINE)
    assert len(rows) == 3
    named = set(re.findall(r"\b([A-E])\b", "".join(answers for _, answers in rows)))
    branches = restore_page.branches(language)
    assert named == {"A", "B", "C", "D"} == {*branches} - {"first", "E"}
    # A restore without pgben is a page of its own, whose commands are run by its own test.
    assert branches["E"] == []
    assert "(docs/format.md)" in text
    assert not any("init" in command for commands in branches.values() for command in commands)


def test_the_restore_page_has_the_same_commands_in_both_languages() -> None:
    assert restore_page.branches("en") == restore_page.branches("pt_BR")


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md"])
def test_every_command_of_pgben_is_named(page: str) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    text = read(ROOT / page)
    assert {command for command in commands if command not in text} == set()


@cache
def root() -> Any:
    return typer.main.get_command(app)


def unknown(line: str) -> list[str]:
    """Return the subcommands and options of a typed line that pgben does not have."""
    command = root()
    found = []
    words = iter(re.split("[|#]", line)[0].split()[1:])
    for word in words:
        group = getattr(command, "commands", {})
        if word.startswith("--"):
            name = word.rstrip(".,;)").partition("=")[0]
            if name != "--help" and not any(name in one.opts for one in command.params):
                found.append(name)
            elif command is root() and name == "--env-file":
                next(words, None)
        elif word in group:
            command = group[word]
        elif group and re.fullmatch("[a-z]+", word):
            found.append(word)
    return found


@pytest.mark.parametrize("page", GUIDES, ids=title)
def test_every_command_that_a_page_names_has_its_options(page: Path) -> None:
    text = read(page)
    lines = re.findall(r"`(pgben\s[^`]+)`", text) + re.findall(
        r"^\s*(pgben .+)$", text, re.MULTILINE
    )
    assert [(line, found) for line in lines if (found := unknown(line))] == []


@pytest.mark.parametrize("name", task_names())
def test_every_task_is_documented(name: str) -> None:
    assert f"`{name}`" in read(DOCS / "tasks.md")


def test_every_step_is_documented_with_its_queue() -> None:
    text = read(DOCS / "tasks.md")
    for steps in canvases.CHAINS.values():
        for name, place in steps:
            queue = canvases.queue_of(place, "<node>")
            assert f"| `{name}` | `{queue}` |" in text


def test_the_overview_shows_every_chain_with_its_steps() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| `(pgben[\w.]+)` \| ([\w., ]+) \|$",
        read(DOCS / "architecture.md"),
        re.MULTILINE,
    )
    shown = {name: [f"{entry}.{step}" for step in steps.split(", ")] for name, entry, steps in rows}
    assert shown == {name: [step for step, _ in steps] for name, steps in canvases.CHAINS.items()}


def test_the_overview_shows_every_package() -> None:
    picture = read(DOCS / "architecture.md").partition("```mermaid\nflowchart TB")[2]
    picture = picture.partition("```")[0]
    packages = {entry.parent.name for entry in (ROOT / "pgben_tasks").glob("*/__init__.py")}
    assert [name for name in packages - {"embedded"} if f'{name}["{name}<br/>' not in picture] == []


@pytest.mark.parametrize(
    "request_model", [*contracts.REQUESTS.values(), *contracts.TASK_REQUESTS.values()]
)
def test_every_field_of_a_request_is_documented(request_model: type[contracts.Request]) -> None:
    text = read(DOCS / "tasks.md")
    assert [field for field in request_model.model_fields if f"| `{field}` |" not in text] == []


@pytest.mark.parametrize("name", error_names())
def test_every_error_is_documented(name: str) -> None:
    # The base class itself is never raised.
    assert name == "PgbenError" or f"`{name}`" in read(DOCS / "tasks.md")


@pytest.mark.parametrize("document", stored_documents())
def test_every_field_of_the_format_is_documented(document: type[Document]) -> None:
    text = read(DOCS / "format.md").partition("## Part two")[2]
    assert [field for field in document.model_fields if f"`{field}`" not in text] == []


@pytest.mark.parametrize("dependency", sorted(set(dependencies())))
def test_every_dependency_has_a_reason(dependency: str) -> None:
    lines = [line for line in read(DOCS / "dependencies.md").splitlines() if line.startswith("| `")]
    reasons = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", "\n".join(lines), re.MULTILINE))
    assert reasons.get(dependency, "").strip()


def test_no_reason_is_given_for_a_dependency_that_is_gone() -> None:
    text = read(DOCS / "dependencies.md").partition("## Programs of the system")[0]
    named = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert sorted(named) == sorted(dependencies())


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_a_page_names_no_host_and_no_path_but_those_of_examples(page: Path) -> None:
    text = read(page)
    hosts = {host for host in HOST.findall(text) if "." in host and ".example" not in host}
    assert hosts <= HOSTS
    assert [path for path in ABSOLUTE.findall(text) if not path.startswith(PLACES)] == []
    for path in UPWARD.findall(FENCE.sub("", text)):
        target = (page.parent / path).resolve()
        assert target.exists(), path
        assert target.is_relative_to(ROOT), path


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for path, fragment in LINK.findall(FENCE.sub("", read(page))):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if fragment:
            assert fragment in {anchor(one) for one in HEADING.findall(read(target))}, fragment


@pytest.mark.parametrize("page", DECISIONS, ids=title)
def test_a_decision_is_short_and_has_its_three_parts(page: Path) -> None:
    text = read(page)
    assert len(text.splitlines()) < 40
    parts = [text.index(f"**{part}.**") for part in ("Context", "Decision", "Consequence")]
    assert parts == sorted(parts)
    assert text.startswith(f"# {page.name[:4]} ")


def test_decisions_are_numbered_without_gaps() -> None:
    assert [page.name[:4] for page in DECISIONS] == [
        f"{number:04}" for number in range(1, len(DECISIONS) + 1)
    ]


@pytest.mark.parametrize("page", DECISIONS, ids=title)
def test_the_index_gives_the_title_and_the_status_of_a_decision(page: Path) -> None:
    heading = read(page).splitlines()[0].partition(" ")[2].partition(" ")[2]
    found = re.search(
        rf"^\| \[{page.name[:4]}\]\({page.name}\) \| (.+?) \| (in force|replaced by) ?.*\|$",
        read(DOCS / "decisions" / "README.md"),
        re.MULTILINE,
    )
    assert found is not None
    assert found[1] == heading


def test_the_license_is_the_one_that_the_package_names() -> None:
    project = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
    assert project["license"] == "Apache-2.0"
    text = read(ROOT / "LICENSE")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
