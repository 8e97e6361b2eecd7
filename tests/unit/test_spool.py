"""What waits on disk: in order, whole, of a stated size, whatever killed who wrote it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import OwnershipLost, TocsinError, TransportUnreachable
from engine.feeds import spool as module
from engine.feeds.spool import Spool, Spooled

IDENTITY = "0123456789abcdef" * 2
MB = 2**20


def record(n: int, size: int = 100) -> Spooled:
    return Spooled(n % 3, 1 + n % 5, (b"%d " % n).ljust(size, b"."))


def all_of(spool: Spool, most: int = 1000) -> list[Spooled]:
    found: list[Spooled] = []
    while records := spool.first(most):
        found += records
        spool.sent(records)
    return found


def test_what_was_added_comes_back_in_order_over_many_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT", 5_000)
    spool = Spool(tmp_path / "a", IDENTITY, MB)
    records = [record(n) for n in range(500)]
    assert spool.add(records) == 500
    assert spool.ticks == sum(r.ticks for r in records)
    assert len(list((tmp_path / "a").glob("*.spool"))) > 5
    first = spool.first(1000)
    spool.sent(first)
    assert spool.add([record(500)]) == 1
    spool.close()

    again = Spool(tmp_path / "a", IDENTITY, MB)
    assert first + all_of(again) == [*records, record(500)]
    assert (again.ticks, again.bytes, again.first(1)) == (0, 0, [])
    assert not list((tmp_path / "a").glob("*.spool"))
    again.close()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 3000), flipped=st.booleans())
def test_a_torn_tail_is_dropped_and_nothing_before_it(tmp_path_factory: pytest.TempPathFactory, cut: int, flipped: bool) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, IDENTITY, MB)
    records = [record(n) for n in range(20)]
    spool.add(records)
    spool.close()
    path = next(folder.glob("*.spool"))
    content = bytearray(path.read_bytes())
    if flipped:
        at = min(52 + cut, len(content) - 1)
        content[at] ^= 0x10
        whole = (at - 52) // 116
    else:
        del content[max(cut, 1):]
        whole = max((len(content) - 52) // 116, 0)
    path.write_bytes(content)
    again = Spool(folder, IDENTITY, MB)
    assert all_of(again) == records[:whole]
    assert again.add([record(99)]) == 1
    assert all_of(again) == [record(99)]
    again.close()


def test_a_killed_feed_sends_again_what_it_hadnt_noted(tmp_path: Path) -> None:
    spool = Spool(tmp_path, IDENTITY, MB)
    spool.add([record(n) for n in range(10)])
    spool.sent(spool.first(1))
    pid = os.fork()
    if pid == 0:                                   # the lock is the open file's: the child would share it
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(spool._lock)                          # killed: nothing of it is closed in order
    again = Spool(tmp_path, IDENTITY, MB)
    assert again.first(10**6) == [record(n) for n in range(1, 10)]
    again.close()


def test_a_full_spool_takes_what_fits_and_more_once_it_is_sent(tmp_path: Path) -> None:
    spool = Spool(tmp_path, IDENTITY, 3_000)
    done = spool.add([record(n) for n in range(100)])
    assert 20 < done < 26
    assert sum(path.stat().st_size for path in tmp_path.glob("*.spool")) <= 3_000
    assert spool.add([record(1)]) == 0
    assert len(all_of(spool)) == done
    assert spool.add([record(1)]) == 1
    spool.close()


def test_a_spool_is_one_feeds_and_one_logs(tmp_path: Path) -> None:
    spool = Spool(tmp_path, IDENTITY, MB)
    spool.add([record(1)])
    with pytest.raises(OwnershipLost, match="spool_locked"):
        Spool(tmp_path, IDENTITY, MB)
    spool.close()
    with pytest.raises(TransportUnreachable, match="spool_foreign"):
        Spool(tmp_path, "f" * 32, MB)
    (tmp_path / "file").write_text("")
    with pytest.raises(TocsinError, match="spool_write"):
        Spool(tmp_path / "file", IDENTITY, MB)
    again = Spool(tmp_path, IDENTITY, MB)
    assert all_of(again) == [record(1)]
    again.close()
