"""Claims: of two repositories that overlap, the older one has the place."""

from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from dsg.api.repository import Repository
from dsg.api.rules import overlap
from dsg.reconcile.claims import Claimant, overlaps, places
from tests.reconcile.specs import repository

COMPONENT = st.sampled_from(["a", "b", "ab", "c"])
PATH = st.lists(COMPONENT, min_size=1, max_size=3).map("/".join)


def claimant(number: int, dataset: str, mountpoint: str) -> Claimant:
    raw = copy.deepcopy(repository(f"r{number}", dataset=f"tank/{dataset}", mountpoint=f"/srv/{mountpoint}"))
    return Claimant(
        f"ns/r{number}", f"uid-{number}", f"2026-01-01T00:00:{number:02}Z", Repository.model_validate(raw).spec
    )


@given(st.lists(st.tuples(PATH, PATH), max_size=8), st.randoms(use_true_random=False))
def test_admitted_repositories_never_overlap_and_everyone_late_overlaps_an_older_one(
    wanted: list[tuple[str, str]], shuffle: object
) -> None:
    claimants = [claimant(i, dataset, mountpoint) for i, (dataset, mountpoint) in enumerate(wanted)]
    shuffled = list(claimants)
    shuffle.shuffle(shuffled)  # type: ignore[attr-defined]
    late = overlaps(shuffled)

    def collide(one: Claimant, other: Claimant) -> bool:
        return any(
            space == other_space and overlap(path, other_path)
            for space, path in places(one.spec)
            for other_space, other_path in places(other.spec)
        )

    admitted: list[Claimant] = []
    for one in claimants:
        collides = [other.identity for other in admitted if collide(one, other)]
        assert (one.identity in late) == bool(collides)
        if collides:
            assert late[one.identity].holder in collides
        else:
            admitted.append(one)


def test_the_tie_of_two_created_in_the_same_second_is_broken_by_uid() -> None:
    first = claimant(1, "a", "a")
    second = Claimant("ns/other", "uid-0", first.since, first.spec)
    assert set(overlaps([first, second])) == {"ns/r1"}
