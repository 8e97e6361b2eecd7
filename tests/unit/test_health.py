"""Alive and ready: each reason by itself; and a loop beside the main one that dies."""

from __future__ import annotations

import time
from typing import Any

import pytest

from engine.errors import EXIT_FAILED, EXIT_OWNERSHIP, OwnershipLost, TocsinError, TransportUnreachable
from engine.watch.health import FAR_BEHIND_S, STUCK_S, Facts, Vitals, Work, health, readiness, started
from engine.watch.supervise import Loop

NOW = 1_000_000_000_000
LIVES = Vitals(NOW - 50_000_000)
ANSWERS = Work(0, "7", k=3, lag_records=0, lag_ticks=0.0, lag_s=0.0)


def ready(vitals: Vitals = LIVES, warm_share: float | None = 1.0, **change: Any) -> tuple[bool, str]:
    verdict = readiness(Facts(vitals, (ANSWERS, ANSWERS._replace(partition=2, **change)), warm_share), NOW)
    return verdict.ok, verdict.reason


def test_what_lives() -> None:
    assert health(Vitals(None), NOW)[:2] == (True, "starting")
    assert health(LIVES, NOW) == (True, "running", {"seconds_since_turn": 0.05})


def test_a_loop_that_stands_still_is_stuck() -> None:
    still = Vitals(NOW - int(STUCK_S * 1e9))
    assert health(still, NOW).ok
    assert health(still, NOW + 1)[:2] == (False, "stuck")


def test_a_dead_loop_is_said_before_all_else() -> None:
    assert health(Vitals(None, ("housekeeping: OSError: no room",)), NOW) == (
        False, "a loop died", {"loops": ["housekeeping: OSError: no room"]}
    )
    assert ready(Vitals(NOW, ("housekeeping: OSError: no room",)), waits_for="8") == (False, "a loop died")


def test_a_loop_that_lost_the_log_for_a_while_is_no_dead_one() -> None:
    def fails(code: str) -> Loop:
        def work() -> None:
            raise TransportUnreachable(code, "nobody answers")

        loop = Loop("housekeeping", work, 0.01)
        loop.start()
        while loop.alive:
            time.sleep(0.001)
        return loop

    assert fails("timeout").death is None
    assert fails("identity").death == "housekeeping: nobody answers"
    with pytest.raises(TransportUnreachable):
        fails("timeout").check()


def test_ready() -> None:
    told = {"bundle": "7", "k": 3, "lag_records": 0, "lag_seconds": 0.0, "paused": [], "paused_symbols": 0}
    assert readiness(Facts(LIVES, (ANSWERS,), 0.5), NOW) == (True, "ready", {"warm_share": 0.5, "partitions": {0: told}})


def test_a_log_out_of_reach_is_said_before_what_it_leads_to() -> None:
    """Nobody is to be started anew for it: alive, and not ready."""
    verdict = readiness(Facts(LIVES, (), None, outage="nobody answers"), NOW)
    assert verdict[:2] == (False, "no log: nobody answers")
    assert "by itself" in verdict.details["hint"]


def test_who_is_paused_is_ready_and_says_so() -> None:
    """Nothing is to be mended, and nobody is to be started anew."""
    paused = ANSWERS._replace(paused=("*JPY",), paused_symbols=2)
    verdict = readiness(Facts(LIVES, (paused,), 0.5), NOW)
    assert verdict[:2] == (True, "ready")
    assert {key: verdict.details["partitions"][0][key] for key in ("paused", "paused_symbols")} == {
        "paused": ["*JPY"], "paused_symbols": 2,
    }


@pytest.mark.parametrize(("change", "reason"), [
    ({"vitals": Vitals(None)}, "starting"),
    ({"vitals": Vitals(0)}, "stuck"),
    ({"waits_for": "8"}, "paused: partition 2 waits for bundle 8"),
    ({"bundle": None}, "no bundle"),
    ({"warm_share": 0.0}, "warming"),
    ({"lag_s": FAR_BEHIND_S + 0.1}, "far behind: partition 2"),
    ({"full": "its ticks take 9 MB", "lag_s": 99.0}, "log full: partition 2"),
    ({"full": "its ticks take 9 MB", "held_by": "hold.recorder.x"}, "log full: partition 2, held by hold.recorder.x"),
    ({"held_by": "hold.recorder.x"}, "log over its quota: partition 2, held by hold.recorder.x"),
])
def test_not_ready_and_why(change: dict[str, Any], reason: str) -> None:
    assert ready(**change) == (False, reason)


def test_an_engine_that_stands_by_is_not_ready() -> None:
    assert readiness(Facts(LIVES), NOW)[:2] == (False, "no partition owned")


def test_what_nobody_knows_is_no_reason() -> None:
    """No tick since the start (a weekend), and a log that doesn't stamp its records."""
    assert ready(warm_share=None, lag_s=None, lag_records=None) == (True, "ready")
    assert ready(lag_s=FAR_BEHIND_S) == (True, "ready")


def test_the_way_out_stands_with_the_reason() -> None:
    for change in ({"bundle": None}, {"waits_for": "8"}, {"lag_s": 99.0}, {"held_by": "x"}, {"full": "why"}):
        assert readiness(Facts(LIVES, (ANSWERS._replace(**change),), 1.0), NOW).details["hint"]
    assert "models activate" in readiness(Facts(LIVES, (ANSWERS._replace(bundle=None),), 1.0), NOW).details["hint"]


def test_a_process_that_waits_for_nobody_is_ready_once_it_runs() -> None:
    assert started(Vitals(None), NOW)[:2] == (False, "starting")
    assert started(LIVES, NOW)[:2] == (True, "running")
    assert not started(Vitals(0), NOW).ok


# ---- loops


def waited(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_loop_goes_on_until_it_is_stopped() -> None:
    rounds: list[int] = []
    loop = Loop("counting", lambda: rounds.append(1), 0.001)
    assert not loop.alive
    loop.start()
    waited(lambda: len(rounds) > 3)
    assert loop.alive
    loop.check()
    loop.stop()
    assert not loop.alive
    assert loop.death is None
    loop.check()
    after = len(rounds)
    time.sleep(0.01)
    assert len(rounds) == after


@pytest.mark.parametrize("death", [ValueError("no room"), SystemExit("no room")])
def test_a_dead_loop_is_raised_where_it_is_asked_for(death: BaseException) -> None:
    def die() -> None:
        raise death

    loop = Loop("housekeeping", die, 60.0)
    loop.start()
    waited(lambda: loop.death)
    assert not loop.alive
    assert loop.death == f"housekeeping: {type(death).__name__}: no room"
    with pytest.raises(TocsinError, match=f"the housekeeping loop died: {type(death).__name__}: no room") as raised:
        loop.check()
    assert (raised.value.code, raised.value.exit) == ("loop_died", EXIT_FAILED)
    assert not health(Vitals(NOW, (loop.death,)), NOW).ok


def test_our_own_errors_keep_their_exit_code() -> None:
    """OwnershipLost must stay exit 7: whoever restarts on 1 would fight with the new owner."""

    def die() -> None:
        raise OwnershipLost("owner", "partition 3 has another owner")

    loop = Loop("housekeeping", die, 60.0)
    loop.start()
    waited(lambda: loop.death)
    assert loop.death == "housekeeping: partition 3 has another owner"
    with pytest.raises(OwnershipLost) as raised:
        loop.check()
    assert raised.value.exit == EXIT_OWNERSHIP
