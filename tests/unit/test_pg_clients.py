"""Claims about which PostgreSQL client is chosen for which server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, strategies as st

from pgben_tasks.adapters.postgres.clients import (
    Installation,
    Origin,
    choose_for_dump,
    choose_for_listing,
    choose_for_restore,
    find_installations,
    inspect_client,
)
from pgben_tasks.domain.restorability import (
    Archive,
    Client,
    Compression,
    RestoreSite,
    missing_client,
)
from pgben_tasks.errors import ConfigurationError


def _client(
    major: int, origin: Origin = "system", minor: int = 1, compression: Compression = "zstd:3"
) -> Installation:
    return Installation(
        directory=Path(f"/opt/{origin}/{major}.{minor}/{compression}/bin"),
        version=f"{major}.{minor}",
        major=major,
        minor=minor,
        origin=origin,
        compression=compression,
    )


def _site(*clients: Installation) -> RestoreSite:
    return RestoreSite(
        clients=tuple(
            Client(version=one.version, major=one.major, compression=one.compression)
            for one in clients
        ),
        current=True,
    )


def _archive(client_major: int, compression: Compression) -> Archive:
    return Archive(client_major=client_major, compression=compression)


MAJORS = st.integers(14, 19)
CLIENTS = st.lists(
    st.builds(
        _client,
        MAJORS,
        st.sampled_from(["path", "system", "bundled"]),
        st.integers(0, 3),
        st.sampled_from(["zstd:3", "none"]),
    ),
    min_size=1,
    max_size=6,
)


def test_a_dump_prefers_the_servers_own_major() -> None:
    tools = choose_for_dump(160004, [_client(18, "path"), _client(17, "path"), _client(16)])
    assert tools.major == 16


def test_a_dump_prefers_path_then_the_system_then_wheels() -> None:
    clients = [_client(17, "bundled", 9), _client(17, "system", 5), _client(17, "path", 1)]
    assert choose_for_dump(170010, clients).pg_dump.is_relative_to("/opt/path")
    assert choose_for_dump(170010, clients[:2]).pg_dump.is_relative_to("/opt/system")


def test_a_dump_prefers_the_newest_minor_of_one_origin() -> None:
    assert choose_for_dump(170010, [_client(17, minor=2), _client(17, minor=9)]).version == "17.9"


def test_without_the_same_major_the_nearest_newer_one_dumps() -> None:
    assert choose_for_dump(150018, [_client(18), _client(16), _client(14)]).major == 16


def test_an_old_client_is_refused_with_the_package_to_install() -> None:
    with pytest.raises(ConfigurationError) as refused:
        choose_for_dump(180006, [_client(15), _client(17)])
    assert "version 18" in refused.value.sentence
    assert "15.1" in refused.value.sentence
    assert "postgresql-client-18" in refused.value.hint


def test_no_client_at_all_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="found none"):
        choose_for_dump(170010, [])


@given(MAJORS, CLIENTS)
def test_a_chosen_client_is_never_older_than_the_server(
    major: int, clients: list[Installation]
) -> None:
    assume(any(one.major >= major for one in clients))
    chosen = choose_for_dump(major * 10000 + 3, clients)
    assert chosen.major >= major
    assert not [one for one in clients if major <= one.major < chosen.major]


def test_a_dump_is_made_by_the_client_that_can_also_be_restored_from() -> None:
    both = [_client(14), _client(16)]
    assert choose_for_dump(140023, both).major == 14
    assert choose_for_dump(140023, both, _site(_client(15))).major == 14
    assert choose_for_dump(140023, both, _site(_client(16))).major == 14
    # Workers that restore have no zstd: the very client that dumps is asked not to compress.
    chosen = choose_for_dump(140023, both, _site(_client(16, compression="none")))
    assert (chosen.major, chosen.compression) == (14, "none")
    # The nearest client makes dumps that no client can load into the server.
    assert choose_for_dump(160014, [_client(17), _client(16)]).major == 16


def test_a_dump_that_living_workers_can_restore_is_preferred() -> None:
    plain, zstd = _site(_client(17, compression="none")), _site(_client(17))
    some = RestoreSite(
        clients=(*(plain.clients or ()), *(zstd.clients or ())),
        living=plain.clients or (),
        current=False,
    )
    assert choose_for_dump(170010, [_client(17)], some).compression == "none"
    only_silent = replace(some, living=_site(_client(15)).clients or ())
    assert choose_for_dump(170010, [_client(17)], only_silent).compression == "zstd:3"


def test_a_dump_is_taken_even_where_nobody_can_restore_it() -> None:
    chosen = choose_for_dump(140023, [_client(17), _client(18)], _site(_client(17)))
    assert (chosen.major, chosen.compression) == (17, "zstd:3")


@given(MAJORS, CLIENTS, CLIENTS)
def test_a_dump_is_restorable_whenever_one_of_the_clients_makes_a_restorable_one(
    major: int, clients: list[Installation], restoring: list[Installation]
) -> None:
    assume(any(one.major >= major for one in clients))
    chosen = choose_for_dump(major * 10000 + 3, clients, _site(*restoring))
    made = Archive(client_major=chosen.major, compression=chosen.compression)
    possible = any(
        missing_client(Archive(client_major=one.major, compression="none"), major, restoring)
        is None
        for one in clients
        if one.major >= major
    )
    assert (missing_client(made, major, restoring) is None) == possible


def test_a_restore_prefers_the_destinations_major() -> None:
    tools = choose_for_restore(
        170010, [_client(18, "path"), _client(17), _client(16)], _archive(15, "none")
    )
    assert tools.major == 17


def test_a_restore_chooses_by_the_client_that_dumped_not_by_the_server() -> None:
    # A server of 15, dumped by 16: pg_restore 15 cannot read that.
    tools = choose_for_restore(150018, [_client(15), _client(16)], _archive(16, "none"))
    assert tools.major == 16


def test_a_dump_compressed_with_zstd_needs_a_client_built_with_it() -> None:
    tools = choose_for_restore(
        180006, [_client(18, compression="none"), _client(17)], _archive(17, "zstd:3")
    )
    assert (tools.major, tools.compression) == (17, "zstd:3")


def test_a_newer_pg_restore_is_not_let_loose_on_a_server_before_17() -> None:
    with pytest.raises(ConfigurationError, match="server of version 15") as refused:
        choose_for_restore(150018, [_client(17), _client(18)], _archive(15, "none"))
    assert "needs a PostgreSQL client of version 15 to 16" in refused.value.sentence
    assert "postgresql-client-15" in refused.value.hint


def test_a_dump_that_no_client_can_load_there_is_not_said_to_need_an_older_one() -> None:
    with pytest.raises(ConfigurationError, match="needs a server of PostgreSQL 17") as refused:
        choose_for_restore(140023, [_client(14), _client(17)], _archive(17, "none"))
    assert "back up again" in refused.value.hint


@given(MAJORS, MAJORS, CLIENTS, st.sampled_from(["zstd:3", "none"]))
def test_a_restoring_client_reads_the_dump_and_fits_the_server(
    destination: int, dumped_by: int, clients: list[Installation], compression: Compression
) -> None:
    archive = _archive(dumped_by, compression)
    try:
        chosen = choose_for_restore(destination * 10000, clients, archive)
    except ConfigurationError:
        assert missing_client(archive, destination, clients) is not None
        return
    assert missing_client(archive, destination, clients) is None
    assert chosen.major >= dumped_by
    assert destination >= 17 or chosen.major < 17
    assert compression in {"none", chosen.compression}


def test_the_table_of_contents_is_read_by_a_client_as_new_as_the_dump() -> None:
    clients = [_client(14), _client(16), _client(17, compression="none")]
    assert choose_for_listing(_archive(15, "none"), clients).major == 17
    assert choose_for_listing(_archive(15, "zstd:3"), clients).major == 16
    with pytest.raises(ConfigurationError, match="client of version 18"):
        choose_for_listing(_archive(18, "none"), clients)


def test_what_is_installed_is_found_with_its_build() -> None:
    found = {one.major: one for one in find_installations()}
    # The environment of the tests has both wheels: one with zstd, one without.
    assert found[17].compression == "zstd:3"
    assert found[18].compression == "none"


def test_a_directory_on_path_that_may_not_be_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    monkeypatch.setenv("PATH", f"{closed}:{tmp_path / 'absent'}::/usr/bin")
    try:
        assert {one.major for one in find_installations()} >= {17, 18}
    finally:
        closed.chmod(0o700)


def test_a_directory_without_all_programs_is_no_client(tmp_path: Path) -> None:
    (tmp_path / "pg_dump").symlink_to("/bin/true")
    assert inspect_client(tmp_path, "path") is None


def test_programs_that_say_nothing_sensible_are_no_client(tmp_path: Path) -> None:
    for name in ("pg_dump", "pg_dumpall", "pg_restore"):
        (tmp_path / name).write_text("not a program", encoding="ascii")
        (tmp_path / name).chmod(0o700)
    assert inspect_client(tmp_path, "path") is None


def test_debians_wrapper_is_no_client(tmp_path: Path) -> None:
    wrapper = tmp_path / "pg_wrapper"
    wrapper.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 17.2'\n", encoding="ascii")
    wrapper.chmod(0o700)
    for name in ("pg_dump", "pg_dumpall", "pg_restore"):
        (tmp_path / name).symlink_to(wrapper)
    assert inspect_client(tmp_path, "path") is None


def test_programs_that_are_installed_or_replaced_meanwhile_are_seen(tmp_path: Path) -> None:
    assert inspect_client(tmp_path, "path") is None
    for version in ("14.24", "18.6"):
        for name in ("pg_dump", "pg_dumpall", "pg_restore"):
            script = f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n"
            new = tmp_path / f"{name}.new"
            new.write_text(script, encoding="utf-8")
            new.chmod(0o755)
            new.replace(tmp_path / name)
        found = inspect_client(tmp_path, "path")
        assert found is not None
        assert found.version == version
