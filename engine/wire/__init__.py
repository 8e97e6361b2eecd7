"""What travels: ticks as JSON lines or packed frames, signals and rejects as JSON records."""

from __future__ import annotations
