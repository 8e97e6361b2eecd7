"""A row of a benchmark: what was measured of us, of whom we are held against, and whether the target is met."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """Medians over `rounds`. theirs, ratio (ours / theirs): None where there is nobody to compare with."""

    what: str
    ours: float
    peer: str
    theirs: float | None
    unit: str
    rounds: int
    target: str = ""
    met: bool | None = None
    """None where no target is set."""
    counts: dict[str, int] = field(default_factory=dict)
    """What one round was made of."""
    reason: str = ""
    """Why `theirs` is empty though there is a peer, and what to do about it."""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.theirs if self.theirs else None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio}

    def cells(self) -> tuple[str, ...]:
        """what, ours, peer, theirs, unit, ratio, target, met; for a table."""
        peer = f"{self.peer}, {self.reason}" if self.reason else self.peer
        return (
            self.what, number(self.ours), peer, number(self.theirs), self.unit, number(self.ratio), self.target,
            {None: "", True: "yes", False: "no"}[self.met],
        )


COLUMNS = ("what", "ours", "peer", "theirs", "unit", "ratio", "target", "met")


def number(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
