"""Two hands change one log at once, or one of them dies on the way: every order ends with all partitions alike.

A hand is a thread that stops before each write to the log and goes on when it is told to, so that each test walks through
every order of the writes, with the project's own code on both sides.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Semaphore, Thread
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.errors import InputRefused, ModelRefused, TocsinError, UsageError
from engine.features import FeatureSet
from engine.housekeeping import Housekeeper
from engine.instruments import Instruments
from engine.registry import Registry, rollout, signing
from engine.registry import activate as activating
from engine.registry.activate import Answer, activate, answer_name, rollback
from engine.registry.append import change, complete
from engine.registry.controls import Controls, read_controls
from engine.registry.pausing import after_pause, after_resume, paused_now
from engine.registry.rollout import Activate, Pause, Prepare, Resume
from engine.registry.staging import Staging
from engine.transports import create_log
from engine.transports.base import Log
from engine.transports.memory import MemoryLog
from engine.transports.redis import RedisLog
from engine.types import START, Cursor, Kind
from tests.engines import publish_speaking
from tests.made import speaking_bundle

PARTITIONS = 2
WRITES = 2 + PARTITIONS
"""Of one activation: `prepare`, `activate`, a copy in each partition."""


class Dead(BaseException):
    """Goes through everything that only hears errors, as a kill does."""


class Hand:
    """Somebody who writes to a log, one write per `step`."""

    def __init__(self, log: Log, work: Callable[[Any], object]) -> None:
        """work: is given the log, whose writes wait for their turn."""
        self.error: BaseException | None = None
        self.result: object = None
        self._dead = self._over = False
        self._go, self._waits = Semaphore(0), Semaphore(0)
        self._thread = Thread(target=self._run, args=(_Turns(log, self._turn), work))
        self._thread.start()
        self._waits.acquire()                      # it stands before its first write, or is done

    def _run(self, log: Any, work: Callable[[Any], object]) -> None:
        try:
            self.result = work(log)
        except (TocsinError, Dead) as error:
            self.error = error
        self._over = True
        self._waits.release()

    def _turn(self) -> None:
        self._waits.release()
        self._go.acquire()
        if self._dead:
            raise Dead

    def step(self) -> bool:
        """One write, and on until the next; False where there is none any more."""
        if self._over:
            return False
        self._go.release()
        self._waits.acquire()
        return True

    def die(self) -> None:
        """In front of its next write."""
        self._dead = True
        self.step()
        self._thread.join()

    def finish(self) -> None:
        while self.step():
            pass
        self._thread.join()


class _Turns:
    """A log whose appends wait for their turn."""

    def __init__(self, log: Log, turn: Callable[[], None]) -> None:
        self._log, self._turn = log, turn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, partition: int, payloads: list[bytes], kind: Kind) -> list[Cursor]:
        self._turn()
        return self._log.append(partition, payloads, kind)

    def append_control(self, k: int, payload: bytes) -> bool:
        self._turn()
        return self._log.append_control(k, payload)


def orders(first: int, second: int) -> Iterator[tuple[int, ...]]:
    """Every order of so many steps of hand 0 and hand 1."""
    for places in itertools.combinations(range(first + second), first):
        yield tuple(0 if n in places else 1 for n in range(first + second))


def walk(hands: list[Hand], order: tuple[int, ...]) -> None:
    for n in order:
        hands[n].step()


# ---- a log for each order

class NewLog:
    """A log that nobody has written to yet, as often as it is called."""

    def __init__(self, url: str | None, every: int) -> None:
        """url: of a Redis, None for memory. every: so many orders there is one of which is tried."""
        self.opened: list[Log] = []
        self._url, self._every = url, every

    def __call__(self) -> Log:
        if self._url is None:
            return MemoryLog(PARTITIONS)
        self.opened.append(RedisLog(self._url, prefix=f"{len(self.opened)}.", create=PARTITIONS, rules=Instruments()))
        return self.opened[-1]

    def orders(self, first: int, second: int) -> Iterator[tuple[int, ...]]:
        return itertools.islice(orders(first, second), 0, None, self._every)


@pytest.fixture(params=["memory", "redis"])
def new_log(request: pytest.FixtureRequest, redis_dir: Path) -> Iterator[NewLog]:
    if request.param == "memory":
        yield NewLog(None, 1)
        return
    server = create_log(f"redis+embedded://{redis_dir}", 1)
    assert isinstance(server, RedisLog)
    assert server._server
    new = NewLog(f"unix://{server._server.socket}", 5)
    yield new
    for log in (*new.opened, server):
        log.close()


@pytest.fixture(scope="module")
def private() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> tuple[Registry, Ed25519PrivateKey]:
    folder = tmp_path_factory.mktemp("registry")
    private, public = signing.generate(folder / "keys")
    registry, key = Registry(folder / "bundles", public), signing.load_private(private)
    for seed in range(4):
        publish_speaking(registry, key, seed)
    return registry, key


@pytest.fixture(autouse=True)
def staged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody lives in most of these: the loading of a bundle isn't what they are about."""
    monkeypatch.setattr(activating, "load_for_engine", lambda registry, features, name, digest=None: speaking_bundle())


