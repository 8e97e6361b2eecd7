"""What the demo shows while ticks flow: one live display on a terminal, a line a second elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from collections import Counter
from types import TracebackType
from typing import Any, Protocol

from engine.terminal import console, note
from engine.wire.records import Signal
from engine.wire.stamps import ns_to_rfc3339


class Shown(Protocol):
    """What there is to show."""

    records: list[bytes]
    sides: Counter[str]
    last: list[Signal]


_COLOURS = {"buy": "green", "sell": "red", "neutral": "dim"}


class Screen:
    """`with Screen(ticks, seconds) as screen: screen.show(published)`."""

    def __init__(self, ticks: int, seconds: float) -> None:
        self._ticks = ticks
        self._seconds = seconds
        self._start = time.monotonic()
        self._next = 0.0
        self._live: Any = None

    def __enter__(self) -> Screen:
        if sys.stderr.isatty():
            from rich.live import Live

            self._live = Live(console=console(stderr=True), refresh_per_second=8)
            self._live.start()
        return self

    def show(self, published: Shown) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (0.12 if self._live else 1.0)
        fed = min(int(self._ticks * (now - self._start) / self._seconds), self._ticks)
        if self._live:
            self._live.update(self._drawn(published, fed))
        else:
            sides = ", ".join(f"{published.sides[side]:,} {side}" for side in _COLOURS)
            note(f"about {fed:,} of {self._ticks:,} ticks: {len(published.records):,} signals ({sides})")

    def _drawn(self, published: Shown, fed: int) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        head = Text.assemble(
            f"{fed:,} of {self._ticks:,} ticks   {len(published.records):,} decisions   ",
            *((f"{published.sides[side]:,} {side}   ", colour) for side, colour in _COLOURS.items()),
        )
        signals = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("tick", "symbol", "side", "why", "p neutral", "p buy", "p sell", "bid", "ask"):
            signals.add_column(column, justify="right" if column.startswith("p ") else "left")
        for s in published.last:
            signals.add_row(
                _to_the_millisecond(s.ts), s.symbol, Text(s.side, _COLOURS[s.side]), s.reason,
                *(f"{p:.3f}" for p in s.probabilities), str(s.bid), str(s.ask),
            )
        bar = Table.grid()
        bar.add_row(ProgressBar(total=self._ticks, completed=fed, width=80))
        return Group(head, bar, signals)

    def close(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _to_the_millisecond(ts: int) -> str:
    return f"{ns_to_rfc3339(ts - ts % 10**9)[:-1]}.{ts // 10**6 % 1000:03d}"
