"""`tocsin run trainer`: a supervisor of two children, one that records the log, one that trains when it is time.

The supervisor itself computes nothing and loads no training library. Either child may crash or be killed without harm:
the recorder goes on from its last commit, a training that died made nothing, or a bundle that nobody activated.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from contextlib import ExitStack
from ctypes import c_uint64
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from engine import clock
from engine.config import Config
from engine.errors import TocsinError
from engine.outage import PASSING
from engine.registry import decisions, signing
from engine.registry.append import complete
from engine.registry.controls import read_controls
from engine.registry.decisions import Decision
from engine.registry.settings import check_file
from engine.registry.store import Registry
from engine.transports import open_log
from engine.transports.base import Log
from engine.watch.http import serve
from engine.watch.logs import configure
from engine.watch.metrics import TrainerCollector, registry
from engine.watch.training import TrainerObserver

from .experts import chosen
from .family import end_with_parent, tell
from .lake import read_status
from .schedule import schedule

log = logging.getLogger("tocsin")

ROUND_S = 0.1
LOOK_S = 1.0
TOO_OFTEN, WITHIN_S = 4, 60.0
"""A recorder that dies so many times within so long isn't started again."""
QUIET_S = 15.0
"""A recorder says every ten seconds how far it is: after so long without a word it counts as behind."""
HANG_S = 60.0
"""One that did nothing for so long, not even one file of a long commit, counts as dead."""
STOOD_S = 5.0
"""Where the service itself stood still for so long, it can't tell whether the recorder did."""
RETRY_S = 60.0
"""After a training that found too few events the next comes no later than this."""
TRAIN_NOW = "train-now"
"""A file of this name in HOME asks for a training and is taken away when one starts."""


