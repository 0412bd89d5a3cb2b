"""What `pgben bootstrap` has to be told: by an option, a file, the environment, or at the prompt.

Secrets come from files, the environment or a prompt that shows nothing, never from the command
line, which every user of a machine can read.
"""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, for a fast --help

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import typer

from pgben_tasks.errors import ConfigurationError
from pgben_tasks.settings.sources import variables

_FILE: Final = "_FILE"
_REPOSITORY: Final = "PGBEN_REPOSITORY"
_IDENTITY: Final = "PGBEN_AGE_IDENTITY_FILE"


class Question(NamedTuple):
    """One answer: the setting it becomes, the option that gives it, and how it is asked for."""

    setting: str
    option: str
    text: str
    default: str | None = None
    hidden: bool = False
    of_s3: bool = False


#: In the order of asking. An option of a hidden one names a file.
QUESTIONS: Final = (
    Question(_REPOSITORY, "--repository", "Repository (file:///folder or s3://bucket/prefix)"),
    Question(
        "PGBEN_REPOSITORY_ENDPOINT",
        "--repository-endpoint",
        "  its server (https://host:port)",
        of_s3=True,
    ),
    Question(
        "PGBEN_REPOSITORY_ACCESS_KEY", "--repository-access-key", "  its access key", of_s3=True
    ),
    Question(
        "PGBEN_REPOSITORY_SECRET_KEY",
        "--repository-secret-file",
        "  its secret key (not shown)",
        hidden=True,
        of_s3=True,
    ),
    Question("PGBEN_DB_HOST", "--postgres-host", "New PostgreSQL server: host"),
    Question("PGBEN_DB_PORT", "--postgres-port", "  its port", default="5432"),
    Question("PGBEN_DB_USER", "--postgres-user", "  a superuser", default="postgres"),
    Question(
        "PGBEN_DB_PASS", "--postgres-password-file", "  its password (not shown)", hidden=True
    ),
    Question("PGBEN_MINIO_HOST", "--s3-endpoint", "New S3 server (https://host:port)"),
    Question("PGBEN_MINIO_ACCESS_KEY", "--s3-access-key", "  its access key"),
    Question(
        "PGBEN_MINIO_SECRET_KEY", "--s3-secret-file", "  its secret key (not shown)", hidden=True
    ),
)


class Answered(NamedTuple):
    """Settings as an environment has them, the text of an identity file, and a fingerprint."""

    environment: dict[str, str]
    identity: str
    fingerprint: str


def gather(
    given: Mapping[str, str | None],
    *,
    identity: Path | None,
    fingerprint: str | None,
    ask: bool,
) -> Answered:
    """Return all answers: what was ``given`` by option, then what the environment has, then asked.

    Raises ``ConfigurationError`` naming every option that is missing where nobody can be asked.
    """
    environment = variables()
    asking = ask and sys.stdin.isatty()
    missing = []
    for question in QUESTIONS:
        _take(environment, question, given.get(question.option))
        if not _is_wanted(question, environment) or _has(environment, question.setting):
            continue
        if asking:
            environment[question.setting] = _asked(question)
        elif question.default is not None:
            environment[question.setting] = question.default
        else:
            missing.append(question.option)
    path = identity or (Path(found) if (found := environment.get(_IDENTITY)) else None)
    missing += [] if path or asking else ["--identity"]
    missing += [] if fingerprint or asking else ["--fingerprint"]
    if missing:
        raise ConfigurationError(
            f"not answered: {', '.join(missing)}",
            "give these options, or run the command at a terminal without --json, where it asks "
            "for them; `pgben bootstrap --help` has examples",
        )
    return Answered(
        environment,
        _identity(path),
        fingerprint or _prompt("Fingerprint of the public keys (16 groups, on the recovery card)"),
    )


def _take(environment: dict[str, str], question: Question, given: str | None) -> None:
    """Put the answer of an option in place of what the environment has."""
    if given is None:
        return
    environment.pop(question.setting, None)
    environment.pop(question.setting + _FILE, None)
    name = question.setting + _FILE if question.hidden else question.setting
    environment[name] = str(Path(given).absolute()) if question.hidden else given


def _has(environment: Mapping[str, str], setting: str) -> bool:
    return bool(environment.get(setting) or environment.get(setting + _FILE))


def _is_wanted(question: Question, environment: Mapping[str, str]) -> bool:
    return not question.of_s3 or environment.get(_REPOSITORY, "").startswith("s3://")


def _asked(question: Question) -> str:
    return _prompt(question.text, default=question.default, hidden=question.hidden)


def _identity(path: Path | None) -> str:
    """Return the text of the identity file, or the identity that is typed in its place."""
    if path is None:
        typed = _prompt("Identity: a file, or the key itself (not shown)", hidden=True)
        if typed.startswith("AGE-SECRET-KEY-"):
            return typed
        path = Path(typed)
    from pgben_tasks.adapters.keys.secrets import read_secret

    return read_secret(path, what="identity file")


def _prompt(text: str, *, default: str | None = None, hidden: bool = False) -> str:
    answer: str = typer.prompt(text, default=default, hide_input=hidden, err=True)
    return answer.strip()
