"""Arrays that end where readable memory ends: a kernel that reads or writes one byte beyond them kills the process."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from engine.instruments import Instruments, SymbolTable
from engine.types import Entry, Kind
from engine.wire import columns, frame, scan
from engine.wire.ticks import decode, encode
from tests.made import made_ticks

_protect = ctypes.CDLL(None, use_errno=True).mprotect
_protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_PAGE = mmap.PAGESIZE


def ending(size: int) -> Any:
    """So many bytes, writable, behind which lies a page that nobody may touch."""
    pages = -(-size // _PAGE) * _PAGE
    memory = np.frombuffer(mmap.mmap(-1, pages + _PAGE), np.uint8)
    if _protect(memory.ctypes.data + pages, _PAGE, 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    return memory[pages - size:pages]


class _Guarding:
    """NumPy, whose new arrays end so."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, shape: Any, dtype: Any) -> Any:
        return ending((shape if isinstance(shape, int) else prod(shape)) * np.dtype(dtype).itemsize).view(dtype).reshape(shape)

    def zeros(self, shape: Any, dtype: Any) -> Any:
        return self.empty(shape, dtype)

    def array(self, content: Any, dtype: Any) -> Any:
        found = np.array(content, dtype)
        guarded = self.empty(found.shape, dtype)
        guarded[...] = found
        return guarded

    def frombuffer(self, content: Any, dtype: Any) -> Any:
        guarded = self.array(np.frombuffer(content, dtype), dtype)
        guarded.flags.writeable = not isinstance(content, bytes)
        return guarded


@contextmanager
def guarded() -> Iterator[None]:
    """Whatever is decoded meanwhile lies right before memory that can't be read, and so does what is made of it."""
    _compile()
    modules: tuple[Any, ...] = (scan, columns)
    before = [module.np for module in modules]
    for module in modules:
        module.np = _Guarding()
    try:
        yield
    finally:
        for module, numpy in zip(modules, before, strict=True):
            module.np = numpy


def _compile() -> None:
    """Kernels are compiled with the true NumPy."""
    ticks = made_ticks(2, flaws=False)
    payloads = (encode(ticks, 0), frame.pack(ticks), frame.pack(ticks))
    decode([Entry((0, at + 1), Kind.TICKS, payload) for at, payload in enumerate(payloads)], SymbolTable(Instruments()))