def public_of(registry: Registry) -> Any:
    return registry.public_key()


def followed(log: Log, controls: Controls) -> list[list[rollout.Control]]:
    """What an owner of each partition follows, from its first record to its last; k rises in each slot."""
    controls.refresh()
    story: list[list[rollout.Control]] = []
    for partition in range(log.partitions):
        k: dict[str, int] = {}
        story.append([])
        for entry in log.read({partition: START}, 1000).get(partition, []):
            control = controls.check(entry, k)     # raises for a copy that doesn't hold: none of ours may
            if control is not None:
                assert control.k > k.get(control.slot, 0)
                k[control.slot] = control.k
                story[-1].append(control)
    return story


def ends(log: Log, controls: Controls, slot: str) -> list[Any]:
    """The body that holds at each partition's end; None where none came."""
    return [next((c.body for c in reversed(story) if c.slot == slot), None) for story in followed(log, controls)]


def newest(controls: Controls, slot: str) -> Any:
    held = controls.newest().get(slot)
    return held.body if held else None


# ---- two trainers

def trainer(registry: tuple[Registry, Ed25519PrivateKey], version: str) -> Callable[[Any], object]:
    return lambda log: activate(log, registry[0], registry[1], version, f"trainer of {version}", features=FeatureSet.default())


def test_two_trainers_at_once_end_alike_in_every_order(
    new_log: NewLog, registry: tuple[Registry, Ed25519PrivateKey]
) -> None:
    for order in new_log.orders(WRITES, WRITES):
        log = new_log()
        hands = [Hand(log, trainer(registry, "1")), Hand(log, trainer(registry, "2"))]
        walk(hands, order)
        for hand in hands:
            hand.finish()
            assert hand.error is None, (order, hand.error)
        controls = read_controls(log, registry[0].public_key())
        last = newest(controls, "activate")
        assert ends(log, controls, "activate") == [last] * PARTITIONS, order
        assert sorted(c.verb for c in controls.holding()) == ["activate"] * 2 + ["prepare"] * 2, order


@pytest.mark.parametrize("wrote", range(WRITES + 1))
def test_a_trainer_that_dies_anywhere_is_finished_by_the_other(
    new_log: NewLog, registry: tuple[Registry, Ed25519PrivateKey], wrote: int
) -> None:
    """It dies after so many writes; the other one writes before, between and after them."""
    for order in new_log.orders(wrote, WRITES):
        log = new_log()
        dying, lives = Hand(log, trainer(registry, "1")), Hand(log, trainer(registry, "2"))
        walk([dying, lives], order)
        dying.die()
        lives.finish()
        assert lives.error is None, order
        controls = read_controls(log, registry[0].public_key())
        before = ends(log, controls, "activate")
        complete(log, controls)                    # an engine's housekeeping, or the next who writes
        assert ends(log, controls, "activate") == [newest(controls, "activate")] * PARTITIONS, order
        if not isinstance(newest(controls, "activate"), Activate) or newest(controls, "activate").version == "2":
            assert before == [newest(controls, "activate")] * PARTITIONS, "the other's own copies stand already"


def test_a_dead_trainers_prepare_changes_nothing(new_log: NewLog, registry: tuple[Registry, Ed25519PrivateKey]) -> None:
    log = new_log()
    hand = Hand(log, trainer(registry, "1"))
    hand.step()
    hand.die()
    controls = read_controls(log, registry[0].public_key())
    complete(log, controls)
    assert [c.verb for c in controls.holding()] == ["prepare"]
    assert followed(log, controls) == [[]] * PARTITIONS


# ---- owners that join late, haven't staged, refuse

class Engine:
    """What an engine does beside its loop, one round at a time, and no ticks: it holds every partition and lives."""

    def __init__(self, log: Log, registry: Registry, name: str, load: Callable[[str, str], Any]) -> None:
        self.log, self.name = log, name
        self.controls = read_controls(log, registry.public_key())
        self.staging = Staging(load)
        self.keeper = Housekeeper(log, self.controls, self.staging, {}, name, 2**30, lambda text: None)
        self.epochs = {p: log.claim(p, name, log.ownership(p)) or 0 for p in range(log.partitions)}

    def live(self) -> None:
        for partition, epoch in self.epochs.items():
            self.log.beat(partition, epoch)


