"""Staging: bundles are verified, loaded and tried beside the loop, so that no tick waits for a load."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from ..errors import TocsinError
from .bundle import Bundle

KEPT = 4
"""Staged bundles kept: what answers, what comes next, and what a slower partition still has to meet."""

Name = tuple[str, str]
"""Version and digest of its manifest."""


class Staging:
    """What is staged, what is wanted. `wanted`, `ready` and `get` are the loop's, `work` another thread's."""

    def __init__(self, load: Callable[[str, str], Bundle]) -> None:
        """load: a verified bundle by version and digest, its kernels called once. Raises what speaks against it."""
        self._load = load
        self._lock = Lock()
        self._done: OrderedDict[Name, Bundle | TocsinError] = OrderedDict()
        self._wanted: list[Name] = []

    def ready(self, version: str, digest: str) -> bool:
        """Whether the bundle is staged; if not it is wanted from now on. Raises TocsinError when it can't be."""
        with self._lock:
            done = self._done.get((version, digest))
            if done is None and (version, digest) not in self._wanted:
                self._wanted.append((version, digest))
        if isinstance(done, TocsinError):
            raise done
        return done is not None

    def refused(self, version: str, digest: str) -> bool:
        """Whether something speaks against the bundle, as far as it was looked at."""
        return isinstance(self._done.get((version, digest)), TocsinError)

    def get(self, version: str, digest: str) -> Bundle:
        """The staged bundle; loaded here and now if it isn't. Raises what `load` raises."""
        done = self._done.get((version, digest)) or self.stage(version, digest)
        if isinstance(done, TocsinError):
            raise done
        return done

    def stage(self, version: str, digest: str) -> Bundle | TocsinError:
        """Make it ready; the bundle, or what speaks against it."""
        name = (version, digest)
        done = self._done.get(name)
        if not isinstance(done, Bundle):           # what was refused may have been mended meanwhile
            try:
                done = self._load(version, digest)
            except TocsinError as error:
                done = error
        with self._lock:
            self._done[name] = done
            self._done.move_to_end(name)
            while len(self._done) > KEPT:
                self._done.popitem(last=False)
            if name in self._wanted:
                self._wanted.remove(name)
        return done

    def work(self) -> None:
        """Stage what the loop waits for."""
        for version, digest in list(self._wanted):
            self.stage(version, digest)
