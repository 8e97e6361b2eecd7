"""What one partition owns: event time, features, moments, policy, the batch being filled. No clock, no I/O in here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputRefused, ModelRefused, TransportUnreachable
from ..eventtime import VERDICTS, EventTime
from ..features import FeatureSet, Rows
from ..features.moments import MomentPicker
from ..instruments import Instruments, SymbolTable
from ..registry.bundle import Bundle, check_instruments
from ..registry.follow import Change
from ..registry.pausing import is_paused
from ..registry.rollout import Activate, Control, Pause, Resume, Settings
from ..registry.settings import counted, overlay
from ..types import I64, LAST_ORDINAL, NOWHERE, START, Code, Cursor, Entry, Position, Reason, Refused, TickBatch
from ..wire import journal
from ..wire import ticks as wire
from ..wire.records import Decisions, Place
from .batch import Asked, MicroBatch, Noted
from .caution import WHOLE, Caution
from .image import Image
from .journal import Runtime, Suffered
from .policy import PolicyState


class Published(NamedTuple):
    """A decision read back: where it stood and what it said."""

    position: Position
    side: int


class Portion(NamedTuple):
    """What is processed in one go."""

    ticks: TickBatch
    refused: list[Refused]
    """What was no tick, and what isn't taken."""
    entries: list[Entry]
    """Records that are done with when this is."""
    void: bool = False
    """Whether, before it, the active bundle gives way to the one it took over from."""


