"""The comparison that the demo believes is independent of pgben, and notices one changed byte."""

from __future__ import annotations

import pytest

from pgben_tasks.embedded.data.compare import contents
from pgben_tasks.embedded.postgres import EmbeddedPostgres

CHANGES = {
    "public.t": (
        "UPDATE t SET words = 'olà' WHERE id = 7",
        "DELETE FROM t WHERE id = 7",
        "INSERT INTO t VALUES (11, 'a mais')",
        "UPDATE t SET words = NULL WHERE id = 7",
    ),
    "large objects": ("SELECT lo_put(4242, 1, 'x')", "SELECT lo_unlink(4242)"),
}


@pytest.mark.parametrize(
    ("table", "change"), [(table, change) for table, some in CHANGES.items() for change in some]
)
def test_any_change_is_noticed_where_it_happened(
    postgres: EmbeddedPostgres, fresh_database: str, table: str, change: str
) -> None:
    with postgres.connect(fresh_database) as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT id, 'olá' AS words FROM generate_series(1, 10) id"
        )
        connection.execute("CREATE TABLE other (a int)")
        connection.execute("SELECT lo_from_bytea(4242, 'conteúdo')")
        before = contents(postgres.dsn(), fresh_database)
        connection.execute(change.encode())
    after = contents(postgres.dsn(), fresh_database)

    assert [name for name in before if before[name] != after[name]] == [table]


def test_the_order_of_rows_does_not_matter(postgres: EmbeddedPostgres, fresh_database: str) -> None:
    with postgres.connect(fresh_database) as connection:
        connection.execute("CREATE TABLE t AS SELECT id FROM generate_series(1, 10) id")
        before = contents(postgres.dsn(), fresh_database)
        connection.execute("CREATE TABLE t2 AS SELECT id FROM t ORDER BY id DESC")
        connection.execute("DROP TABLE t; ALTER TABLE t2 RENAME TO t")
    assert contents(postgres.dsn(), fresh_database) == before
