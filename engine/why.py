"""Why a symbol's newest decision is what it is, or why there is none. Read from the log, and from the registry if it is there.

Nothing is computed anew: what was published is put beside the rules that held at its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
import orjson

from . import clock
from .errors import InputRefused, ModelRefused, UsageError
from .instruments import Instrument, SymbolTable
from .manifest import Expert, Manifest, Policy
from .partition.checkpoint import CheckpointManifest, manifest_decoder
from .partitioner import partition_of
from .registry.controls import Controls, read_controls
from .registry.history import Event, held_at, history
from .registry.liveness import ALIVE_NS, Beats
from .registry.pausing import paused_by
from .registry.rollout import Activate, Control, Pause, Settings
from .registry.settings import counted, counted_now, ruled
from .registry.store import Registry
from .transports.base import Log, Topic
from .types import NOWHERE, START, Kind, Position
from .wire.records import Reject, Signal, reject_decoder, signal_decoder
from .wire.refusals import content, meaning, symbol_of, told_place
from .wire.stamps import ns_to_rfc3339

PAGE = 1000
LOOKED = 20_000
"""So many tick records of a partition are looked at for a symbol that no checkpoint knows yet."""

NO_LICENCE = "a better forecast is not yet money after the spread, and nothing has shown that this one is"


class Found(NamedTuple):
    """A published decision, and where."""

    partition: int
    position: Position
    signal: Signal


class Rules(NamedTuple):
    """What held at a decision's place, as far as anybody can tell here."""

    manifest: Manifest | None
    policy: Policy | None
    weights: dict[str, float]
    settings: Control | None
    activation: Control | None
    pause: Control | None
    instrument: Instrument | None


def why(log: Log, registry: Registry, symbol: str, at: int | None = None) -> dict[str, Any]:
    """In words and numbers; `because` is the sentence. at: ns UTC, the newest decision at or before it; None: the newest.

    Raises InputRefused `symbol_unknown` where nothing in the log names the symbol, TransportUnreachable.
    """
    controls = _controls(log, registry)
    instrument = (counted_now(log, controls) if controls else log.rules).get(symbol)
    symbol = instrument.symbol if instrument else symbol
    found = newest_decision(log, symbol, at)
    events = history(log, controls) if controls else []
    if found is None:
        return _undecided(log, controls, events, symbol, instrument, at)
    rules = _rules(log, registry, events, found)
    refused = _refused_since(log, found, _names(symbol, instrument))
    return {
        "symbol": symbol, "because": because(log, found, rules), "decision": _told(log, found, rules),
        "thresholds": _thresholds(rules), "by": _by(rules), "refused_since": refused,
    }


def _controls(log: Log, registry: Registry) -> Controls | None:
    """None where no key is at hand to believe them by."""
    try:
        return read_controls(log, registry.public_key())
    except UsageError:
        return None


def _names(symbol: str, instrument: Instrument | None) -> set[str]:
    return {symbol, *(instrument.aliases if instrument else ())}


# ---- the decision


def newest_decision(log: Log, symbol: str, at: int | None) -> Found | None:
    """In the partition where a symbol's ticks go when we send them, else in any."""
    home = partition_of(symbol, log.partitions)
    for partition in sorted(range(log.partitions), key=lambda number: number != home):
        for found in decisions(log, partition, symbol, None):
            if at is None or found.signal.ts <= at:
                return found
    return None


def decisions(log: Log, partition: int, symbol: str, before: Position | None) -> Iterator[Found]:
    """A symbol's decisions in one partition below a position (None: all), newest first."""
    marker = b'"symbol":' + orjson.dumps(symbol) + b","
    while page := log.backwards(partition, Topic.SIGNALS, before, PAGE):
        for position, record in page:
            if marker in record and (signal := signal_decoder.decode(record)).symbol == symbol:
                yield Found(partition, position, signal)
        before = page[-1][0]


