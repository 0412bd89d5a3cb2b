"""How members are divided into packs."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, strategies as st

from pgben_tasks.domain.documents import Member, Pack
from pgben_tasks.domain.packing import (
    EarlyPlan,
    FinishedFile,
    PackPlan,
    early_plans,
    pack_plans,
    tar_size,
)
from tests.support.samples import BACKUP, TARGET

LIMIT = 64 * 1024
NO_DIGEST = "0" * 64

members_of_any_size = st.lists(
    st.integers(min_value=0, max_value=3 * LIMIT), min_size=1, max_size=60
).map(
    lambda sizes: [
        Member(name=f"{number}.dat", size=size, sha256=NO_DIGEST)
        for number, size in enumerate(sizes)
    ]
)


def plans(members: list[Member], *, pack_size: int = LIMIT) -> tuple[PackPlan, ...]:
    return pack_plans(TARGET, BACKUP, members, compressed=False, sealed=True, pack_size=pack_size)


@given(members=members_of_any_size)
def test_every_member_is_in_exactly_one_pack(members: list[Member]) -> None:
    packed = [member for plan in plans(members) for member in plan.members]
    assert sorted(packed, key=lambda one: one.name) == sorted(members, key=lambda one: one.name)


@given(members=members_of_any_size)
def test_shared_packs_stay_within_the_size_and_large_members_stand_alone(
    members: list[Member],
) -> None:
    for plan in plans(members):
        if len(plan.members) > 1:
            assert sum(map(tar_size, plan.members)) <= LIMIT
            assert all(member.size < LIMIT for member in plan.members)


@given(members=members_of_any_size, seed=st.integers())
def test_the_order_of_the_members_changes_nothing(members: list[Member], seed: int) -> None:
    shuffled = list(members)
    random.Random(seed).shuffle(shuffled)
    assert plans(shuffled) == plans(members)


@given(members=members_of_any_size)
def test_packs_are_numbered_from_one_under_paths_that_the_format_takes(
    members: list[Member],
) -> None:
    for number, plan in enumerate(plans(members), start=1):
        assert plan.path == f"packs/{TARGET}/{BACKUP}/{number}.tar.age"
        Pack(path=plan.path, size=0, sha256=NO_DIGEST, members=plan.members)


def test_the_largest_members_come_first() -> None:
    sizes = (LIMIT, 5, 3 * LIMIT, 7, 2 * LIMIT)
    members = [
        Member(name=str(number), size=size, sha256=NO_DIGEST) for number, size in enumerate(sizes)
    ]
    groups = [[member.size for member in plan.members] for plan in plans(members)]
    assert groups == [[3 * LIMIT], [2 * LIMIT], [LIMIT], [5, 7]]


@pytest.mark.parametrize(
    ("compressed", "sealed", "suffix"),
    [
        (False, False, ".tar"),
        (True, False, ".tar.zst"),
        (False, True, ".tar.age"),
        (True, True, ".tar.zst.age"),
    ],
)
def test_suffixes_are_true(compressed: bool, sealed: bool, suffix: str) -> None:
    one = Member(name="a", size=1, sha256=NO_DIGEST)
    (plan,) = pack_plans(
        TARGET, BACKUP, [one], compressed=compressed, sealed=sealed, pack_size=LIMIT
    )
    assert plan.path.endswith(f"/1{suffix}")
    pack = Pack(path=plan.path, size=0, sha256=NO_DIGEST, members=plan.members)
    assert (pack.compressed, pack.sealed) == (compressed, sealed)


def test_two_members_of_one_name_are_refused() -> None:
    one = Member(name="a", size=1, sha256=NO_DIGEST)
    with pytest.raises(ValueError, match="one name"):
        plans([one, one])


def test_a_pack_size_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="holds nothing"):
        plans([], pack_size=0)


def test_no_members_make_no_packs() -> None:
    assert plans([]) == ()


# Packs of files that are finished while others are still written

files_of_any_size = st.lists(
    st.integers(min_value=0, max_value=3 * LIMIT), min_size=0, max_size=60
).map(
    lambda sizes: [
        FinishedFile(name=f"{number}.dat", size=size) for number, size in enumerate(sizes)
    ]
)


def early(files: list[FinishedFile], *, early_size: int, first: int = 1) -> tuple[EarlyPlan, ...]:
    return early_plans(
        TARGET,
        BACKUP,
        files,
        compressed=False,
        sealed=True,
        pack_size=LIMIT,
        early_size=early_size,
        first=first,
    )


@given(files=files_of_any_size, early_size=st.integers(min_value=0, max_value=4 * LIMIT))
def test_files_wait_until_there_are_enough_and_then_all_are_packed(
    files: list[FinishedFile], early_size: int
) -> None:
    packed = [file for plan in early(files, early_size=early_size) for file in plan.files]
    if sum(file.size for file in files) < early_size:
        assert packed == []
    else:
        assert sorted(packed, key=lambda one: one.name) == sorted(files, key=lambda one: one.name)


@given(files=files_of_any_size)
def test_early_packs_are_divided_like_the_others(files: list[FinishedFile]) -> None:
    members = [Member(name=file.name, size=file.size, sha256=NO_DIGEST) for file in files]
    late = [(plan.path, [one.name for one in plan.members]) for plan in plans(members)]
    assert [(p.path, [one.name for one in p.files]) for p in early(files, early_size=0)] == late


def test_packs_are_numbered_from_where_the_early_ones_end() -> None:
    files = [FinishedFile(name=str(number), size=LIMIT) for number in range(3)]
    numbers = [plan.path.rpartition("/")[2] for plan in early(files, early_size=1, first=5)]
    assert numbers == ["5.tar.age", "6.tar.age", "7.tar.age"]
    one = Member(name="a", size=1, sha256=NO_DIGEST)
    (plan,) = pack_plans(
        TARGET, BACKUP, [one], compressed=False, sealed=True, pack_size=LIMIT, first=8
    )
    assert plan.path.endswith("/8.tar.age")
