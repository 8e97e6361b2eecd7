"""The rights in docs/redis.md: each part can do its work with them, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine import cli, client
from engine.errors import TocsinError, TransportUnreachable
from engine.instruments import Instruments
from engine.partition import checkpoint
from engine.registry import Registry, signing
from engine.registry.append import change
from engine.transports import create_log, open_log
from engine.transports.base import Log, Record, Topic
from engine.types import NOWHERE, START, Kind, Position
from tests.engines import PARTITIONS, Running, Site, ticks, wait_for
from tests.servers import Server

PAGE = Path(__file__).parents[2] / "docs/redis.md"


def lines() -> dict[str, list[str]]:
    """The page's ACL SETUSER lines by user, as arguments."""
    found = re.findall(r"^ACL SETUSER (\w+) (.*)$", PAGE.read_text(), re.MULTILINE)
    return {user: text.split() for user, text in found}


def arguments(user: str, version: tuple[int, ...]) -> list[str]:
    """As a server of this version understands them: what stands in brackets is one argument of Redis 7, several of 6.2."""
    text = " ".join(lines()[user]).replace(">PASSWORD", f">{user}")
    if version >= (7,):
        return re.findall(r"\([^)]*\)|\S+", text)
    plain = re.sub(r"\((?:-@all )?([^)]*)\)", r"\1", text).replace("%R~", "~")
    return plain.split()


@pytest.fixture
def users(host: Server) -> Server:
    """A server that knows a user for each part, whose password is its name."""
    with host.admin() as admin:
        for user in lines():
            admin.execute_command("ACL", "SETUSER", user, *arguments(user, host.version))
        admin.execute_command("ACL", "LOG", "RESET")
    return host


@pytest.fixture
def door(users: Server) -> Iterator[Callable[[str], Log]]:
    """The log as a user sees it."""
    logs: list[Log] = [create_log(users.url("trainer:trainer"), PARTITIONS, Instruments())]

    def opened(user: str, **options: Any) -> Log:
        logs.append(open_log(users.url(f"{user}:{user}"), **options))
        return logs[-1]

    yield opened
    for log in logs:
        log.close()


def denied(server: Server) -> list[tuple[str, str]]:
    """Whom the server refused what, since last asked."""
    with server.admin() as admin:
        found = admin.execute_command("ACL", "LOG")
        admin.execute_command("ACL", "LOG", "RESET")
    entries = [dict(zip(entry[::2], entry[1::2], strict=True)) if isinstance(entry, list) else entry for entry in found]
    return [(_text(entry, "username"), _text(entry, "object")) for entry in entries]


def _text(entry: dict[Any, Any], name: str) -> str:
    value = entry.get(name, entry.get(name.encode()))
    return value.decode() if isinstance(value, bytes) else str(value)


def refused(call: Callable[[], object]) -> None:
    with pytest.raises(TransportUnreachable, match=r"\[rights\]") as caught:
        call()
    assert "docs/redis.md" in caught.value.hint


def posing_as(log: Log, owner: Log) -> None:
    """Everybody who reads the owner's hash knows its token: the fence isn't what keeps a liar out, rights are."""
    log._token = owner._token  # type: ignore[attr-defined]


class Here(Site):
    """A site on a server of one's own, whose log is opened as the trainer."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        private, public = signing.generate(folder / "keys")
        self.private = signing.load_private(private)
        self.registry = Registry(folder / "registry", public)
        self.url = server.url("engine:engine")
        self.log = open_log(server.url("trainer:trainer"))


# ---- what each part can do


def test_the_parts_work_together_with_their_rights_alone(
    users: Server, door: Callable[..., Log], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer activates, a feed sends, an engine takes over, publishes and keeps checkpoints; nothing was refused."""
    monkeypatch.setattr(checkpoint, "EVERY_TICKS", 50)
    site = Here(tmp_path, users)
    try:
        site.change(site.activation(site.publish()))
        sent = client.publish(users.url("feeder:feeder"), ticks(600))
        for _ in range(2):                                # the second takes over from the first
            with Running(site.config()):
                wait_for(lambda: len(site.signals()) == sent)
        reader = door("consumer")
        assert all(reader.checkpoints(p) for p in range(PARTITIONS))
        assert {reader.ownership(p).epoch for p in range(PARTITIONS)} >= {2}
    finally:
        site.close()
    assert denied(users) == []


def test_the_engine_can_do_all_an_owner_does(users: Server, door: Callable[..., Log]) -> None:
    log = door("engine", create=1)
    feeder = door("feeder", create=1)
    cursors = feeder.append(0, [b"x"] * 400)
    epoch = log.claim(0, "a", log.ownership(0)) or 0
    log.beat(0, epoch)
    log.stage(0, epoch, {"one": b"1", "two": b"2"})
    log.publish(0, epoch, [Record(topic, Position(cursors[n], 0), b"s") for n, topic in enumerate(Topic)], b"checkpoint")
    log.settle()
    log.unstage(0, epoch, ["one"])
    assert log.staged(0, ["one", "two"]) == [b"1", None]
    assert log.trim(0, epoch, cursors[-1], 300).ticks > 0
    assert log.extent(0).kept < 400
    log.mark(0, epoch, b"this")
    log.append(1, [b"copy"], Kind.CONTROL)
    log.post("hold.engine", b"{}")
    log.unpost("hold.engine")
    log.release(0, epoch)
    assert log.epochs(0)
    assert denied(users) == []


