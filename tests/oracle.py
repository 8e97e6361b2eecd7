"""A slow second telling of every feature column, from the words of docs/features.md.

For one symbol's admitted ticks, row by row: each row looks back at the ticks and bars so far by slicing. Nothing is
shared with the kernels, and their families weren't read for it. Where the page's words leave a choice, this is what
was taken:

- sigma: the time of a hole (d > 300 s) ages nothing; a new move weighs 1 − 2^(−d / 900 s); a sigma of 0 is unknown.
- What would divide by 0 is NaN, where the page doesn't say otherwise; but a spread of 0 over a mean of 0 is 1.
- `spread_rank`: of the panes that held ticks, however long ago.
- The cities' hours: the running minute counts as elapsed, so that 0 is outside only; the day and the week do without it.
- `jump_300s`: each closed pane of the window has its move m from the close of the pane before, even where that lies before
  the window, never across a hole (the first pane moves from its first tick); products are of moves in the window.
- `pace_10t`: d is a tenth of the time since 10 ticks ago, D is 300 s / ticks.
- `width_sigma`: the barrier of the manifest's default moments, of the mean spread.
- The day and the week are read off New York's clock, also where it is put forward or back.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache, cached_property
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from engine.types import F64, I64, TickBatch

SECOND = 10**9
MINUTE = 60 * SECOND
HALF_LIFE = 900.0
LENGTHS = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600}
RAW = ["ret1", "ret1_lag1", "ret1_lag2", "ret1_lag5", "ret1_lag8", "vol14", "vol50", "mom5", "mom15"]
SPAN = {60: SECOND, 300: 5 * SECOND}
"""Windows of so many seconds consist of 60 panes of so many ns."""

Row = dict[str, float]


def oracle(ticks: TickBatch, rows: Iterable[int] | None = None) -> tuple[list[str], F64]:
    """Names and (len(rows), 64) float64 of one symbol's admitted ticks; every row where none are named."""
    history = History(ticks)
    told = [history.row(int(i)) for i in (range(len(ticks)) if rows is None else rows)]
    return list(told[0]), np.array([list(row.values()) for row in told])


def raw_oracle(ticks: TickBatch, clock: str, rows: Iterable[int] | None = None) -> F64:
    """(len(rows), 9) float64: the raw time features on closed minutes (`1m`) or on every tick (`tick`), in prices."""
    history = History(ticks)
    unit = 0.5 / 10 ** ticks.instruments[int(ticks.sid[0])].scale
    every = [unit * mid for mid in history.mid.tolist()]
    closed = [unit * bar.close for bar in history.bars[60]]
    told = []
    for i in range(len(ticks)) if rows is None else rows:
        closes = every[:i + 1] if clock == "tick" else closed[:history.closed(int(i), 60)]
        told.append(nine(closes[-60:]))
    return np.array(told)


def over(a: float, b: float) -> float:
    """a / b; NaN where there is nothing to divide by: what isn't defined isn't known."""
    return a / b if b != 0 else math.nan


class Bar(NamedTuple):
    """[start, end) of the mid, half-points."""

    end: int
    open: int
    high: int
    low: int
    close: int