def good(version: str, digest: str) -> Any:
    return speaking_bundle(version=version)


def bad(version: str, digest: str) -> Any:
    raise ModelRefused("golden", f"bundle {version} answers otherwise here")


class Clock:
    """Stands in for waiting: what happens while somebody waits is said, and no second passes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rounds: Callable[[int], None]) -> None:
        self.now, self.round = 0, 0
        self._rounds = rounds
        monkeypatch.setattr(activating, "clock", self)

    def monotonic_ns(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)
        self.round += 1
        self._rounds(self.round)


@pytest.mark.parametrize("joins", range(0, 6))
def test_a_late_joiner_is_asked_or_finds_it_done(
    new_log: NewLog, registry: tuple[Registry, Ed25519PrivateKey], joins: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that starts while another answers: it hears the `prepare` that somebody waits for, whenever it comes."""
    log = new_log()
    early = Engine(log, registry[0], "early", good)
    late: list[Engine] = []

    def rounds(n: int) -> None:
        if n == joins + 1:                         # takes the partitions over under a name of its own
            late.append(Engine(log, registry[0], "late", good))
        for engine in late or [early]:
            engine.live()
        if n >= 4:
            for engine in late or [early]:
                engine.keeper.work()

    Clock(monkeypatch, rounds)
    done = activate(log, registry[0], registry[1], "1", "ann", features=FeatureSet.default())
    assert ("late" in done.staged_by) == bool(late)
    assert ("early" in done.staged_by) == (not late)
    body = Activate("1", registry[0].read("1").digest)
    assert ends(log, read_controls(log, registry[0].public_key()), "activate") == [body] * PARTITIONS


