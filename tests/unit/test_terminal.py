"""What is printed for people."""

from __future__ import annotations

import pytest

from engine.terminal import printable, table


def test_a_table_never_acts_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table("", ("symbol", "payload"), [("\x1b[31mRED\x07", "a\0b"), ("μ", "two\nlines")])
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\0"} & set(shown)
    assert "\\x1b[31mRED" in shown
    assert "μ" in shown


def test_what_is_printable_stays() -> None:
    assert printable("EUR/USD → 1.1") == "EUR/USD → 1.1"