class History:
    """One symbol's ticks, looked at from any of them backwards."""

    def __init__(self, ticks: TickBatch) -> None:
        self.ts, self.bid, self.ask = ticks.ts, ticks.bid, ticks.ask
        self.bid_size, self.ask_size = ticks.bid_size, ticks.ask_size
        self.mid: I64 = self.bid + self.ask                       # half-points
        self.spread: I64 = np.maximum(self.ask - self.bid, 0)     # points; 0 where crossed
        self.move: I64 = np.diff(self.mid, prepend=self.mid[:1])  # 0 for the first tick

    def row(self, i: int) -> Row:
        families = [
            self.time, self.sigma_family, self.spread_family, self.calendar, self.returns, self.volatility, self.flow,
            self.activity, self.distance, self.indicators,
        ]
        return {name: value for family in families for name, value in family(i).items()}

    # ---- units

    @cached_property
    def mean_spread(self) -> list[float]:
        """Points, at every tick."""
        spread, seconds = self.spread.tolist(), np.diff(self.ts) / SECOND
        means = [float(spread[0])]
        for n, (value, dt) in enumerate(zip(spread[1:], seconds.tolist(), strict=True), start=2):
            weight = 1 - 2 ** (-min(max(dt, 0.01), 60.0) / HALF_LIFE)
            if n <= 200:
                weight = max(weight, 1 / n)
            means.append(means[-1] + weight * (value - means[-1]))
        return means

    @cached_property
    def grid(self) -> list[int]:
        """The grid ticks: the first, then the first at least 5 s after the one before."""
        grid, ts = [0], self.ts.tolist()
        while (i := bisect_left(ts, ts[grid[-1]] + 5 * SECOND)) < len(ts):
            grid.append(i)
        return grid

    @cache  # noqa: B019
    def _sigma(self, grids: int) -> float:
        """Points per √second after the first `grids` grid ticks, NaN until known."""
        grid = np.array(self.grid[:grids])
        d = np.diff(self.ts[grid]) / SECOND
        m = np.diff(self.mid[grid]) / 2
        d, m = d[d <= 300], m[d <= 300]                           # neither the move of a hole counts nor its time
        since = d[::-1].cumsum()[::-1] - d
        weight = (1 - 2 ** (-d / HALF_LIFE)) * 2 ** (-since / HALF_LIFE)
        known = float(weight.sum())
        sigma = math.sqrt(float((weight * m**2 / d).sum()) / known) if known >= 0.02 else 0.0
        return sigma or math.nan                                  # a unit of 0 measures nothing

    def sigma(self, i: int) -> float:
        return self._sigma(bisect_right(self.grid, i))

    # ---- windows

    @cached_property
    def starts(self) -> I64:
        """The first tick, and the first after each hole."""
        return np.concatenate([[0], np.flatnonzero(np.diff(self.ts) > 600 * SECOND) + 1])

    def since(self, i: int) -> int:
        """Ticks since the first, or the first after the last hole."""
        return i - int(self.starts[self.starts <= i][-1])

    def known(self, i: int, seconds: int) -> bool:
        return bool(self.ts[i] - self.ts[i - self.since(i)] >= seconds * SECOND)

    def window(self, i: int, seconds: int) -> slice:
        """The running pane up to this tick, and the 59 pane lengths before it."""
        pane = SPAN[seconds]
        start = (self.ts[i] // pane - 59) * pane
        return slice(int(np.searchsorted(self.ts, start)), i + 1)

    def ago(self, i: int, seconds: int) -> int:
        """The mid before the window; the first tick's, where there is none."""
        return int(self.mid[max(self.window(i, seconds).start - 1, 0)])

    def closes(self, i: int) -> list[int]:
        """The last mid of each closed pane of 5 s in the window of 300 s."""
        part = self.window(i, 300)
        panes, mids = self.ts[part] // SPAN[300], self.mid[part]
        last = np.flatnonzero(np.diff(panes))                    # the running pane has no end yet
        return [int(mid) for mid in mids[last]]

    # ---- bars

    @cached_property
    def bars(self) -> dict[int, list[Bar]]:
        """Per length (s), every bar with ticks, the last one still open."""
        return {seconds: bars_of(self.ts, self.mid, seconds) for seconds in LENGTHS.values()}

    def closed(self, i: int, seconds: int) -> int:
        """How many bars this tick has seen close: those whose end isn't after it."""
        return bisect_right(self.bars[seconds], int(self.ts[i]), key=lambda bar: bar.end)

    # ---- families

    def time(self, i: int) -> Row:
        closes = [bar.close / 2 for bar in self.bars[60][:self.closed(i, 60)]]
        raw = dict(zip(RAW, nine(closes[-60:]), strict=True))
        sigma, mid = self.sigma(i), self.mid[i] / 2
        return {
            f"{name}_s": over(value, sigma * math.sqrt(60 * int(name[3:]))) if name.startswith("mom")
            else over(value, sigma / mid * math.sqrt(60))
            for name, value in raw.items()
        }

    def sigma_family(self, i: int) -> Row:
        """The barrier of the manifest's default moments: H = clip((4 · mean spread / sigma)², 60, 3600), its width
        max(½ · sigma · √H, mean spread)."""
        sigma, spread = self.sigma(i), self.mean_spread[i]
        width = math.nan
        if not math.isnan(sigma):
            horizon = min(max((4 * spread / sigma) ** 2, 60.0), 3600.0)
            width = max(0.5 * sigma * math.sqrt(horizon), spread) / sigma
        return {"sigma": 1e4 * sigma / (self.mid[i] / 2), "spread_sigma": over(spread, sigma), "width_sigma": width}

    @cached_property
    def pane_ends(self) -> I64:
        """The last tick of every closed pane of 5 s that holds ticks."""
        return np.flatnonzero(np.diff(self.ts // SPAN[300]))

    def spread_family(self, i: int) -> Row:
        among = self.spread[self.pane_ends[self.pane_ends < i][-64:]]
        below, equal = int((among < self.spread[i]).sum()), int((among == self.spread[i]).sum())
        return {
            "spread_rel": self.spread[i] / self.mean_spread[i] if self.mean_spread[i] else 1.0,   # 0 as always
            "spread_rank": over(2 * below + equal, 2 * len(among)),
        }

    def calendar(self, i: int) -> Row:
        def clock(city: str) -> datetime:
            return datetime.fromtimestamp(int(self.ts[i]) // MINUTE * 60, ZoneInfo(city))

        def hours(city: str, opens: int) -> float:
            now = clock(city)
            minute = 60 * (now.hour - opens) + now.minute         # its end counts as elapsed, so that 0 is outside only
            return (minute + 1) / 540 if now.weekday() < 5 and 0 <= minute < 540 else 0.0

        now = clock("America/New_York")
        minutes = 60 * (now.hour - 17) + now.minute
        day = minutes % 1440 / 1440
        sunday = (now.weekday() + 1) % 7                          # days since Sunday
        return {
            "day_sin": math.sin(2 * math.pi * day), "day_cos": math.cos(2 * math.pi * day),
            "week": (1440 * sunday + minutes) % (7 * 1440) / (7 * 1440),
            "tokyo": hours("Asia/Tokyo", 9), "london": hours("Europe/London", 8),
            "new_york": hours("America/New_York", 8),
        }

    def returns(self, i: int) -> Row:
        def ticks(back: int) -> float:
            return over((self.mid[i] - self.mid[i - back]) / 2, self.mean_spread[i]) if self.since(i) >= back else math.nan

        def seconds(length: int) -> float:
            if not self.known(i, length):
                return math.nan
            return over((self.mid[i] - self.ago(i, length)) / 2, self.sigma(i) * math.sqrt(length))

        return {"move_10t": ticks(10), "move_100t": ticks(100), "move_60s": seconds(60), "move_300s": seconds(300)}

    def volatility(self, i: int) -> Row:
        def realised(length: int) -> float:
            squares = float((self.move[self.window(i, length)].astype(float) ** 2).sum())   # too large for an int64
            return over(math.sqrt(squares) / 2, self.sigma(i) * math.sqrt(length)) if self.known(i, length) else math.nan

        jump = math.nan
        if self.known(i, 300) and len(self.closes(i)) > 1:
            seen = int(np.searchsorted(self.pane_ends, i))
            closed = slice(seen - len(self.closes(i)), seen)
            m = abs(self.pane_moves[closed]).tolist()
            jump = 1 - over(math.pi / 2 * sum(a * b for a, b in pairwise(m)), sum(a * a for a in m))
        return {"rv_60s": realised(60), "rv_300s": realised(300), "jump_300s": jump}

    @cached_property
    def pane_moves(self) -> I64:
        """Of every closed pane: its close less that of the pane before (a first pane's: less its first tick's mid, at the
        start as after a hole)."""
        segment = np.searchsorted(self.starts, self.pane_ends, side="right") - 1
        from_start = np.diff(segment, prepend=-1) != 0
        closes = self.mid[self.pane_ends]
        return closes - np.where(from_start, self.mid[self.starts[segment]], np.roll(closes, 1))

    @cached_property
    def direction(self) -> list[int]:
        signs = [0]
        for move in self.move[1:].tolist():
            signs.append((move > 0) - (move < 0) or signs[-1])
        return signs

    @cached_property
    def order_flow(self) -> list[int]:
        """Size points; 0 for the first tick, which has none before it."""
        quotes = list(zip(*(c.tolist() for c in (self.bid, self.ask, self.bid_size, self.ask_size)), strict=True))
        flow = [0]
        for (bid0, ask0, bid_size0, ask_size0), (bid, ask, bid_size, ask_size) in pairwise(quotes):
            flow.append(
                (bid >= bid0) * bid_size - (bid <= bid0) * bid_size0 - (ask <= ask0) * ask_size + (ask >= ask0) * ask_size0
            )
        return flow

    def flow(self, i: int) -> Row:
        def signs(length: int) -> float:
            part = self.direction[self.window(i, length)]
            return sum(part) / len(part) if self.known(i, length) else math.nan

        ofi, part = math.nan, self.window(i, 60)
        if self.known(i, 60):
            ofi = over(sum(self.order_flow[part]), int((self.bid_size[part] + self.ask_size[part]).sum()))
        return {
            "imbalance": over(int(self.bid_size[i] - self.ask_size[i]), int(self.bid_size[i] + self.ask_size[i])),
            "ofi_60s": ofi, "flow_60s": signs(60), "flow_300s": signs(300),
        }

    def activity(self, i: int) -> Row:
        if not self.known(i, 300):
            return {"rate_60s": math.nan, "pace_10t": math.nan}
        minute, five = len(self.ts[self.window(i, 60)]), len(self.ts[self.window(i, 300)])
        d = int(self.ts[i] - self.ts[i - 10]) / 10 if self.since(i) >= 10 else math.nan
        return {"rate_60s": (minute / 60) / (five / 300), "pace_10t": over(d, d + 300 * SECOND / five)}

    def distance(self, i: int) -> Row:
        if not self.known(i, 300):
            return {"donchian_300s": math.nan, "vwap_300s": math.nan, "zscore_300s": math.nan}
        part = self.window(i, 300)
        mid, mids = int(self.mid[i]), self.mid[part]
        sizes = (self.bid_size[part] + self.ask_size[part]).astype(float)
        low, high = int(mids.min()), int(mids.max())
        above = float((sizes * (mid - mids)).sum())               # of the mid over the volume-weighted one, times the size
        closes = self.closes(i)
        mean = over(sum(closes), len(closes))
        deviation = spread_out(closes) if closes else math.nan
        return {
            "donchian_300s": (mid - low) / (high - low) if high > low else 0.5,
            "vwap_300s": over(over(above, float(sizes.sum())) / 2, self.sigma(i) * math.sqrt(300)),
            "zscore_300s": over(mid - mean, deviation),
        }

    @cached_property
    def series(self) -> dict[str, list[float]]:
        """The indicators after each closed bar, by name and length; ATR and Bollinger width in points."""
        return {f"{name}_{length}": tell(self.bars[seconds]) for length, seconds in LENGTHS.items()
                for name, tell in INDICATORS.items()}

    def indicators(self, i: int) -> Row:
        told: Row = {}
        for length, seconds in LENGTHS.items():
            k, sigma = self.closed(i, seconds), self.sigma(i)
            for name in INDICATORS:
                value = self.series[f"{name}_{length}"][k - 1] if k else math.nan
                told[f"{name}_{length}"] = over(value, sigma * math.sqrt(seconds)) if name in ("boll", "atr") else value
        return told


def bars_of(ts: I64, mid: NDArray[np.int64], seconds: int) -> list[Bar]:
    """Every bar with ticks, in order; the last one is still open."""
    number = ts // (seconds * SECOND)
    cuts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(ts)]
    return [
        Bar((int(number[a]) + 1) * seconds * SECOND, int(mid[a]), int(mid[a:b].max()), int(mid[a:b].min()), int(mid[b - 1]))
        for a, b in pairwise(cuts)
    ]


def spread_out(values: Sequence[int]) -> float:
    """Standard deviation (ddof 0), from whole numbers."""
    n = len(values)
    return math.sqrt(n * sum(v * v for v in values) - sum(values) ** 2) / n


def nine(closes: Sequence[float]) -> list[float]:
    """ret1, its lags 1, 2, 5, 8, vol14, vol50, mom5, mom15 of the last (at most 60) closes."""
    def ret(back: int) -> float:
        return closes[-1 - back] / closes[-2 - back] - 1 if len(closes) >= back + 2 else math.nan

    def vol(count: int) -> float:
        rets = [ret(back) for back in range(count)]
        mean = math.fsum(rets) / count
        return math.sqrt(math.fsum((r - mean) ** 2 for r in rets) / (count - 1))

    def mom(back: int) -> float:
        return closes[-1] - closes[-1 - back] if len(closes) > back else math.nan

    return [ret(0), ret(1), ret(2), ret(5), ret(8), vol(14), vol(50), mom(5), mom(15)]


# ---- indicators: a value after each bar, NaN until known; prices in half-points


def _nan(n: int) -> list[float]:
    return [math.nan] * n


def wilder(values: Sequence[float], n: int = 14) -> list[float]:
    """Wilder's mean: of the first n plainly, then (13 · before + value) / 14."""
    means = _nan(len(values))
    for i in range(n - 1, len(values)):
        means[i] = sum(values[:n]) / n if i == n - 1 else (means[i - 1] * (n - 1) + values[i]) / n
    return means


def rsi(bars: Sequence[Bar]) -> list[float]:
    moves = [b.close - a.close for a, b in pairwise(bars)]
    gains, losses = wilder([max(m, 0) for m in moves]), wilder([max(-m, 0) for m in moves])
    return [math.nan, *(0.5 if g + x == 0 else g / (g + x) for g, x in zip(gains, losses, strict=True))][:len(bars)]


def true_ranges(bars: Sequence[Bar]) -> list[int]:
    """From the second bar on."""
    return [max(b.high, a.close) - min(b.low, a.close) for a, b in pairwise(bars)]


def atr(bars: Sequence[Bar]) -> list[float]:
    """Points."""
    return [math.nan, *(mean / 2 for mean in wilder(true_ranges(bars)))][:len(bars)]


def ema(closes: Sequence[int], n: int, first: int) -> list[float]:
    """2 / (n + 1) of each close; it starts at `first`, with the plain mean of the n closes up to there."""
    means = _nan(len(closes))
    for i in range(first, len(closes)):
        means[i] = (
            sum(closes[first - n + 1:first + 1]) / n if i == first
            else means[i - 1] + 2 / (n + 1) * (closes[i] - means[i - 1])
        )
    return means


def macd(bars: Sequence[Bar]) -> list[float]:
    """Both averages start at the 26th bar, as TA-Lib's."""
    closes = [bar.close for bar in bars]
    fast, slow = ema(closes, 12, 25), ema(closes, 26, 25)
    return [over((f - s) / 2, a) for f, s, a in zip(fast, slow, atr(bars), strict=True)]


def stoch(bars: Sequence[Bar]) -> list[float]:
    fast = _nan(len(bars))
    for i in range(13, len(bars)):
        low, high = min(b.low for b in bars[i - 13:i + 1]), max(b.high for b in bars[i - 13:i + 1])
        fast[i] = (bars[i].close - low) / (high - low) if high > low else 0.5
    return [sum(fast[i - 2:i + 1]) / 3 if i >= 2 else math.nan for i in range(len(bars))]


def cci(bars: Sequence[Bar]) -> list[float]:
    """In whole numbers up to the last division, so that a mean of equal prices is that price; 0 / 0 is 0, as TA-Lib's."""
    typical = [b.high + b.low + b.close for b in bars]            # 3 tp
    told = _nan(len(bars))
    for i in range(19, len(bars)):
        last = typical[i - 19:i + 1]
        apart = [20 * tp - sum(last) for tp in last]              # 60 (tp − mean)
        deviation = sum(abs(a) for a in apart) / 20
        told[i] = apart[-1] / (0.015 * deviation) / 100 if deviation else 0.0
    return told


def adx(bars: Sequence[Bar]) -> list[float]:
    """TA-Lib's start: sums of 13 movements and ranges, then each loses a 14th of itself with every bar; the first ADX is
    the mean of 14 DX. A bar without range or direction adds 0 to that mean, and later leaves the ADX as it is."""
    pairs = list(pairwise(bars))
    ups = [b.high - a.high for a, b in pairs]
    downs = [a.low - b.low for a, b in pairs]
    plus = [up if up > down and up > 0 else 0 for up, down in zip(ups, downs, strict=True)]
    minus = [down if down > up and down > 0 else 0 for up, down in zip(ups, downs, strict=True)]
    told, p, m = _nan(len(bars)), float(sum(plus[:13])), float(sum(minus[:13]))
    firsts: list[float] = []
    for i in range(13, len(pairs)):
        p += plus[i] - p / 14
        m += minus[i] - m / 14
        dx = abs(p - m) / (p + m) if p + m else None
        if len(firsts) < 14:
            firsts.append(dx or 0.0)
            told[i + 1] = sum(firsts) / 14 if len(firsts) == 14 else math.nan
        else:
            told[i + 1] = told[i] if dx is None else (told[i] * 13 + dx) / 14
    return told


def boll(bars: Sequence[Bar]) -> list[float]:
    """Points."""
    closes = [bar.close for bar in bars]
    return [4 * spread_out(closes[i - 19:i + 1]) / 2 if i >= 19 else math.nan for i in range(len(closes))]


INDICATORS: dict[str, Callable[[Sequence[Bar]], list[float]]] = {
    "rsi": rsi, "macd": macd, "stoch": stoch, "cci": cci, "adx": adx, "boll": boll, "atr": atr,
}
