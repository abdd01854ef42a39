"""Probes fail when, and only when, something has been dead for too long, and say what."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsg.telemetry.health import Heartbeats, Limits, liveness, readiness
from tests.telemetry.support import Clock

LIMITS = Limits(watch=180, unreachable=900, resync=1800, api=30)
REPOSITORIES = "repositories.dsg.hrdag.org"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hearts(clock: Clock) -> Heartbeats:
    return Heartbeats(clock)


def live(hearts: Heartbeats, limits: Limits = LIMITS) -> tuple[str, ...]:
    return liveness(hearts.beats(), limits).problems


def ready(hearts: Heartbeats, limits: Limits = LIMITS) -> tuple[str, ...]:
    return readiness(hearts.beats(), limits).problems


def begin(hearts: Heartbeats) -> None:
    hearts.expect(REPOSITORIES)
    hearts.watch_attempted(REPOSITORIES)
    hearts.watch_heard(REPOSITORIES)
    hearts.resync_finished()
    hearts.api_answered()


def test_a_working_operator_is_alive_and_ready(hearts: Heartbeats) -> None:
    begin(hearts)
    assert liveness(hearts.beats(), LIMITS).ok and readiness(hearts.beats(), LIMITS).ok


def test_bookmarks_keep_a_quiet_watch_alive(clock: Clock, hearts: Heartbeats) -> None:
    begin(hearts)
    for _ in range(20):
        clock.wait(60)
        hearts.watch_heard(REPOSITORIES)
    assert live(hearts) == () and ready(hearts) == ()


def test_a_silent_watch_is_dead_just_after_its_limit(clock: Clock, hearts: Heartbeats) -> None:
    begin(hearts)
    clock.wait(180)
    assert live(hearts) == ()
    clock.wait(0.5)
    assert live(hearts) == (f"the watch of {REPOSITORIES} has been silent for 180 s (limit 180 s)",)
    assert live(hearts) == ready(hearts)
    hearts.watch_heard(REPOSITORIES)
    assert live(hearts) == ()


def test_the_oldest_watch_counts(clock: Clock, hearts: Heartbeats) -> None:
    begin(hearts)
    hearts.expect("storagepools.dsg.hrdag.org")
    hearts.watch_heard("storagepools.dsg.hrdag.org")
    clock.wait(170)
    hearts.watch_heard("storagepools.dsg.hrdag.org")
    clock.wait(20)
    (problem,) = live(hearts)
    assert REPOSITORIES in problem


def test_a_watch_that_never_began_is_dead(clock: Clock, hearts: Heartbeats) -> None:
    hearts.expect(REPOSITORIES)
    clock.wait(181)
    assert live(hearts) == (f"the watch of {REPOSITORIES} never began, 181 s after it was due",)


def test_a_watch_that_keeps_trying_gets_longer_but_the_operator_is_not_ready(clock: Clock, hearts: Heartbeats) -> None:
    begin(hearts)
    for _ in range(80):
        clock.wait(10)
        hearts.watch_attempted(REPOSITORIES)
    assert live(hearts) == ()
    assert ready(hearts) == (f"the watch of {REPOSITORIES} has been trying to connect for 800 s",)
    for _ in range(11):
        clock.wait(10)
        hearts.watch_attempted(REPOSITORIES)
    assert live(hearts) == (f"the watch of {REPOSITORIES} keeps trying to connect for 910 s (limit 900 s)",)


def test_a_watch_that_stopped_trying_is_dead_soon(clock: Clock, hearts: Heartbeats) -> None:
    begin(hearts)
    clock.wait(100)
    hearts.watch_attempted(REPOSITORIES)
    clock.wait(100)
    assert live(hearts) == ()
    clock.wait(81)
    assert live(hearts) == (f"the watch of {REPOSITORIES} has been silent for 281 s (limit 180 s)",)


def test_a_watch_that_ended_on_purpose_is_not_missed(clock: Clock, hearts: Heartbeats) -> None:
    begin(hearts)
    hearts.forget(REPOSITORIES)
    clock.wait(500)
    assert live(hearts) == ()


def test_expecting_twice_does_not_reset_the_age(clock: Clock, hearts: Heartbeats) -> None:
    hearts.expect(REPOSITORIES)
    clock.wait(181)
    hearts.expect(REPOSITORIES)
    assert hearts.expected(REPOSITORIES) and live(hearts) != ()


def test_an_overdue_resync_is_dead(clock: Clock, hearts: Heartbeats) -> None:
    clock.wait(1801)
    assert live(hearts) == ("no pass over all objects has ended in the 1801 s since the start (limit 1800 s)",)
    hearts.resync_finished()
    clock.wait(1800)
    assert live(hearts) == ()
    clock.wait(1)
    assert live(hearts) == ("the last pass over all objects ended 1801 s ago (limit 1800 s)",)


def test_not_ready_before_the_first_complete_resync(clock: Clock, hearts: Heartbeats) -> None:
    waiting = ("the first pass over all objects has not ended yet",)
    assert live(hearts) == () and ready(hearts) == waiting
    hearts.resync_finished(complete=False)
    assert ready(hearts) == waiting
    hearts.resync_finished()
    assert ready(hearts) == ()
    hearts.resync_finished(complete=False)
    assert ready(hearts) == ()


def test_not_ready_while_the_api_is_unreachable_but_alive(clock: Clock, hearts: Heartbeats) -> None:
    begin(hearts)
    hearts.api_failed("ClientConnectorError")
    clock.wait(25)
    hearts.api_failed("HTTP 503")
    assert ready(hearts) == ()
    clock.wait(10)
    assert ready(hearts) == ("the Kubernetes API has been unreachable for 35 s (limit 30 s): HTTP 503",)
    assert live(hearts) == ()
    hearts.api_answered()
    assert ready(hearts) == ()


def test_a_lease_counts_only_where_there_is_one(clock: Clock, hearts: Heartbeats) -> None:
    begin(hearts)
    clock.wait(45)
    assert ready(hearts) == ()
    limits = replace(LIMITS, lease=40.0)
    assert ready(hearts, limits) == ("this node's Lease was not renewed for 45 s (limit 40 s)",)
    assert live(hearts, limits) == ()
    hearts.lease_renewed()
    assert ready(hearts, limits) == ()


def test_the_body_says_what_led_to_the_verdict(clock: Clock, hearts: Heartbeats) -> None:
    begin(hearts)
    clock.wait(200)
    body = json.loads(json.dumps(liveness(hearts.beats(), LIMITS).body))
    assert body == {
        "alive": False,
        "problems": [f"the watch of {REPOSITORIES} has been silent for 200 s (limit 180 s)"],
        "watches": {REPOSITORIES: {"ageSeconds": 200.0, "attemptAgeSeconds": 200.0}},
        "resyncAgeSeconds": 200.0,
        "leaseAgeSeconds": None,
        "apiFailingSeconds": None,
    }


actions = st.lists(
    st.tuples(
        st.sampled_from(["watch_attempted", "watch_heard", "resync", "lease", "answer", "fail"]),
        st.floats(min_value=0, max_value=400),
    ),
    max_size=30,
)


@given(actions)
def test_ready_implies_alive_and_fresh_means_well(steps: list[tuple[str, float]]) -> None:
    clock = Clock()
    hearts = Heartbeats(clock)
    hearts.expect(REPOSITORIES)
    for action, pause in steps:
        match action:
            case "resync":
                hearts.resync_finished()
            case "lease":
                hearts.lease_renewed()
            case "answer":
                hearts.api_answered()
            case "fail":
                hearts.api_failed("x")
            case _:
                getattr(hearts, action)(REPOSITORIES)
        clock.wait(pause)
        if ready(hearts) == ():
            assert live(hearts) == ()
    begin(hearts)
    assert ready(hearts) == () and live(hearts) == ()