def _rules(log: Log, registry: Registry, events: list[Event], found: Found) -> Rules:
    def held(slot: str) -> Control | None:
        return held_at(log, events, slot, found.partition, found.position.cursor)

    settings, pause = held(Settings.slot), held(Pause.slot)
    over = settings.body if settings and isinstance(settings.body, Settings) else Settings()
    try:
        manifest = registry.manifest(found.signal.bundle)
    except (ModelRefused, UsageError):
        manifest = None
    past = [event.control for event in events if pause is not None and event.control.k <= pause.k]
    return Rules(
        manifest, ruled(manifest.policy, over) if manifest else None, _weights(manifest.experts, over) if manifest else {},
        settings, held(Activate.slot), paused_by(found.signal.symbol, past), counted(over, log.rules).get(found.signal.symbol),
    )


def _weights(experts: list[Expert], settings: Settings) -> dict[str, float]:
    """As the ensemble has them: relative to each other; where all would be 0, the bundle's."""
    own = {expert.name: expert.weight for expert in experts}
    weights = {name: settings.weights.get(name, weight) for name, weight in own.items()}
    weights = weights if sum(weights.values()) > 0 else own
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def margin_of(signal: Signal) -> float:
    """p_buy - p_sell, as the policy has it."""
    _, buy, sell = np.array(signal.probabilities, np.float32).tolist()
    return float(buy) - float(sell)


# ---- in words


def because(log: Log, found: Found, rules: Rules) -> str:
    """One sentence about the reason."""
    signal, policy = found.signal, rules.policy
    margin = margin_of(signal)
    lean = f"the margin (p buy - p sell) is {margin:+.4f}"
    if signal.reason == "paused":
        return _paused(rules.pause)
    if signal.reason in ("warmup", "gap"):
        return _filling(log, found)
    if signal.reason == "spread":
        return _spread(found, rules)
    if policy is None:
        return f"{lean}; the thresholds of bundle {signal.bundle} aren't known here"
    beyond = policy.buy if margin > 0 else policy.sell
    match signal.reason:
        case "decided":
            return f"{lean}, beyond the threshold {beyond:+.4g}: {signal.side}"
        case "threshold":
            return f"{lean}, between the thresholds {policy.sell:+.4g} and {policy.buy:+.4g}: no side"
        case "hysteresis":
            return (f"{lean}, short of the threshold {beyond:+.4g}, but beyond {policy.hysteresis:g} of it "
                    f"({policy.hysteresis * beyond:+.4g}): {signal.side}, which was named before, is kept")
        case "cooldown":
            return f"{lean}, beyond the threshold {beyond:+.4g}, but {_cooling(log, found, policy)}"
        case _:
            return f"{lean}; held back by {signal.reason}"


def _paused(by: Control | None) -> str:
    if by is None:
        return "an operator paused it; the record isn't to be read here"
    return f"paused by {by.by} (control record {by.k})" + (f": {by.comment}" if by.comment else "")


def _filling(log: Log, found: Found) -> str:
    what = "its windows fill" if found.signal.reason == "warmup" else "its windows fill again after a hole"
    missing = _bars_missing(log, found.partition, found.signal.symbol)
    if missing is None:
        return f"{what}; how much is missing isn't known before the next checkpoint"
    return f"{what}: at the last checkpoint {missing} more minute bars had to close"


def _bars_missing(log: Log, partition: int, symbol: str) -> int | None:
    from .eventtime import WORDS
    from .features.state import bars_missing

    state = _state(log, partition, symbol)
    return bars_missing(np.frombuffer(state, np.int64)[WORDS:]) if state else None


def _state(log: Log, partition: int, symbol: str) -> bytes | None:
    """Of a symbol in the newest checkpoint; None where none of its ticks was taken by then."""
    manifest = _checkpoint(log, partition)
    blobs = [one.blob for one in manifest.symbols if one.instrument.symbol == symbol] if manifest else []
    state = next(iter(log.staged(partition, blobs)), None)
    return state if state and any(state) else None


