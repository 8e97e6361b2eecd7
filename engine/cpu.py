"""Which way forests are answered on this machine: chosen by what kernels are compiled for, or forced.

Every way gives the same bits.
"""

from __future__ import annotations

import os

from numba.core.registry import cpu_target

from .errors import UsageError

PORTABLE, AVX2, AVX512 = WAYS = ("portable", "avx2", "avx512")

_NEEDS = {AVX512: ("avx512f", "avx512bw", "avx512vbmi"), AVX2: ("avx2",), PORTABLE: ()}

FORCE = "TOCSIN_FOREST"


def way() -> str:
    """The best way there is, or the one that $TOCSIN_FOREST names. Raises UsageError (`forest_way`) for one that isn't here."""
    there = possible()
    forced = os.environ.get(FORCE, "") or there[0]
    if forced not in there:
        raise UsageError(
            "forest_way", f"${FORCE} is {forced!r}, this processor has {', '.join(there)}", hint=f"unset {FORCE}"
        )
    return forced


def possible() -> list[str]:
    """The ways kernels can go, best first: numba's settings may hold back what the processor has, and an instruction that the
    compiler may not use ends the process."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    has = set(features.split(","))
    return [name for name in reversed(WAYS) if all(f"+{feature}" in has for feature in _NEEDS[name])]
