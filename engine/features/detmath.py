"""Logarithm and exponential with the same bits on any x86-64 machine.

libm's versions differ between processors (FMA, AVX variants), so nothing that decides a published byte may call them.
These use only IEEE-754 add, multiply, divide, in a fixed order. Method and coefficients: fdlibm's e_log.c and e_exp.c
(Sun Microsystems, 1993); error below 1 ulp.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from ..jit import subkernel

LN2 = 0.6931471805599453
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
_INV_LN2 = 1.44269504088896338700


@intrinsic  # type: ignore[untyped-decorator]
def _bits(typing_context: Any, x: Any) -> Any:
    """The 64 bits of a float64, as an int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _float(typing_context: Any, x: Any) -> Any:
    """The float64 that has these 64 bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@subkernel
def det_log(x: float) -> float:
    """Natural logarithm of a positive normal number (not checked)."""
    bits = _bits(x)
    high = bits >> 32
    exponent = (high >> 20) - 1023
    high &= 0xFFFFF
    carry = (high + 0x95F64) & 0x100000
    x = _float((bits & 0xFFFFFFFF) | ((high | (carry ^ 0x3FF00000)) << 32))
    exponent += carry >> 20
    f = x - 1.0
    s = f / (2.0 + f)
    k = float(exponent)
    z = s * s
    w = z * z
    t1 = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01))
    t2 = z * (
        6.666666666666735130e-01
        + w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01))
    )
    half = 0.5 * f * f
    return k * _LN2_HIGH - ((half - (s * (half + t2 + t1) + k * _LN2_LOW)) - f)


@subkernel
def det_exp(x: float) -> float:
    """Exponential for |x| <= 700; 0 below, the value at 700 above."""
    if x < -700.0:
        return 0.0
    x = min(x, 700.0)
    k = np.int64(_INV_LN2 * x - 0.5) if x < 0.0 else np.int64(_INV_LN2 * x + 0.5)
    high = x - k * _LN2_HIGH
    low = k * _LN2_LOW
    y = high - low
    t = y * y
    c = y - t * (
        1.66666666666666019037e-01
        + t
        * (
            -2.77777777770155933842e-03
            + t * (6.61375632143793436117e-05 + t * (-1.65339022054652515390e-06 + t * 4.13813679705723846039e-08))
        )
    )
    r = 1.0 - ((low - (y * c) / (2.0 - c)) - high)
    return float(_float(_bits(r) + (k << 52)))
