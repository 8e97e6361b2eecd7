"""The one way a kernel of ours is compiled: nogil, no fastmath, cached by the hash of every kernel source.

numba's own cache looks only at the file of the function itself, so a kernel that calls a changed function from
another file would be answered from the stale cache. Ours lies in a folder named by the hash of all sources in which
kernels live, and touches neither the environment nor the caches of the user's own numba functions.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from llvmlite import ir
from numba import njit
from numba.core import caching, types
from numba.extending import intrinsic, is_jitted

F = TypeVar("F", bound=Callable[..., Any])

_KERNEL_SOURCES = (".", "../trainers/costs.py", "../trainers/labels.py")
"""All of the engine: a kernel freezes the constants it uses, wherever they stand."""


@lru_cache(1)
def cache_folder() -> Path:
    """Where compiled kernels lie, one folder per state of the sources: the user's cache, or a private temporary one."""
    digest = hashlib.sha256(numba.__version__.encode())
    here = Path(__file__).parent
    for source in _KERNEL_SOURCES:
        place = here / source
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place] * place.exists():
            digest.update(file.read_bytes())
    users = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(users, "tocsin", "kernels", digest.hexdigest()[:16])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:                            # a home that can't be written, as in many containers
        folder = Path(tempfile.mkdtemp(prefix="tocsin-kernels-"))
    return folder


def is_cold() -> bool:
    """Whether kernels must be compiled first, which takes about half a minute."""
    return not any(cache_folder().iterdir())


class _Locator(caching.UserProvidedCacheLocator):  # type: ignore[misc]
    def __init__(self, py_func: Any, py_file: str) -> None:
        self._py_file = py_file
        self._lineno = py_func.__code__.co_firstlineno
        self._cache_path = str(cache_folder() / self.get_suitable_cache_subpath(py_file))

    def get_source_stamp(self) -> Any:
        return cache_folder().name

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        return cls(py_func, py_file)


class _CacheImpl(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Locator,)


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _CacheImpl


class _ReleasingLocator(_Locator):
    """numba's index doesn't tell a function that releases the lock from the same function that keeps it."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        super().__init__(py_func, py_file)
        self._cache_path += "-releasing"


class _ReleasingCacheImpl(_CacheImpl):
    _locator_classes = (_ReleasingLocator,)


class _ReleasingCache(_Cache):
    _impl_class = _ReleasingCacheImpl


def kernel(function: F) -> F:
    """Compile a kernel: `nogil`, NumPy's error model, never fastmath (bits must not depend on the machine)."""
    dispatcher = njit(nogil=True, error_model="numpy")(function)
    dispatcher._cache = _Cache(function)
    return dispatcher  # type: ignore[no-any-return]


@lru_cache
def entry(function: Callable[..., int], arguments: int, releasing: bool = False) -> Callable[..., int]:
    """A kernel of so many int64 as a bare C function. It keeps the interpreter's lock, for calls that take no time, unless
    it is `releasing` it.

    Nobody looks at the arguments' types first, which costs more than a small kernel does.
    """
    dispatcher = njit(nogil=releasing, error_model="numpy")(function)
    dispatcher._cache = (_ReleasingCache if releasing else _Cache)(function)
    return dispatcher.compile((types.int64,) * arguments)  # type: ignore[no-any-return]


def around(function: F) -> F:
    """Compile what calls a stranger's compiled function: in each process anew, since numba caches no such thing."""
    return njit(nogil=True, error_model="numpy")(function)  # type: ignore[no-any-return]


def is_compiled(function: object) -> bool:
    """Whether numba compiles it."""
    return bool(is_jitted(function))


def subkernel(function: F) -> F:
    """A piece of a kernel: compiled into each kernel that calls it, never cached on its own."""
    return njit(nogil=True, error_model="numpy", forceinline=True)(function)  # type: ignore[no-any-return]


@intrinsic  # type: ignore[untyped-decorator]
def pointer(typing_context: Any, array: Any, first: Any) -> Any:
    """Where `array[first]` begins, C-contiguous of one or two dimensions: indexed like an array of its elements.

    An array handed from piece to piece of a kernel counts its references, atomically; a pointer costs nothing and is
    never checked: what is behind it must outlive the call.
    """
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parts = context.make_array(signature.args[0])(context, builder, args[0])
        at = args[1]
        if array.ndim == 2:
            at = builder.mul(at, builder.extract_value(parts.shape, 1))
        return builder.gep(parts.data, [at])

    return types.CPointer(array.dtype)(array, types.int64), codegen  # type: ignore[attr-defined]


@intrinsic  # type: ignore[untyped-decorator]
def words_at(typing_context: Any, address: Any) -> Any:
    """64-bit words from an address on."""
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(64).as_pointer())

    return types.CPointer(types.int64)(types.int64), codegen  # type: ignore[attr-defined]


@intrinsic  # type: ignore[untyped-decorator]
def as_halves(typing_context: Any, words: Any) -> Any:
    """The same memory, read as int32, two to a word."""
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32).as_pointer())

    return types.CPointer(types.int32)(words), codegen  # type: ignore[attr-defined]


@intrinsic  # type: ignore[untyped-decorator]
def as_singles(typing_context: Any, words: Any) -> Any:
    """The same memory, read as float32, two to a word."""
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType().as_pointer())

    return types.CPointer(types.float32)(words), codegen  # type: ignore[attr-defined]


@intrinsic  # type: ignore[untyped-decorator]
def as_floats(typing_context: Any, words: Any) -> Any:
    """The same memory, its 64-bit words read as float64."""
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType().as_pointer())

    return types.CPointer(types.float64)(words), codegen  # type: ignore[attr-defined]
