"""docs/features/*.svg, a picture per family: its columns over some hours of a made market. `make schemas` writes them.

Numbers are rounded to a tenth of a pixel, so that the files are the same wherever the columns are.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.features import FeatureSet
from engine.features.families import indicators
from engine.features.families.calendar import SESSIONS
from engine.features.kernel import layout
from engine.feeds.market import lively
from engine.types import F64, I64
from engine.zones import offsets

FOLDER = Path(__file__).parent.parent / "docs" / "features"

SEED, BEGIN, DAYS = 1, "2024-03-07", 11
"""Of the market. New York changes its clocks on 2024-03-10, London three weeks later."""
STRETCHES = {
    "time": ("2024-03-14 07:00", 4),
    "sigma": ("2024-03-10 20:00", 28),
    "spread": ("2024-03-14 20:30", 2),
    "calendar": ("2024-03-08 00:00", 240),
    "returns": ("2024-03-14 07:00", 4),
    "volatility": ("2024-03-14 07:00", 4),
    "flow": ("2024-03-14 07:00", 1),
    "activity": ("2024-03-14 07:00", 4),
    "distance": ("2024-03-14 07:00", 4),
    "indicators_1m": ("2024-03-14 07:00", 4),
    "indicators_5m": ("2024-03-14 00:00", 24),
    "indicators_15m": ("2024-03-11 00:00", 72),
    "indicators_1h": ("2024-03-07 00:00", 264),
}
"""Picture, named as the family (and the length of its bars): from when on (UTC), and how many hours."""
TOLD = f"""\
The pictures show a made market (`engine/feeds/market.py`, seed {SEED}, {DAYS} days from {BEGIN} on, in which New York has changed
its clocks and London hasn't): its mid, and below it what each column makes of bursts, holes, and calm and wild hours.
"""

HOUR, MINUTE, SECOND = 3600 * 10**9, 60 * 10**9, 10**9
HOLE, BURST = 600 * SECOND, 140
"""ns without a tick; ticks in a second."""
BUCKETS, PIXELS = 300, 2
"""Of time in a line, and how wide each is: room for its lowest and its highest value."""
LEFT, TOP, HIGH, APART = 152, 64, 54, 8
"""Pixels left of the panels and above them, of a panel, and between two."""
WIDTH = LEFT + BUCKETS * PIXELS + 32
STEPS = (10, 15, 30, 60, 180, 360, 720, 1440, 2880)
"""Minutes between two labels."""
WEEKDAYS = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")
"""1970 began on a Thursday."""

STYLE = """\
    .page { fill: #ffffff; }
    text { font: 11px system-ui, sans-serif; fill: #57606a; }
    .head { font-size: 14px; font-weight: 600; fill: #24292f; }
    .name { font-size: 12px; fill: #24292f; }
    .end { text-anchor: end; }
    .middle { text-anchor: middle; }
    .panel { fill: none; stroke: #d0d7de; }
    .hole { fill: #eaeef2; }
    .zero { stroke: #afb8c1; stroke-dasharray: 2 3; }
    .open { stroke: #8250df; stroke-opacity: 0.3; }
    .burst { stroke: #fb8f44; stroke-width: 2; }
    polyline { fill: none; stroke: #0969da; stroke-linejoin: round; }
    .mid polyline { stroke: #24292f; }
"""


class Market(NamedTuple):
    """By admitted tick: ns UTC, mid, columns."""

    ts: I64
    mid: F64
    columns: dict[str, F64]


def market() -> Market:
    ticks = lively(DAYS, SEED, ("EURUSD",), _ns(BEGIN))
    frame = FeatureSet.default().frame(ticks)
    rows = frame["row"].to_numpy()
    columns = {name: frame[name].to_numpy().astype(np.float64) for name in FeatureSet.default().names}
    return Market(ticks.ts[rows], (ticks.bid[rows] + ticks.ask[rows]) / 200_000, columns)


def documents() -> dict[str, str]:
    """File name -> SVG."""
    whole = market()
    return {f"{name}.svg": picture(name, whole) for name in STRETCHES}


def columns_of(name: str) -> list[str]:
    """Those of a picture."""
    family, _, length = name.partition("_")
    (columns,) = (each.columns for each in layout(indicators.USUAL) if each.name == family)
    return [column.name for column in columns if column.name.endswith(f"_{length}" if length else "")]


# ---- a picture


def picture(name: str, whole: Market) -> str:
    begin, hours = _ns(STRETCHES[name][0]), STRETCHES[name][1]
    first, last = np.searchsorted(whole.ts, [begin, begin + hours * HOUR])
    ts = whole.ts[first:last] - begin
    lines = {"mid": whole.mid, **{column: whole.columns[column] for column in columns_of(name)}}
    bottom = TOP + len(lines) * (HIGH + APART) - APART
    panels = [
        _panel(column, TOP + k * (HIGH + APART), _outline(ts, values[first:last], hours))
        for k, (column, values) in enumerate(lines.items())
    ]
    since, until = _clock(begin), _clock(begin + hours * HOUR)
    heading = f"{name}, {since} to {until.removeprefix(since[:11])} UTC"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 28}" role="img" aria-labelledby="title">',
        f'  <title id="title">{heading}</title>',
        f"  <style>\n{STYLE}  </style>",
        '  <rect class="page" width="100%" height="100%"/>',
        f'  <text class="head" x="10" y="22">{heading}</text>',
        '  <text x="10" y="39">grey: 10 minutes and more without a tick; orange: a burst; T, L, N: Tokyo, London, New York open'
        "</text>",
        *_holes(ts, hours, bottom),
        *_opens(begin, hours, bottom),
        *_bursts(ts, hours),
        *panels,
        *_hours(begin, hours, bottom),
        "</svg>\n",
    ])


def _panel(name: str, top: int, runs: list[list[tuple[int, float]]]) -> str:
    """A frame with the column's name, its range and its line."""
    values = [value for run in runs for _, value in run]
    low, high = min(values), max(values)
    shown = "{:.5f}" if name == "mid" else "{:.3g}"

    def y(value: float) -> str:
        share = (value - low) / (high - low) if high > low else 0.5
        return f"{top + HIGH - 3 - share * (HIGH - 6):.1f}".removesuffix(".0")

    parts = [
        f'  <g class="{name}">',
        f'    <rect class="panel" x="{LEFT}" y="{top}" width="{BUCKETS * PIXELS}" height="{HIGH}"/>',
        f'    <text class="name" x="10" y="{top + HIGH // 2 + 4}">{name}</text>',
        f'    <text class="end" x="{LEFT - 6}" y="{top + 11}">{shown.format(high)}</text>',
        f'    <text class="end" x="{LEFT - 6}" y="{top + HIGH - 3}">{shown.format(low)}</text>',
    ]
    if low < 0 < high:
        parts.append(f'    <path class="zero" d="M{LEFT} {y(0.0)}h{BUCKETS * PIXELS}"/>')
    for run in runs:
        points = _without_middles([(LEFT + x, y(value)) for x, value in run])
        parts.append(f'    <polyline points="{" ".join(f"{x},{at}" for x, at in points)}"/>')
    return "\n".join([*parts, "  </g>"])


def _outline(ts: I64, values: F64, hours: int) -> list[list[tuple[int, float]]]:
    """Runs of (pixel, value): the lowest and the highest value of each bucket; a hole and a bucket of NaN part them."""
    bucket = ts * BUCKETS // (hours * HOUR)
    first = np.flatnonzero(np.diff(bucket, prepend=-1))
    last = np.append(first[1:], ts.size) - 1
    lowest, highest = np.fmin.reduceat(values, first), np.fmax.reduceat(values, first)
    rises = values[last] >= values[first]
    after_hole = ts[first] - np.append(ts[0], ts[last[:-1]]) > HOLE
    runs: list[list[tuple[int, float]]] = [[]]
    for k, low, high, rising, parted in zip(
        bucket[first].tolist(), lowest.tolist(), highest.tolist(), rises.tolist(), after_hole.tolist(), strict=True
    ):
        if (parted or low != low) and runs[-1]:
            runs.append([])
        if low == low:
            runs[-1] += [(PIXELS * k, low if rising else high), (PIXELS * k + 1, high if rising else low)]
    return [run for run in runs if run]


def _without_middles(points: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Without what lies within a level stretch."""
    return [
        point for k, point in enumerate(points)
        if not (0 < k < len(points) - 1 and points[k - 1][1] == point[1] == points[k + 1][1])
    ]


# ---- what lies behind the panels, and the hours below


def _x(ns: int, hours: int) -> int:
    return LEFT + round(BUCKETS * PIXELS * ns / (hours * HOUR))


def _holes(ts: I64, hours: int, bottom: int) -> list[str]:
    edges = np.concatenate([[0], ts, [hours * HOUR]])
    spans = [(_x(int(edges[k]), hours), _x(int(edges[k + 1]), hours)) for k in np.flatnonzero(np.diff(edges) > HOLE)]
    return [f'  <rect class="hole" x="{a}" y="{TOP}" width="{b - a}" height="{bottom - TOP}"/>' for a, b in spans]


def _bursts(ts: I64, hours: int) -> list[str]:
    seconds, ticks = np.unique(ts // SECOND, return_counts=True)
    return [f'  <path class="burst" d="M{_x(int(second) * SECOND, hours)} {TOP}v-6"/>' for second in seconds[ticks >= BURST]]


def _opens(begin: int, hours: int, bottom: int) -> list[str]:
    """A line at each hour at which a city opens."""
    parts = []
    for hour in range(hours):
        now = begin + hour * HOUR
        for city, opens, _ in SESSIONS:
            starts, ahead = offsets(city)
            local = now // SECOND + int(ahead[np.searchsorted(starts, now, "right") - 1])
            if local // 60 % 1440 == opens and WEEKDAYS[local // 86_400 % 7] not in ("Sat", "Sun"):
                x = _x(hour * HOUR, hours)
                parts.append(f'  <path class="open" d="M{x} {TOP - 6}V{bottom}"/>')
                parts.append(f'  <text class="middle" x="{x}" y="{TOP - 10}">{city.partition("/")[2][0]}</text>')
    return parts


def _hours(begin: int, hours: int, bottom: int) -> list[str]:
    step = next(step for step in STEPS if 60 * hours / step <= 8) * MINUTE
    parts = []
    for now in range(-(-begin // step) * step, begin + hours * HOUR + 1, step):
        midnight = now % (24 * HOUR) == 0 and hours > 24
        told = f"{WEEKDAYS[now // (24 * HOUR) % 7]} {_clock(now)[5:10]}" if midnight else _clock(now)[11:]
        x = _x(now - begin, hours)
        parts.append(f'  <path class="panel" d="M{x} {bottom}v4"/>')
        parts.append(f'  <text class="middle" x="{x}" y="{bottom + 17}">{told}</text>')
    return parts


def _ns(told: str) -> int:
    return int(datetime.fromisoformat(told).replace(tzinfo=UTC).timestamp()) * SECOND


def _clock(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // SECOND, UTC):%Y-%m-%d %H:%M}"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in documents().items():
        (FOLDER / name).write_text(text)