class Partition:
    """One partition under one epoch."""

    def __init__(self, number: int, epoch: int, rules: Instruments, features: FeatureSet | None = None) -> None:
        """rules: of the log, until settings say otherwise. features: the default ones, where none are named."""
        self.number = number
        self.epoch = epoch
        self.rules = rules
        self.symbols = SymbolTable(rules)
        self.event_time = EventTime()
        self.features = (features or FeatureSet.default()).state()
        self.moments = MomentPicker()
        self.policy = PolicyState()
        self.followed: dict[str, int] = {}
        """The highest k followed, by slot."""
        self.active: Bundle | None = None
        """The bundle of the last `activate` met, as it was trained."""
        self.settings = Settings()
        self.bundle: Bundle | None = None
        """The active bundle under the settings: what batches are answered by."""
        self.paused: tuple[str, ...] = ()
        """Symbols and patterns that an operator paused: asked as ever, and named no side."""
        self._is_paused = np.zeros(0, np.bool_)
        """By symbol, as far as looked at."""
        self.upto: Cursor = START
        self.records = 0
        """Records of the partition's log up to `upto`."""
        self.tail: Position = NOWHERE
        self.past: Iterator[Published] = iter(())
        self.suffered = Suffered()
        self.caution = Caution([], b"", START, lambda what: None)
        self.runtime: Runtime | None = None
        """To be noted with the first decision: it isn't the one noted last."""
        self.gap: str | int | None = None
        """To be noted with the next record: what stood between this cursor and that record is gone."""
        self.before: tuple[str, str] = ("", "")
        """Version and digest of the bundle that the active one took over from."""
        self.proven = False
        """Whether the active bundle has decided anything here."""
        self.ticks_since_image = self.asked_since_image = 0
        self.moved = False
        """Whether ticks, or a change, came since the last image."""
        self._touched = np.zeros(0, np.bool_)
        """Symbols that moved since the last image."""
        self._imaged = 0
        """Symbols that the last image holds."""
        self._asked: list[Asked] = []
        self._refused: list[Refused] = []
        self._notes: list[Noted] = []
        self._received = (0, 0)

    # ---- ticks

    def portions(self, entries: list[Entry]) -> Iterator[Portion]:
        """Consecutive records, decoded: all at once, but row by row where the journal or caution has something to say."""
        self._note_gap(entries[0])
        odd = self.suffered.cursors
        if not (odd or self.caution.on):
            yield Portion(*wire.decode(entries, self.symbols), entries)
            return
        for alone, run in groupby(entries, lambda entry: entry.cursor in odd or self.caution.at(entry.cursor)):
            if alone:
                for entry in run:
                    yield from self._rows(entry)
            else:
                records = list(run)
                yield Portion(*wire.decode(records, self.symbols), records)
        self.caution.rest()

    def _rows(self, entry: Entry) -> Iterator[Portion]:
        """One record, odd rows alone; what is refused of it comes in the order of the rows."""
        careful = self.caution.at(entry.cursor)
        whole = Position(entry.cursor, WHOLE)
        why = self.suffered.records.get(entry.cursor, "")
        if careful and not why:
            why = "reading it ended every engine that tried" if self.caution.guilty(whole) else ""
            self.caution.try_(whole, "row")
        if why:
            yield Portion(self._none(), [self._skip(Position(entry.cursor, 0), "record", why, entry.payload)], [entry])
            return
        ticks, malformed = wire.decode([entry], self.symbols)
        refused = deque(sorted(malformed, key=lambda item: item.position))
        for alone, rows in _stretches(ticks, self.suffered.ordinals(entry.cursor), careful):
            last = ticks.position(rows.stop - 1)
            before = [refused.popleft() for _ in range(sum(item.position < last for item in refused))]
            yield self._alone(ticks[rows], before, careful) if alone else Portion(ticks[rows], before, [])
        yield Portion(self._none(), list(refused), [entry])
        self.caution.passed(len(ticks) + len(malformed))

    def _alone(self, row: TickBatch, refused: list[Refused], careful: bool) -> Portion:
        """A row that the journal names, or caution: left out, or taken under another bundle, or tried."""
        at = row.position(0)
        act = self.caution.guilty(at) if careful else None
        why = self.suffered.rows.get(at, "")
        if act == "row" or (act == "ask" and self.proven):
            why = "it ended every engine that took it"
        if why:
            return Portion(self._none(), [*refused, self._skip(at, "row", why, wire.encode(row, 0))], [])
        if careful:
            self.caution.try_(at, "row")
        return Portion(row, refused, [], void=at in self.suffered.voids or act == "ask")

    def _none(self) -> TickBatch:
        return TickBatch(self.symbols.instruments, **{name: np.zeros(0, np.int64) for name in ("sid", "ts", "bid", "ask")})

    def _skip(self, at: Position, what: Literal["row", "record"], why: str, payload: bytes) -> Refused:
        self._note(at, partial(journal.Skip, what, why))
        return Refused(at, Code.POISON, payload)

    def _note(self, at: Position, note: Callable[[Place], journal.Note]) -> None:
        if at > self.tail:
            self._notes.append(Noted(at, note))

    def admit(self, ticks: TickBatch) -> tuple[TickBatch, list[Refused]]:
        """The ticks that are taken, and the others with their codes."""
        verdicts = self.event_time.admit(ticks)
        if not verdicts.any():
            return ticks, []
        bad = ticks[verdicts != 0]
        told = zip(bad.positions(), verdicts[verdicts != 0].tolist(), wire.encode_all(bad), strict=True)
        refused = [Refused(position, code, line) for position, verdict, line in told if (code := VERDICTS[verdict])]
        return ticks[verdicts == 0], refused

    def pick(self, ticks: TickBatch, rows: Rows) -> Asked | None:
        """The moments among the ticks; None before the first activation."""
        if self.bundle is None or not len(ticks):
            return None
        moments = self.bundle.manifest.moments
        index, horizon, width = self.moments.pick(ticks, rows.spread, rows.sigma, moments)
        if not index.size:
            return None
        status = self._status(ticks.sid, rows.status)
        if index.size == len(ticks):
            return Asked(ticks, rows.matrix, rows.spread, status, horizon, width)
        return Asked(ticks[index], rows.matrix[index], rows.spread[index], status[index], horizon, width)

    def _status(self, sid: I64, status: I64) -> I64:
        """Per tick why no side may be named; what is paused is that before it is anything else."""
        if not self.paused:
            return status
        return np.where(self.paused_symbols()[sid], int(Reason.PAUSED), status)

    def paused_symbols(self) -> NDArray[np.bool_]:
        """By symbol number whether it is paused."""
        new = self.symbols.instruments[self._is_paused.size:]
        if new:
            looked = [is_paused(instrument.symbol, self.paused) for instrument in new]
            self._is_paused = np.concatenate([self._is_paused, np.array(looked, np.bool_)])
        return self._is_paused

    @property
    def known_paused(self) -> int:
        """How many of the symbols seen so far are paused; may be asked from another thread."""
        return sum(is_paused(instrument.symbol, self.paused) for instrument in list(self.symbols.instruments))

    def pause(self, symbols: Sequence[str]) -> None:
        """These symbols and patterns are paused from here on, and no other."""
        self.paused = tuple(symbols)
        self._is_paused = np.zeros(0, np.bool_)

    def add(
        self, ticks: TickBatch, asked: Asked | None, refused: list[Refused], entries: list[Entry], received: tuple[int, int]
    ) -> None:
        """A portion into the batch, and the records that end with it; what was published before is taken over, not asked."""
        if asked:
            asked = self._after_tail(asked)
        if asked:
            self._asked.append(asked)
            self.asked_since_image += len(asked.ticks)
        self._refused += [item for item in refused if item.position > self.tail]
        if not self._received[0]:
            self._received = received
        if entries:
            self.upto = entries[-1].cursor
            self.records += len(entries)
        self.ticks_since_image += len(ticks)
        self.moved = True
        self._touch(ticks.sid)

    def _note_gap(self, first: Entry) -> None:
        if self.gap is not None:
            self._note(Position(first.cursor, 0), partial(journal.Gap, self.gap))
            self.gap = None

    def _touch(self, sids: I64 | int) -> None:
        missing = len(self.symbols) - self._touched.size
        if missing > 0:
            self._touched = np.concatenate([self._touched, np.zeros(missing, np.bool_)])
        self._touched[sids] = True

    def _after_tail(self, asked: Asked) -> Asked | None:
        if asked.ticks.position(0) > self.tail:            # the usual case, told from its first row
            return asked
        silent = _at_or_below(asked.ticks, self.tail)
        if silent:
            side = np.empty(silent, np.int64)
            for row in range(silent):
                position = asked.ticks.position(row)
                published = next(self.past, None)
                if published is None or published.position != position:
                    raise TransportUnreachable(
                        "readback", f"partition {self.number}: a decision was due at {position}, the log has "
                        f"{published.position if published else 'none'}",
                        hint="the signals of this log are not this engine's, or were trimmed; start a new deployment",
                    )
                side[row] = published.side
            self.proven = True
            self.policy.apply(asked.ticks.sid[:silent], asked.ticks.ts[:silent], side, len(self.symbols))
        return asked.after(silent) if silent < len(asked.ticks) else None

    @property
    def record_end(self) -> Position:
        """Every position of the records processed lies at or below it."""
        return Position(self.upto, LAST_ORDINAL) if self.upto > START else NOWHERE

    def warm(self, ticks: TickBatch) -> MicroBatch:
        """Fill the state with ticks from elsewhere, asking nothing; the batch carries only the image."""
        taken, _ = self.admit(wire.renumber(ticks, self.symbols))
        self.features.update(taken)
        self._touch(taken.sid)
        return MicroBatch(self.number, self.epoch, None, None, [], [], self.upto, 0, 0, self._image())

    # ---- batches

    @property
    def waiting(self) -> int:
        """Records the next publish step would hold at least."""
        return sum(len(asked.ticks) for asked in self._asked) + len(self._refused)

    def full(self, rows: int) -> bool:
        """Whether so many rows wait, or any do that may be an engine's last."""
        return self.waiting >= (1 if self.caution.on else rows)

    def cut(self, keep: bool = False) -> MicroBatch | None:
        """The batch so far, with an image if `keep`; None when there is nothing in it. No image while reading back."""
        keep = keep and self.upto > START and self.upto >= self.tail.cursor
        if not (self._asked or self._refused or self._notes or keep):
            return None
        asked = Asked.concat(self._asked) if self._asked else None
        self._note_runtime(asked)
        self.proven = self.proven or asked is not None         # where asking it kills, nobody will ever read this
        batch = MicroBatch(
            self.number, self.epoch, self.bundle, asked, self._refused, self._notes,
            self.upto, *self._received, self._image() if keep else None,
        )
        self._asked, self._refused, self._notes, self._received = [], [], [], (0, 0)
        if asked and self.caution.on:
            self.caution.try_(asked.ticks.position(0), "ask")
        return batch

    def _note_runtime(self, asked: Asked | None) -> None:
        """With the first decision of an engine, if what decides isn't what decided last; a place has room for one note."""
        if asked is None or self.runtime is None:
            return
        taken = {noted.position for noted in self._notes}
        at = next((p for row in range(len(asked.ticks)) if (p := asked.ticks.position(row)) not in taken), None)
        if at is not None:
            self._note(at, partial(journal.Runtime, *self.runtime))
            self.runtime = None

    def _image(self) -> Image:
        for rows in (self.event_time.rows, self.features.rows, self.moments.rows, self.policy.rows):
            rows.ensure(len(self.symbols))
        self._touch(np.arange(self._imaged, len(self.symbols)))     # a symbol may be known from refused ticks only
        changed = {sid: self.snapshot(sid) for sid in np.flatnonzero(self._touched).tolist()}
        self._touched[:] = False
        self._imaged = len(self.symbols)
        self.ticks_since_image = self.asked_since_image = 0
        self.moved = False
        bundle = (self.active.version, self.active.digest) if self.active else ("", "")
        return Image(
            self.upto, self.records, list(self.symbols.instruments), changed, dict(self.followed), bundle,
            self.before, self.proven, self.settings, self.paused,
        )

    def snapshot(self, sid: int) -> bytes:
        """Event time, features and moments of one symbol."""
        parts = (self.event_time.rows, self.features.rows, self.moments.rows)
        return b"".join(part.snapshot(sid) for part in parts)

    def restore(self, sid: int, blob: bytes) -> None:
        """Put a snapshot back, symbol after symbol. Raises ValueError where its length is wrong."""
        at = 0
        for part in (self.event_time.rows, self.features.rows, self.moments.rows):
            size = 8 * part.words
            part.restore(sid, blob[at:at + size])
            at += size
        if at != len(blob):
            raise ValueError(f"a snapshot of {len(blob)} bytes, {at} expected")
        self._imaged = sid + 1

    # ---- control records

    def follow(self, change: Change) -> None:
        """From this position on the change holds. Call after `cut`: the batch before keeps its own bundle and settings.

        Raises InputRefused `instruments_differ` for a bundle that counts prices otherwise than this partition does here,
        because settings came between its `prepare` and its `activate`: it is void for everybody, now and in a replay.
        """
        body = change.control.body
        self.followed[body.slot] = change.control.k
        self.moved = True
        if isinstance(body, Activate) and change.bundle:
            try:
                check_instruments(change.bundle.manifest, counted(self.settings, self.rules))
            except ModelRefused as error:
                raise InputRefused(error.code, str(error.args[0]), hint=error.hint) from None
            self.before = (self.active.version, self.active.digest) if self.active else ("", "")
            self.active, self.proven = change.bundle, False
        elif isinstance(body, Settings):
            self._settle(body)
        elif isinstance(body, Pause | Resume):
            self.pause(body.symbols)
        self.bundle = overlay(self.active, self.settings) if self.active else None

    def is_void(self, cursor: Cursor) -> bool:
        """Whether an activation that stands at a record isn't to be followed: it ended every engine that tried."""
        at = Position(cursor, 0)
        if not self.caution.at(cursor):
            return at in self.suffered.voids
        guilty = self.caution.guilty(at) == "control"
        self.caution.try_(at, "control")
        return guilty or at in self.suffered.voids

    def is_new(self, entry: Entry) -> bool:
        """Whether nothing that stands behind a record has been published."""
        return Position(entry.cursor, 0) > self.tail

    def void(self, cursor: Cursor, control: Control) -> None:
        """Pass over a control record."""
        self.followed[control.slot] = control.k
        self.moved = True
        self._note(Position(cursor, 0), partial(journal.Void, control.k, "following it ended every engine that tried"))

    def revert(self, at: Position, before: Bundle | None) -> None:
        """From here on the bundle before the active one answers: this one ended every engine that asked it."""
        self._note(at, partial(journal.Void, self.followed[Activate.slot], "asking it ended every engine that tried"))
        self.active, self.before, self.proven = before, ("", ""), True
        self.bundle = overlay(self.active, self.settings) if self.active else None

    def _settle(self, settings: Settings) -> None:
        """Go over to other settings; a symbol whose prices are counted otherwise from now on starts anew."""
        self.settings = settings
        for sid in self.symbols.recount(counted(settings, self.rules)):
            for rows in (self.event_time.rows, self.features.rows, self.moments.rows):
                rows.clear(sid)
            self._touch(sid)

    def passed(self, cursor: Cursor) -> None:
        """A record that isn't ticks is done with."""
        self.upto = cursor
        self.records += 1
        self.caution.rest()

    def refuse(self, refused: Refused) -> None:
        """A record that isn't ticks and can't be followed."""
        if refused.position > self.tail:
            self._refused.append(refused)

    def decide(self, batch: MicroBatch) -> Decisions | None:
        """Side, reason and ordinal of the batch's asked rows; the policy moves on. None if none were asked."""
        asked, bundle, votes = batch.asked, batch.bundle, batch.votes
        if asked is None or bundle is None or votes is None:
            return None
        ticks = asked.ticks
        probabilities, disagreement = bundle.ensemble.blend(votes)
        decided = self.policy.decide(ticks, asked.spread, asked.status, probabilities, bundle.manifest.policy)
        return Decisions(ticks, asked.horizon, asked.width, votes, probabilities, disagreement, *decided)


def _stretches(ticks: TickBatch, odd: set[int], careful: bool) -> Iterator[tuple[bool, slice]]:
    """All rows of a record in turn: those of odd ordinals, or all where care is taken, alone; the others together."""
    for alone, run in groupby(range(len(ticks)), lambda row: careful or int(ticks.ordinal[row]) in odd):
        rows = list(run)
        if alone:
            yield from ((True, slice(row, row + 1)) for row in rows)
        else:
            yield False, slice(rows[0], rows[-1] + 1)


def _at_or_below(ticks: TickBatch, tail: Position) -> int:
    """How many rows, from the first, lie at or below a position (rows are in position order)."""
    (major, minor), ordinal = tail
    below = (ticks.major < major) | (
        (ticks.major == major) & ((ticks.minor < minor) | ((ticks.minor == minor) & (ticks.ordinal <= ordinal)))
    )
    return int(below.sum())