def test_an_owner_that_says_nothing_or_refuses_stops_it_and_the_next_goes_on(
    new_log: NewLog, registry: tuple[Registry, Ed25519PrivateKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = new_log()
    engine = Engine(log, registry[0], "one", bad)
    works = [False]

    def rounds(n: int) -> None:
        engine.live()
        if works[0]:
            engine.keeper.work()

    Clock(monkeypatch, rounds)
    with pytest.raises(TocsinError, match="engine_silent"):
        activate(log, registry[0], registry[1], "1", "ann")
    works[0] = True
    with pytest.raises(ModelRefused, match="engine_refused"):
        activate(log, registry[0], registry[1], "2", "bob")
    controls = read_controls(log, registry[0].public_key())
    assert [c.verb for c in controls.holding()] == ["prepare", "prepare"]
    assert followed(log, controls) == [[]] * PARTITIONS
    assert not log.posts(answer_name(log.deployment, controls.last, "one")), "nobody waits for it any more"
    engine.staging._load = good
    done = activate(log, registry[0], registry[1], "3", "ann")
    assert done.staged_by == ["one"]
    assert [body.version for body in ends(log, controls, "activate")] == ["3", "3"]


def test_an_answer_to_another_prepare_is_no_answer(
    new_log: NewLog, registry: tuple[Registry, Ed25519PrivateKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trainers wait at once; the engine has answered the one, and not yet the other."""
    log = new_log()
    engine = Engine(log, registry[0], "one", good)
    Clock(monkeypatch, lambda n: (engine.live(), log.post(answer_name("main", 99, "one"), msgspec.json.encode(
        Answer("one", "staged"))))[0])
    with pytest.raises(TocsinError, match="engine_silent"):
        activate(log, registry[0], registry[1], "1", "ann")


# ---- pause against resume

PAUSES = 1 + PARTITIONS
"""Writes of one: the record, a copy in each partition."""


def pausing(registry: tuple[Registry, Ed25519PrivateKey], *symbols: str) -> Callable[[Any], object]:
    def decide(seen: Controls) -> Pause:
        return after_pause(paused_now(seen), symbols, Instruments())

    return lambda log: change(log, *registry, decide, "ann", "")


def resuming(registry: tuple[Registry, Ed25519PrivateKey], *symbols: str) -> Callable[[Any], object]:
    def decide(seen: Controls) -> Resume:
        return after_resume(paused_now(seen), symbols, Instruments())

    return lambda log: change(log, *registry, decide, "bob", "")


@pytest.mark.parametrize(("mine", "theirs", "ends_as"), [
    (("pause", "A"), ("pause", "B"), {("A", "B"), ("B", "A")}),
    (("pause", "A"), ("resume",), {("A",), ()}),
    (("pause", "A"), ("resume", "X"), {("A",)}),
    (("resume", "X"), ("resume",), {()}),
], ids=["two pauses", "pause, resume all", "pause, resume another", "resume, resume all"])
def test_pause_and_resume_by_two_hands_lose_nothing(
    new_log: NewLog, registry: tuple[Registry, Ed25519PrivateKey], mine: tuple[str, ...], theirs: tuple[str, ...],
    ends_as: set[tuple[str, ...]],
) -> None:
    """X is paused before. In every order, and for every place at which one of them dies."""
    verbs = {"pause": pausing, "resume": resuming}
    seen = set()
    for dies in (None, 0, 1, 2):
        for order in new_log.orders(PAUSES if dies is None else dies, PAUSES):
            log = new_log()
            change(log, *registry, lambda now: Pause(["X"]), "ann", "")
            hands = [Hand(log, verbs[verb](registry, *symbols)) for verb, *symbols in (mine, theirs)]
            walk(hands, order)
            if dies is None:
                hands[0].finish()
            else:
                hands[0].die()
            hands[1].finish()
            for hand in hands:                     # `resume X` after all was resumed has nothing to resume
                assert hand.error is None or isinstance(hand.error, Dead) or hand.error.code == "not_paused"
            controls = read_controls(log, registry[0].public_key())
            complete(log, controls)
            held = ends(log, controls, "pause")
            assert [body.symbols for body in held] == [paused_now(controls)] * PARTITIONS, (dies, order)
            if dies is None:
                seen.add(tuple(name for name in paused_now(controls) if name != "X"))
    assert seen == ends_as, "each of the ends is met in some order, and no other"


def test_settings_pauses_and_activations_pass_each_other_by(
    new_log: NewLog, registry: tuple[Registry, Ed25519PrivateKey]
) -> None:
    """Of different slots: the later record of the one never hides the earlier one of the other."""
    for order in new_log.orders(WRITES, PAUSES):
        log = new_log()
        hands = [Hand(log, trainer(registry, "1")), Hand(log, pausing(registry, "A"))]
        walk(hands, order)
        for hand in hands:
            hand.finish()
            assert hand.error is None
        controls = read_controls(log, registry[0].public_key())
        assert [body.version for body in ends(log, controls, "activate")] == ["1", "1"], order
        assert [body.symbols for body in ends(log, controls, "pause")] == [["A"], ["A"]], order


# ---- back again

def test_a_rollback_takes_back_what_it_saw_and_nothing_newer(
    new_log: NewLog, registry: tuple[Registry, Ed25519PrivateKey]
) -> None:
    """Against a trainer: in every order either the rollback came first and the trainer's bundle answers, or it says so."""
    met = set()
    for order in new_log.orders(WRITES, WRITES):
        log = new_log()
        for version in ("1", "2"):
            trainer(registry, version)(log)
        hands = [Hand(log, lambda turns: rollback(turns, *registry, "ann")), Hand(log, trainer(registry, "3"))]
        walk(hands, order)
        for hand in hands:
            hand.finish()
        controls = read_controls(log, registry[0].public_key())
        assert hands[1].error is None
        assert [body.version for body in ends(log, controls, "activate")] == ["3", "3"], order
        error = hands[0].error
        assert error is None or (isinstance(error, UsageError) and error.code == "overtaken"), order
        met.add(error is None)
    assert met == {True, False}


def test_two_who_roll_back_at_once_go_one_back(new_log: NewLog, registry: tuple[Registry, Ed25519PrivateKey]) -> None:
    for order in new_log.orders(WRITES, WRITES):
        log = new_log()
        for version in ("1", "2", "3"):
            trainer(registry, version)(log)
        hands = [Hand(log, lambda turns: rollback(turns, *registry, "ann")) for _ in range(2)]
        walk(hands, order)
        for hand in hands:
            hand.finish()
        controls = read_controls(log, registry[0].public_key())
        assert [body.version for body in ends(log, controls, "activate")] == ["2", "2"], order
        assert sum(hand.error is None for hand in hands) == 1, order


def test_forged_copies_between_the_steps_change_nothing(
    new_log: NewLog, registry: tuple[Registry, Ed25519PrivateKey]
) -> None:
    """Somebody without the key writes a copy of his own before every write of ours."""
    log = new_log()
    forged = rollout.make(9, log.identity, "main", Prepare("9", "0" * 64), "eve", "", "e" * 32, lambda message: b"no")
    hand = Hand(log, trainer(registry, "1"))
    while hand.step():
        log.append(0, [forged], Kind.CONTROL)
    controls = read_controls(log, registry[0].public_key())
    refused = 0
    for entry in log.read({0: START}, 100)[0]:
        try:
            controls.check(entry, {})
        except InputRefused:
            refused += 1
    assert refused == WRITES
    assert newest(controls, "activate").version == "1"
