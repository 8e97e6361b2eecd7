"""A child tells its parent how it went; one whose parent was killed ends without a word."""

from __future__ import annotations

from multiprocessing import Pipe

from trainers.family import tell


def test_what_is_told_arrives() -> None:
    ours, theirs = Pipe()
    tell(theirs, ("done", 1))
    assert ours.recv() == ("done", 1)


def test_nobody_there_is_no_error() -> None:
    ours, theirs = Pipe()
    ours.close()
    tell(theirs, ("done", 1))
