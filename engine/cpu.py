"""Which way forests are answered on this machine: chosen by what its processor can do, or forced.

Every way gives the same bits.
"""

from __future__ import annotations

import os

from llvmlite.binding import get_host_cpu_features

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
    """The ways this processor can go, best first. NUMBA_CPU_FEATURES, which says what kernels are compiled for, counts."""
    named = os.environ.get("NUMBA_CPU_FEATURES")
    has = get_host_cpu_features() if named is None else {word[1:]: word[0] == "+" for word in named.split(",") if word}
    return [name for name in reversed(WAYS) if all(has.get(feature, False) for feature in _NEEDS[name])]
