"""Claims about what a refused connection means, whatever language the server speaks."""

from __future__ import annotations

import psycopg
import pytest

from pgben_tasks.adapters.postgres.server import PostgresServer, refusal
from pgben_tasks.errors import ConfigurationError, DatabaseUnavailable, PgbenError

SERVER = PostgresServer(host="db.example", port=5432, user="leitor", password="Palavra-Secreta")
AT = 'connection failed: connection to server at "db.example" (192.0.2.1), port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ('FATAL:  password authentication failed for user "leitor"', ConfigurationError, "role"),
        (
            'FATAL:  autenticação do tipo senha falhou para o usuário "leitor"',
            ConfigurationError,
            "does not accept the role 'leitor'",
        ),
        ('FATAL:  database "pgben" does not exist', ConfigurationError, "database 'pgben'"),
        ('FATAL:  banco de dados "pgben" não existe', ConfigurationError, "database 'pgben'"),
        (
            'FATAL:  no pg_hba.conf entry for host "192.0.2.9", user "leitor", database "pgben"',
            ConfigurationError,
            "no rule",
        ),
        (
            'FATAL:  nenhuma entrada no pg_hba.conf para máquina "192.0.2.9", usuário "leitor"',
            ConfigurationError,
            "no rule",
        ),
        ("FATAL:  the database system is starting up", DatabaseUnavailable, "no connections now"),
        ("FATAL:  o sistema de banco de dados está desligando", DatabaseUnavailable, "now"),
        ("FATAL:  sorry, too many clients already", DatabaseUnavailable, "no connections now"),
        ('FATAL:  too many connections for role "leitor"', DatabaseUnavailable, "now"),
        ("fe_sendauth: no password supplied", ConfigurationError, "wants a password"),
        ("server does not support SSL, but SSL was required", ConfigurationError, "encrypted"),
        ("Connection refused\n\tIs the server running?", DatabaseUnavailable, "does not answer"),
        ("timeout expired", DatabaseUnavailable, "did not answer within"),
    ],
)
def test_a_refusal_says_what_to_do(text: str, error: type[PgbenError], says: str) -> None:
    refused = refusal(psycopg.OperationalError(AT + text), SERVER, "pgben")
    assert type(refused) is error
    assert says in refused.sentence
    assert refused.hint
    assert "Palavra" not in str(refused)


def test_an_unknown_host_is_named() -> None:
    exc = psycopg.OperationalError("failed to resolve host 'db.example': Name not known")
    refused = refusal(exc, SERVER, "pgben")
    assert type(refused) is DatabaseUnavailable
    assert "'db.example' is unknown" in refused.sentence


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('FATAL:  password authentication failed for user "pgben"', "role 'pgben'"),
        ('FATAL:  autenticação do tipo senha falhou para o usuário "pgben"', "role 'pgben'"),
        ('FATAL:  database "pgben" does not exist', "database 'pgben'"),
        ('FATAL:  banco de dados "pgben" não existe', "database 'pgben'"),
    ],
)
def test_role_and_database_of_one_name_are_told_apart(text: str, says: str) -> None:
    server = PostgresServer(host="db", port=5432, user="pgben", password="x")
    assert says in refusal(psycopg.OperationalError(AT + text), server, "pgben").sentence