class Service:
    """One trainer service: `Service(config).run(stop)`."""

    def __init__(self, config: Config, as_json: bool = False) -> None:
        """as_json: how log lines are written.

        Raises UsageError (schedule, experts, keys, a file that differs from the log's settings), TransportUnreachable.
        """
        self.config = config
        self._as_json = as_json
        self.seen = TrainerObserver(config.name, config.log.deployment)
        self.registry = Registry(config.registry_path, config.trust_path)
        self.private = signing.load_private(config.keys_path / signing.PRIVATE)
        self.registry.check_pair(self.private)
        self._next = schedule(config.trainer.every)
        chosen(config.trainer.experts)
        self.log: Log = open_log(config.url, deployment=config.log.deployment, create=config.log.partitions, rules=config.rules())
        check_file(config.rules(), self.log, read_controls(self.log, self.registry.public_key()))
        self.training: _Child | None = None
        self.recorder: _Child | None = None
        self._hurry, self._pulse = _Bell(), _Bell()
        self._recording = False
        """Whether the recorder has shown that the lake is ours: before that nothing is trained."""
        self._trigger = self._asked_by = ""
        self._next_look = 0.0
        self._turned = time.monotonic()
        self._deaths: deque[float] = deque(maxlen=TOO_OFTEN)

    def run(self, stop: Callable[[], bool], ready: Callable[[], None] = lambda: None) -> None:
        """Until `stop` says so. Raises TocsinError `recorder_died` when the recorder can't be kept alive."""
        signal.signal(signal.SIGUSR1, self._asked)
        # whoever trained before us may have died half way
        complete(self.log, read_controls(self.log, self.registry.public_key()))
        last = self._last_start()
        due = self._next(last, datetime.now(UTC))
        exporter = serve(
            self.config.trainer.listen, "trainer", registry(TrainerCollector(self.seen)), self.seen.health, self.seen.ready
        )
        ready()
        try:
            while not stop():
                self.seen.turned()
                self._look()
                self._keep_recording()
                now = datetime.now(UTC)
                trigger = self._due(due, now) if self._recording else ""
                if trigger and self.training is None:
                    log.info("training starts (%s)", trigger)
                    self._asked_by = trigger
                    self.training = _Child(_train, self._as_json, self.config, trigger, self._hurry)
                    self.seen.run_started()
                    due = self._next(now, now)
                if self.training and (outcome := self.training.outcome()):
                    seconds, self.training = self.training.seconds, None
                    due = self._trained(outcome, seconds, due)
                time.sleep(ROUND_S)
        finally:
            for child in (self.training, self.recorder):
                if child:
                    child.end()
            if exporter:
                exporter.close()

    def close(self) -> None:
        self.log.close()

    # ---- when

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self._trigger = "signal"

    def _due(self, due: datetime | None, now: datetime) -> str:
        """What asks for a training now; empty if nothing does. A request made during a training waits for its end."""
        if self.training is not None:
            return ""
        file = self.config.home_path / TRAIN_NOW
        if file.exists():
            file.unlink(missing_ok=True)
            return "file"
        trigger, self._trigger = self._trigger, ""
        return trigger or ("schedule" if due is not None and now >= due else "")

    def _last_start(self) -> datetime | None:
        """When this deployment's last training began, as far as the registry's decisions tell."""
        kept = [decisions.decision(self.registry, about) for about in (*self.registry.versions(), decisions.FAILED)]
        return max((
            datetime.fromisoformat(found.at) - timedelta(seconds=found.seconds)
            for found in kept if found and found.deployment == self.config.log.deployment
        ), default=None)

    def _trained(self, outcome: _Outcome, seconds: float, due: datetime | None) -> datetime | None:
        """Say what became of a training; when the next is due."""
        decision = outcome.decision
        self.seen.run_ended(_word(outcome), seconds, decision is not None)
        if decision is not None:
            log.info("bundle %s %s after %.1f s: %s", decision.about, "activated" if decision.activated else "not activated",
                     decision.seconds, decision.why)
            return due
        log.error("training failed: %s", outcome.error)
        self._keep_failure(outcome.error, seconds)
        if due is None or not outcome.too_little:
            return due
        return min(due, datetime.fromtimestamp(time.time() + RETRY_S, UTC))

    def _keep_failure(self, why: str, seconds: float) -> None:
        """So that `models list` tells of it."""
        failed = Decision(
            decisions.FAILED, clock.stamp(), self.config.log.deployment, self._asked_by, self.config.trainer.activate, False,
            False, why, round(seconds, 3),
        )
        try:
            decisions.keep(self.registry, failed, self.private)
        except OSError as error:
            log.error("%s can't be written: %s", self.registry.folder, error.strerror or error)

    def _look(self) -> None:
        """Once a second: how far the recorder is, and what is kept."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_S
        self.seen.bundles = len(self.registry.versions())
        status = read_status(self.config.lake_path)
        if status:
            self.seen.recorded = Counter(status.verdicts)
            self.seen.lake_bytes = status.bytes
            self.seen.recorder_lag_s = status.lag_s + max(0.0, (clock.wall_ns() - status.at) / 1e9 - QUIET_S)

    # ---- the recorder

    def _keep_recording(self) -> None:
        if self.recorder is None:
            self.recorder = _Child(_record, self._as_json, self.config, self._hurry, self._pulse)
            return
        outcome = self.recorder.outcome()
        last, self._turned = self._turned, time.monotonic()
        rung = self._pulse.rung()
        self._recording = self._recording or rung
        if rung or self._turned - last > STOOD_S:
            self.recorder.heard()
        if outcome is None:
            if self.recorder.silent_s > HANG_S:
                log.error("the recorder has said nothing for %.0f s: it is killed", self.recorder.silent_s)
                self.recorder.kill()
            return
        self.recorder, self._recording = None, False
        self._deaths.append(time.monotonic())
        if outcome.fatal or (len(self._deaths) == TOO_OFTEN and self._deaths[-1] - self._deaths[0] < WITHIN_S):
            raise TocsinError("recorder_died", f"the recorder can't be kept alive: {outcome.error}",
                              hint="mend what it names; it goes on from its last commit, and no tick is trimmed meanwhile")
        log.error("the recorder died (%s); it is started again", outcome.error)


class _Bell:
    """`ring` in one process makes `rung` true once in another. No lock, so that both may be killed at any moment."""

    def __init__(self) -> None:
        self._rings = multiprocessing.get_context("spawn").RawValue(c_uint64)
        self._heard = 0

    def ring(self) -> None:
        """One process at a time."""
        self._rings.value += 1

    def rung(self) -> bool:
        """Whether anybody rang since the last call."""
        heard, self._heard = self._heard, self._rings.value
        return heard != self._heard


class _Outcome:
    """How a child ended."""

    def __init__(self, decision: Decision | None, error: str, *, too_little: bool = False, fatal: bool = False,
                 died: bool = False) -> None:
        self.decision = decision
        self.error = error
        self.too_little = too_little
        self.died = died
        """It said nothing: it was killed, or crashed."""
        self.fatal = fatal
        """It says itself that starting it again is of no use."""


def _word(outcome: _Outcome) -> str:
    """For the counter of runs."""
    if outcome.decision is not None:
        return "activated" if outcome.decision.activated else "kept"
    if outcome.died:
        return "died"
    return "too_little" if outcome.too_little else "failed"


class _Child:
    """A process that does one thing; what it has to say at its end comes over a pipe."""

    def __init__(self, target: Callable[..., None], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._start = self._heard = time.monotonic()
        self._pipe, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=target, args=(theirs, *args))
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._start

    @property
    def silent_s(self) -> float:
        """Since it was started, or last `heard` of."""
        return time.monotonic() - self._heard

    def heard(self) -> None:
        """It just showed that it lives."""
        self._heard = time.monotonic()

    def outcome(self) -> _Outcome | None:
        """How it ended, None while it runs."""
        if self._process.is_alive() and not self._pipe.poll():
            return None
        try:
            said: dict[str, Any] = self._pipe.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode or 0
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            return _Outcome(None, f"its process {how}", died=True)
        self._process.join()
        return _Outcome(**said)

    def kill(self) -> None:
        """Without asking; `outcome` tells when it is gone."""
        self._process.kill()
        self.heard()

    def end(self) -> None:
        """Ask it to stop, and end it if it doesn't."""
        self._process.terminate()
        self._process.join(10.0)
        self._process.kill()
        self._process.join()


