"""What is paused is a list that one slot of records carries whole; a paused symbol is asked as ever, and named no side."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.errors import UsageError
from engine.instruments import Instruments
from engine.partition.checkpoint import Checkpoints
from engine.partition.state import Partition
from engine.partition.takeover import take_over
from engine.registry.controls import read_controls
from engine.registry.follow import Change
from engine.registry.pausing import after_pause, after_resume, is_paused, paused_by, paused_now
from engine.registry.rollout import Activate, Body, Control, Pause, Resume
from engine.transports.memory import MemoryLog
from engine.types import NOWHERE, REASONS, START, Kind, Reason
from engine.wire.records import Decisions
from engine.wire.ticks import decode, encode
from tests.made import made_ticks, speaking_bundle, write

RULES = Instruments({"EURUSD": {"aliases": ["EURUSD.r"]}})


def control(k: int, body: Body) -> Control:
    return Control(k, "main", body.verb, body, "ann", "", "", b"")


# ---- the list

@pytest.mark.parametrize(("paused", "asked", "then"), [
    ([], [], ["*"]), ([], ["EURUSD"], ["EURUSD"]), (["GBPUSD"], ["EURUSD", "*JPY"], ["GBPUSD", "EURUSD", "*JPY"]),
    (["EURUSD"], ["EURUSD"], ["EURUSD"]), ([], ["EURUSD.r", "EURUSD"], ["EURUSD"]), (["*"], ["EURUSD"], ["*", "EURUSD"]),
])
def test_pause_adds(paused: list[str], asked: list[str], then: list[str]) -> None:
    assert after_pause(paused, asked, RULES) == Pause(then)


@pytest.mark.parametrize(("paused", "asked", "then"), [
    (["*", "EURUSD"], [], []), ([], [], []), (["EURUSD", "*JPY"], ["EURUSD"], ["*JPY"]), (["EURUSD"], ["EURUSD.r"], []),
    (["EURUSD", "EURJPY", "GBPUSD"], ["EUR*"], ["GBPUSD"]), (["[ab]", "x"], ["[ab]"], ["x"]), (["*JPY", "*"], ["*"], []),
    (["EURUSD"], ["EURUSD", "EUR*"], []),
])
def test_resume_takes_away(paused: list[str], asked: list[str], then: list[str]) -> None:
    assert after_resume(paused, asked, RULES) == Resume(then)


@pytest.mark.parametrize(("paused", "asked", "says"), [
    ([], ["EURUSD"], "isn't paused"), (["GBPUSD"], ["EURUSD"], "GBPUSD"), (["*"], ["EURUSD"], "tocsin resume '*'"),
])
def test_what_isnt_paused_alone_cant_be_resumed_alone(paused: list[str], asked: list[str], says: str) -> None:
    with pytest.raises(UsageError, match="not_paused") as refused:
        after_resume(paused, asked, RULES)
    assert says in str(refused.value)


@pytest.mark.parametrize("name", ["", "x" * 65, "EUR\nUSD"])
def test_what_cant_be_a_symbol_is_refused(name: str) -> None:
    for after in (after_pause, after_resume):
        with pytest.raises(UsageError, match="can't be a symbol"):
            after([], [name], RULES)


def test_who_paused_it_is_who_began() -> None:
    history = [control(2, Pause(["EURUSD"])), control(3, Resume([])), control(4, Pause(["EUR*"])),
               control(5, Pause(["EUR*", "GBPUSD"])), control(6, Resume(["EUR*"]))]
    found = paused_by("EURUSD", history)
    assert found
    assert found.k == 4
    assert paused_by("GBPUSD", history) is None
    assert paused_by("USDJPY", history) is None


# ---- one slot

def test_a_late_copy_of_one_verb_never_overrules_the_other() -> None:
    """Copies of a pause, a resume and a pause, in every order and with one repeated: each partition ends alike."""
    log, private = MemoryLog(1), Ed25519PrivateKey.generate()
    bodies: list[Body] = [Pause(["EURUSD"]), Resume([]), Pause(["GBPUSD"])]
    records = [write(log, private, body)[1] for body in bodies]
    controls = read_controls(log, private.public_key())
    assert paused_now(controls) == ["GBPUSD"]
    assert [c.k for c in controls.due()] == [4]
    for order in [*permutations(range(3)), *product(range(3), repeat=4)]:
        if set(order) != {0, 1, 2}:
            continue
        followed: dict[str, int] = {}
        paused: list[str] = []
        for n in order:
            cursor = log.append(0, [records[n]], Kind.CONTROL)[0]
            entry = log.entry(0, cursor)
            assert entry
            found = controls.check(entry, followed)
            if found is not None:
                assert isinstance(found.body, Pause | Resume)
                followed[found.slot] = found.k
                paused = found.body.symbols
        assert (followed, paused) == ({"pause": 4}, ["GBPUSD"]), order


# ---- what a partition makes of it

def decide(pauses: dict[int, list[str]], n: int = 3000, step: int = 100) -> tuple[Partition, list[Decisions]]:
    """n ticks of three symbols through one partition, `step` at a time; pauses: what is paused from these ticks on."""
    ticks = made_ticks(n, symbols=3, rate=0.02, flaws=False)
    part = Partition(0, 1, Instruments())
    part.follow(Change(control(1, Activate("1", "0" * 64)), speaking_bundle("tick")))
    log = MemoryLog(1)
    log.append(0, [encode(ticks, row) for row in range(n)])
    done = []
    for first in range(0, n, step):
        if first in pauses:
            part.follow(Change(control(first + 2, Pause(pauses[first])), None))
        entries = log.read({0: (0, first)}, step)[0]
        batch, _ = decode(entries, part.symbols)
        taken, _ = part.admit(batch)
        asked = part.pick(taken, part.features.update(taken))
        part.add(taken, asked, [], entries, (1, 1))
        cut = part.cut()
        assert cut
        assert cut.asked
        assert cut.bundle
        cut.votes = cut.bundle.ensemble.raw(cut.asked.matrix)
        decisions = part.decide(cut)
        assert decisions
        done.append(decisions)
    return part, done


def test_a_paused_symbol_is_asked_and_named_no_side() -> None:
    _, free = decide({})
    part, held = decide({1500: ["MADE1", "M*2"], 2500: []})
    for n, (one, other) in enumerate(zip(free, held, strict=True)):
        for name in ("probabilities", "votes", "nth", "horizon"):
            assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), "asked as ever"
        names = [one.ticks.symbol(row) for row in range(len(one.ticks))]
        paused = np.array([1500 <= n * 100 < 2500 and name != "MADE0" for name in names])
        assert ((other.reason == Reason.PAUSED) == paused).all()
        assert (other.side[paused] == 0).all()
        if not paused.any():
            continue
        assert (one.reason[~paused] == other.reason[~paused]).all()
        assert (one.side[~paused] == other.side[~paused]).all()
    assert part.paused == ()
    assert {REASONS[reason] for reason in held[-1].reason.tolist()} != {"paused"}
    assert (part.known_paused, part.followed) == (0, {"activate": 1, "pause": 2502})


def test_a_symbol_that_comes_while_all_are_paused_is_paused() -> None:
    part, done = decide({0: ["*"]}, n=300, step=10)
    assert len(part.symbols) == 3
    assert part.known_paused == 3
    assert all((each.reason == Reason.PAUSED).all() for each in done)


def test_what_was_paused_is_in_the_checkpoint() -> None:
    part, _ = decide({100: ["MADE1"]}, n=300)
    log = MemoryLog(1)
    cursors = log.append(0, [b"x"] * 300)
    epoch = log.claim(0, "one", log.ownership(0))
    assert epoch == part.epoch == 1
    checkpoints = Checkpoints(log, lambda: 0)
    part.active = part.bundle = None               # not what this is about
    image = part.cut(keep=True)
    assert image
    log.publish(0, 1, [], checkpoints.stage(part, image, NOWHERE))
    restored = take_over(0, 1, log, checkpoints, lambda version, digest: speaking_bundle(), lambda number: None)
    assert (restored.paused, restored.known_paused) == (("MADE1",), 1)
    assert restored.upto == cursors[-1] > START
    assert is_paused("MADE1", restored.paused)