def _checkpoint(log: Log, partition: int) -> CheckpointManifest | None:
    """The newest, if this version can read it."""
    for encoded in log.checkpoints(partition)[:1]:
        try:
            return manifest_decoder.decode(encoded)
        except msgspec.DecodeError:
            return None
    return None


def _spread(found: Found, rules: Rules) -> str:
    signal, instrument = found.signal, rules.instrument
    if instrument is None or rules.policy is None:
        return f"the spread between {signal.bid} and {signal.ask} is too wide; its bounds aren't known here"
    points = round((signal.ask - signal.bid) * 10**instrument.scale)
    if instrument.max_spread and points > instrument.max_spread:
        return f"the spread of {points} points is wider than the instrument's max_spread of {instrument.max_spread}"
    return (f"the spread of {points} points is wider than {rules.policy.max_spread:g} times its mean, "
            f"which is below {points / rules.policy.max_spread:.3g}")


def _cooling(log: Log, found: Found, policy: Policy) -> str:
    """Since when the other side is named: the first of the last run of one side before."""
    side, since = "", 0
    for earlier in decisions(log, found.partition, found.signal.symbol, found.position):
        if side and earlier.signal.side != side:
            break
        if earlier.signal.side != "neutral":
            side, since = earlier.signal.side, earlier.signal.ts
    if not side:
        return f"another side was named less than {policy.cooldown_s:g} s before"
    until = ns_to_rfc3339(since + int(policy.cooldown_s * 1e9))
    return f"{side} was named at {ns_to_rfc3339(since)}: another side not before {until} (cooldown {policy.cooldown_s:g} s)"


# ---- in numbers


def _told(log: Log, found: Found, rules: Rules) -> dict[str, Any]:
    signal = found.signal
    place = f"{found.partition}:{log.format(found.position.cursor)}:{found.position.ordinal}"
    votes = {name: {"vote": vote, "weight": rules.weights.get(name)} for name, vote in signal.votes.items()}
    return {
        "id": signal.id, "at": ns_to_rfc3339(signal.ts), "ts": signal.ts, "side": signal.side, "reason": signal.reason,
        "bundle": signal.bundle, "position": place, "bid": signal.bid, "ask": signal.ask, "probabilities": signal.probabilities,
        "margin": margin_of(signal), "votes": votes, "disagreement": signal.disagreement, "licence": signal.licence,
        "licence_because": NO_LICENCE if signal.licence == "shut" else None,
    }


def _thresholds(rules: Rules) -> dict[str, Any] | None:
    if rules.policy is None:
        return None
    widest = rules.instrument.max_spread if rules.instrument else 0
    return {**msgspec.structs.asdict(rules.policy), "max_spread_points": widest or None}


def _by(rules: Rules) -> dict[str, Any]:
    """Whose records held there."""
    held = {"bundle": rules.activation, "settings": rules.settings, "paused": rules.pause}
    return {name: None if one is None else {"k": one.k, "by": one.by, "comment": one.comment} for name, one in held.items()}


# ---- what was refused