def _begin(as_json: bool) -> Callable[[], bool]:
    """What every child does first; returns whether it has been asked to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)           # Ctrl-C is the parent's to hear
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
    end_with_parent()
    configure("trainer", as_json)
    return asked.is_set


def _record(pipe: Connection, as_json: bool, config: Config, hurry: _Bell, pulse: _Bell) -> None:
    """The recorder's process. hurry: rung by whoever wants what was read to be in files now. pulse: it lives."""
    stop = _begin(as_json)
    from .recorder import record

    try:
        record(config, stop, hurry.rung, pulse.ring)
    except TocsinError as error:
        tell(pipe, {"decision": None, "error": _said(error), "fatal": error.code not in PASSING})
    except Exception as error:
        tell(pipe, {"decision": None, "error": f"{type(error).__name__}: {error} ({_where(error)})"})


def _train(pipe: Connection, as_json: bool, config: Config, trigger: str, hurry: _Bell) -> None:
    """A training's process. hurry: has the recorder put what it read into files."""
    _begin(as_json)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        tell(pipe, {"decision": _train_once(config, trigger, hurry.ring), "error": ""})
    except TocsinError as error:
        tell(pipe, {"decision": None, "error": _said(error), "too_little": error.code in ("no_events", "too_few_events")})
    except Exception as error:
        tell(pipe, {"decision": None, "error": f"{type(error).__name__}: {error} ({_where(error)})"})


def _train_once(config: Config, trigger: str, hurry: Callable[[], None]) -> Decision:
    from engine.features import FeatureSet
    from engine.manifest import Moments

    from .sources import ticks_of_log
    from .training import start_fits, train_and_decide

    want = config.trainer
    with start_fits(want.experts, want.preset, config) as fits, ExitStack() as stack:
        registry = Registry(config.registry_path, config.trust_path)
        source = open_log(config.url, deployment=config.log.deployment)
        stack.callback(source.close)
        ticks, rules = ticks_of_log(source, registry, config, want.days, hurry)
        try:
            _, decision = train_and_decide(
                ticks, registry, _private(config), rules, fits, Moments(kind=want.moments), lambda stage, done, total: None,
                FeatureSet.of(config.features), log=source, deployment=config.log.deployment, rule=want.activate,
                trigger=trigger, tell=log.info,
            )
        finally:                                   # a bundle that was made and couldn't be activated is one more, too
            _prune(source, registry, config.registry.keep)
    return decision


def _prune(source: Log, registry: Registry, keep: int) -> None:
    """What can't be removed now is removed after the next training."""
    from engine.partition.checkpoint import bundles, oldest_k
    from engine.registry.prune import needed_by, prune
    from engine.registry.rollout import Activate

    try:
        needed = needed_by(read_controls(source, registry.public_key()), oldest_k(source, Activate.slot)) | bundles(source)
        gone = prune(registry, keep, needed)
    except (TocsinError, OSError) as error:
        log.error("old bundles can't be removed: %s", error)
        return
    if gone:
        log.info("removed bundles %s: more than [registry] keep = %d", ", ".join(gone), keep)


def _private(config: Config) -> Any:
    return signing.load_private(config.keys_path / signing.PRIVATE)


def _said(error: TocsinError) -> str:
    """In one line; the hint is for who started it by hand."""
    return f"{error.args[0]} [{error.code}]"


def _where(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.path.basename(frame.filename)}:{frame.lineno}"