def test_the_trainer_records_and_writes_control_records(users: Server, door: Callable[..., Log], tmp_path: Path) -> None:
    log = door("trainer", create=1)
    site = Here(tmp_path, users)
    try:
        change(log, site.registry, site.private, lambda seen: site.activation(site.publish()), "ann", "")
    finally:
        site.close()
    log.post("hold.recorder", b"{}")
    log.unpost("hold.recorder")
    for p in range(PARTITIONS):
        log.extent(p), log.checkpoints(p), log.ownership(p), log.entry(p, START), log.staged(p, ["none"])
    assert denied(users) == []
    if users.version >= (7,):
        owner = door("engine")
        epoch = owner.claim(0, "a", owner.ownership(0)) or 0
        posing_as(log, owner)
        position = Position((1, 1), 0)
        refused(lambda: log.claim(0, "a", log.ownership(0)))
        refused(lambda: (log.publish(0, epoch, [Record(Topic.SIGNALS, position, b"")]), log.settle()))
        assert log.tail(0) == NOWHERE


# ---- what the others can't


def test_a_feed_can_append_ticks_and_nothing_else(users: Server, door: Callable[..., Log], tmp_path: Path) -> None:
    log = door("feeder", create=1)
    assert log.append(0, [b"tick"])
    assert denied(users) == []
    verb = ["feed", "sim", "--days", "0.01", "--speed", "max", "--home", str(tmp_path)]
    assert cli.main([*verb, "--transport", users.url("feeder:feeder")]) == 0
    assert door("consumer").extent(0).kept > 1
    position = Position((1, 1), 0)
    for forbidden in (
        lambda: (log.publish(0, 1, [Record(Topic.SIGNALS, position, b"")], b"ck"), log.settle()),
        lambda: log.claim(0, "f", door("consumer").ownership(0)),
        lambda: log.beat(0, 1), lambda: log.stage(0, 1, {"a": b""}), lambda: log.trim(0, 1, (1, 1), 1),
        lambda: log.post("hold.f", b""), lambda: log.tail(0),
    ):
        refused(forbidden)
    if users.version >= (7,):                             # before, rights to read and to write a key are one
        refused(lambda: log.append_control(2, b"forged"))
    reader = door("consumer")
    assert (reader.tail(0), reader.ownership(0).epoch, reader.posts()) == (NOWHERE, 0, {})


def test_a_consumer_can_read_everything_and_write_nothing(
    users: Server, door: Callable[..., Log], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    owner = door("engine")
    [cursor] = owner.append(0, [b"tick"])
    epoch = owner.claim(0, "a", owner.ownership(0)) or 0
    owner.publish(0, epoch, [Record(Topic.REJECTS, Position(cursor, 0), b"{}")], b"ck")
    owner.settle()

    url = users.url("consumer:consumer")
    for verb in (["signals"], ["log", "info"], ["doctor"]):
        assert cli.main([*verb, "--json", "--home", str(tmp_path), "--transport", url]) == 0
    told = capsys.readouterr().out
    assert '"kept":1' in told.replace(" ", "")
    with client.subscribe(url) as signals:
        assert list(signals._page(0)) == []
    log = door("consumer")
    assert log.read({0: START}, 1)[0][0].payload == b"tick"
    assert {command.partition("|")[0] for _, command in denied(users)} == {"config"}      # the doctor did without

    posing_as(log, owner)
    with users.admin() as admin:
        before = {key: admin.dump(key) for key in admin.scan_iter()}
        for forbidden in (
            lambda: log.append(0, [b"x"]), lambda: log.append_control(2, b"x"), lambda: log.post("a", b""),
            lambda: log.unpost("a"), lambda: log.claim(0, "a", log.ownership(0)), lambda: log.beat(0, epoch),
            lambda: log.stage(0, epoch, {"a": b""}), lambda: log.unstage(0, epoch, []), lambda: log.trim(0, epoch, cursor, 9),
            lambda: (log.publish(0, epoch, [], b"ck"), log.settle()), lambda: log.release(0, epoch),
            lambda: log.mark(0, epoch, b"x"),
            *(partial(log._ask, *command) for command in (  # type: ignore[attr-defined]
                ("XADD", "ticks.{0}", "*", "t", "x"), ("DEL", "models"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"),
                ("ACL", "LIST"), ("XTRIM", "models", "MAXLEN", 0), ("SHUTDOWN",),
            )),
        ):
            refused(forbidden)
        assert {key: admin.dump(key) for key in admin.scan_iter()} == before


def test_a_consumer_that_tries_to_write_is_told_so_in_words(
    users: Server, door: Callable[..., Log], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = users.url("consumer:consumer")
    code = cli.main(["feed", "sim", "--days", "0.01", "--speed", "max", "--home", str(tmp_path), "--transport", url])
    said = capsys.readouterr().err
    assert (code, "[rights]" in said, "Traceback" in said) == (4, True, False)


def test_who_only_follows_signals_needs_less(users: Server, door: Callable[..., Log], tmp_path: Path) -> None:
    [less] = re.findall(r"needs less: `(.*)`", PAGE.read_text())
    with users.admin() as admin:
        rights = less if users.version >= (7,) else less.replace("%R~", "~")
        admin.execute_command("ACL", "SETUSER", "follower", "on", ">follower", *rights.split())
    url = users.url("follower:follower")
    assert cli.main(["signals", "--json", "--home", str(tmp_path), "--transport", url]) == 0
    with client.subscribe(url) as signals:
        assert list(signals._page(0)) == []
    assert denied(users) == []
    with pytest.raises(TocsinError, match=r"\[rights\]"):
        open_log(url).extent(0)


def test_the_wrong_password_is_no_matter_of_rights(users: Server, door: Callable[..., Log]) -> None:
    for login in ("engine:wrong", "nobody:engine"):
        with pytest.raises(TransportUnreachable, match=r"\[auth\]"):
            open_log(users.url(login))
    assert json.dumps(denied(users)).count("AUTH") >= 1
