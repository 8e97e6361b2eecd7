"""What is hidden of a text, and what isn't."""

from __future__ import annotations

import pytest

from engine.hidden import hide


@pytest.mark.parametrize("text", [
    "redis://127.0.0.1:6379/0: it can't write to its disk (script: abc, on @user_script:3.)",
    "redis://localhost:6379: refused on @user_script:3", "redis://localhost/0, mail me@home",
])
def test_a_url_without_a_password_is_shown_and_what_is_said_behind_it(text: str) -> None:
    assert hide(text) == text


@pytest.mark.parametrize("text", [
    "redis://user:tell-tale@host:6379/0: on @user_script:3", "redis://:tell-tale@host", "rediss://u:6379tell-tale@h/0",
    "redis://user:tell tale/with@and:tell-tale@host", "redis://u:1/tell-tale@h", "redis://h?password=tell-tale&db=1",
    "redis://me@corp.com:tell-tale@host", "redis://me/you:tell-tale@host:6379/0",
])
def test_a_password_never(text: str) -> None:
    assert "tell" not in hide(text)