def _refused_since(log: Log, found: Found, names: set[str]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    after = found.position
    while page := log.published(found.partition, Topic.REJECTS, after, PAGE):
        after = page[-1][0]
        counts.update(reject.code for _, record in page if symbol_of(content(reject := reject_decoder.decode(record))) in names)
    return dict(counts)


def _refused(log: Log, names: set[str]) -> tuple[dict[str, int], Reject | None]:
    """All of them by code, and the last."""
    counts: Counter[str] = Counter()
    last: Reject | None = None
    for partition in range(log.partitions):
        after = NOWHERE
        while page := log.published(partition, Topic.REJECTS, after, PAGE):
            after = page[-1][0]
            for _, record in page:
                reject = reject_decoder.decode(record)
                if symbol_of(content(reject)) in names:
                    counts[reject.code] += 1
                    last = reject
    return dict(counts), last


# ---- where nothing was decided


def _undecided(
    log: Log, controls: Controls | None, events: list[Event], symbol: str, instrument: Instrument | None, at: int | None
) -> dict[str, Any]:
    refused, last = _refused(log, _names(symbol, instrument))
    taken = _taken_in(log, symbol, controls)
    if taken is None and last is None:
        raise InputRefused(
            "symbol_unknown", f"nothing in this log names {symbol}",
            hint="tocsin signals and tocsin rejects list show what comes; tocsin feed sends ticks",
        )
    partition = taken if taken is not None else last.log.partition if last else 0
    if at is not None and newest_decision(log, symbol, None):
        reason = f"no decision of {symbol} at or before {ns_to_rfc3339(at)} is in the log; there are later ones"
    elif taken is None:
        reason = f"no tick of {symbol} was ever taken, all were refused"
    else:
        reason = _not_asked(log, controls, events, partition)
    answer: dict[str, Any] = {"symbol": symbol, "because": reason, "decision": None, "partition": partition, "refused": refused}
    if last is not None:
        means = meaning(last.code)
        answer["last_refused"] = {
            "position": told_place(last), "code": last.code, "wrong": means.wrong, "advice": means.advice,
        }
    return answer


def _taken_in(log: Log, symbol: str, controls: Controls | None) -> int | None:
    """The partition that has ticks of the symbol: as the newest checkpoint says, or its tick records."""
    for partition in range(log.partitions):
        if _state(log, partition, symbol):
            return partition
    home = partition_of(symbol, log.partitions)
    return home if _ticks_name(log, home, symbol, controls) else None


def _ticks_name(log: Log, partition: int, symbol: str, controls: Controls | None) -> bool:
    from .wire.ticks import decode

    table = SymbolTable(counted_now(log, controls) if controls else log.rules)
    at, looked = START, 0
    while looked < LOOKED and (entries := log.read({partition: at}, PAGE).get(partition)):
        ticks, _ = decode([entry for entry in entries if entry.kind is not Kind.CONTROL], table)
        if any(table.instruments[sid].symbol == symbol for sid in np.unique(ticks.sid).tolist()):
            return True
        at = entries[-1].cursor
        looked += len(entries)
    return False


def _not_asked(log: Log, controls: Controls | None, events: list[Event], partition: int) -> str:
    """Its ticks are in the log, and no expert was ever asked: what stands in between."""
    owner = log.ownership(partition)
    if owner.epoch == 0:
        return f"no engine ever owned partition {partition}: tocsin run engine"
    if controls is None:
        return "no bundle was asked about it; who activated what can't be read here, without the public key"
    newest = controls.newest().get(Activate.slot)
    if newest is None or not isinstance(newest.body, Activate):
        return f"no bundle answers in deployment {log.deployment}: tocsin models activate champion"
    if not _lives(log, partition):
        return f"engine {owner.owner}, which owned partition {partition} last, isn't alive: tocsin run engine"
    copy = next((event.copies.get(partition) for event in events if event.control.k == newest.k), None)
    done = _checkpoint(log, partition)
    if copy is None:
        return f"the activation of bundle {newest.body.version} hasn't reached partition {partition} yet"
    if log.tail(partition).cursor < copy and (done is None or done.followed.get(Activate.slot, 0) < newest.k):
        return (f"partition {partition} hasn't gone past the activation of bundle {newest.body.version}: it reads on, or the "
                "engine can't load that bundle yet (/readyz says so; tocsin models verify)")
    return f"bundle {newest.body.version} answers, and its moment to be asked about this symbol hasn't come yet"


def _lives(log: Log, partition: int) -> bool:
    """Whether the owner's beat moves while it is watched."""
    beats = Beats()
    start = clock.monotonic_ns()
    while True:
        now = clock.monotonic_ns()
        beats.see({partition: log.ownership(partition)}, now)
        if beats.alive(now):
            return True
        if now - start > ALIVE_NS // 2:
            return False
        clock.sleep(0.1)
