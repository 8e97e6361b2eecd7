"""A replay held against what was published, and a log as a file that anybody replays: equal, or where it isn't."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.cli import main
from engine.export import ExportedLog, export
from engine.files import write_ticks
from engine.registry.rollout import PolicyRules, Settings
from engine.transports.base import Log, Topic
from engine.types import NOWHERE, START, Kind
from engine.wire.ticks import encode
from tests.engines import ALL, Running, Site, ticks, wait_for
from tests.lakes import record_all
from trainers.lake import Lake

ROOT = Path(__file__).parents[2]
WARM = 500
"""So many made ticks warm every symbol up."""
MOVING = ticks(900)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A log that saw two owners, a swap, settings, forged control records, late ticks and nonsense."""
    folder = tmp_path_factory.mktemp("lived")
    site = Site(folder, folder / "redis")
    one, two = site.publish(1), site.publish(2)
    write_ticks(MOVING, folder / "ticks.parquet")
    with Running(site.config()):
        site.send(MOVING[:WARM])
        site.change(site.activation(one))
        site.send(MOVING[WARM:700])
        site.log.append(0, [b"no tick", b"\xff\x00", encode(MOVING, MOVING.sid.tolist().index(4))])
        wait_for(lambda: len(site.published()) == 200)
    with Running(site.config(engine__name="two")):
        site.log.append(1, [b"forged"], Kind.CONTROL)
        site.change(Settings(policy=PolicyRules(cooldown_s=300.0)))
        site.change(site.activation(two))
        site.send(MOVING[700:])
        wait_for(lambda: len(site.published()) == 400 and len(rejects(site.log)) == 4)
    assert {signal.log.epoch for signal in site.signals().values()} == {1, 2}
    yield site
    site.close()


def rejects(log: Log) -> list[bytes]:
    return [r for p in range(log.partitions) for _, r in log.published(p, Topic.REJECTS, NOWHERE, ALL)]


Replay = Callable[..., tuple[int, str, str]]


@pytest.fixture
def replay(lived: Site, capfdbinary: pytest.CaptureFixture[bytes]) -> Replay:
    """`tocsin replay …`: exit code, stdout, stderr."""

    def call(*argv: object, verb: str = "replay") -> tuple[int, str, str]:
        capfdbinary.readouterr()
        code = main([*verb.split(), *map(str, argv), "--home", str(lived.folder)])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return call


@pytest.fixture
def file(lived: Site, tmp_path: Path) -> Path:
    """The log's export."""
    return exported(lived.log, tmp_path / "log.jsonl")


def exported(log: Log, path: Path, **stretch: Any) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in export(log, range(log.partitions), **stretch)))
    return path


# ---- against


def test_a_log_is_equal_to_what_its_owners_published(lived: Site, replay: Replay) -> None:
    code, out, err = replay(lived.url, "--against", lived.url, "--json")
    assert (code, json.loads(out)) == (0, {"equal": True, "compared": 404, "first": None, "missing": 0, "extra": 0}), err
    assert replay(lived.url, "--against", lived.url)[1].startswith("equal: 404 records")


def test_the_same_ticks_from_a_file_are_equal_by_their_names(lived: Site, replay: Replay) -> None:
    """Each bundle's part of the log, against the part of a file of signals that `tocsin signals` wrote."""
    said = lived.folder / "said.jsonl"
    for canonical in ([], ["--canonical"]):
        said.write_text(replay(*canonical, "--json", "--transport", lived.url, verb="signals")[1])
        code, out, err = replay(
            lived.folder / "ticks.parquet", "--bundle", "1", "--from", MOVING.ts[WARM], "--to", MOVING.ts[700],
            "--against", said, "--json",
        )
        assert code == 0, err
        assert json.loads(out)["compared"] == 200


def test_other_ticks_differ(lived: Site, replay: Replay, tmp_path: Path) -> None:
    """The second bundle where the first one answered: the first signal's own key is named."""
    code, out, err = replay(
        lived.folder / "ticks.parquet", "--bundle", "2", "--from", MOVING.ts[WARM], "--against", lived.url, "--json",
    )
    found = json.loads(out)
    assert code == 1
    assert "[different]" in err
    assert not found["equal"]
    assert (found["first"]["ts"], found["first"]["symbol"]) == (int(MOVING.ts[WARM]), MOVING.symbol(WARM))
    assert found["first"]["key"] in ("side", "probabilities")


CHANGES: list[tuple[str, bytes, bytes, str, Any, Any]] = [
    ("a price", b'"bid":1.1', b'"bid":2.1', "bid", 1, 2),
    ("a vote", b'"votes":{"one":[0.', b'"votes":{"one":[1.', "votes.one", None, None),
    ("where it stood", b'"ordinal":0,', b'"ordinal":7,', None, None, None),
    ("spaces", b'"side":', b'"side": ', "its bytes", "equal values", "written otherwise"),
]


@pytest.mark.parametrize(("old", "new", "key"), [change[1:4] for change in CHANGES], ids=[change[0] for change in CHANGES])
def test_the_first_difference_is_named(
    lived: Site, replay: Replay, file: Path, old: bytes, new: bytes, key: str | None
) -> None:
    """One published signal of an export is altered, or said twice, or left out."""
    lines = file.read_bytes().split(b"\n")
    at = next(n for n, line in enumerate(lines) if b'"kind":"signals"' in line and b'"partition":1' in line) + 5
    record = json.loads(lines[at])
    payload = record["payload"].encode()
    assert old in payload
    record["payload"] = payload.replace(old, new, 1).decode()
    lines[at] = json.dumps(record).encode()
    file.write_bytes(b"\n".join(lines))
    code, out, _ = replay(lived.url, "--against", file, "--json")
    found = json.loads(out)
    assert code == 1
    assert found["first"]["key"] == key
    assert (found["first"]["partition"], found["first"]["cursor"]) == (1, record["cursor"])
    assert (found["missing"], found["extra"]) == ((1, 1) if key is None else (0, 0))
    words = replay(lived.url, "--against", file)[2]
    assert "first difference: a signal of MADE" in words
    assert f"partition 1, cursor {record['cursor']}" in words


def test_what_is_missing_or_said_twice_is_counted(lived: Site, replay: Replay, tmp_path: Path) -> None:
    said = lived.published()
    file = tmp_path / "said.jsonl"
    file.write_bytes(b"\n".join([*said[:50], *said[51:], said[80]]))
    code, out, _ = replay(lived.url, "--against", file, "--json")
    found = json.loads(out)
    assert (code, found["missing"], found["extra"], found["compared"]) == (1, 1, 1, 399)


def test_a_reject_that_differs_is_named(lived: Site, replay: Replay, file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'{\\"code\\":\\"late\\"', b'{\\"code\\":\\"lost\\"'))
    code, out, _ = replay(lived.url, "--against", file, "--json")
    first = json.loads(out)["first"]
    assert (code, first["topic"], first["key"], first["replayed"], first["published"]) == (1, "rejects", "code", "late", "lost")


def test_a_file_of_something_else_is_no_proof(lived: Site, replay: Replay, tmp_path: Path) -> None:
    for content in (b'{"symbol":"EURUSD","ts":1}', b"\xff", b'{"id":"x","symbol":"EURUSD","ts":1}'):
        (tmp_path / "said.jsonl").write_bytes(content)
        code, out, err = replay(lived.url, "--against", tmp_path / "said.jsonl")
        assert (code, out) == (3, "")
        assert "not_published" in err


# ---- an export


def test_an_export_is_the_log_again(lived: Site, file: Path) -> None:
    log, again = lived.log, ExportedLog(file)
    assert (again.identity, again.deployment, again.partitions) == (log.identity, log.deployment, log.partitions)
    assert again.rules.to_dict() == log.rules.to_dict()
    assert again.controls() == log.controls()
    for p in range(log.partitions):
        assert again.read({p: START}, ALL) == log.read({p: START}, ALL)
        assert again.extent(p)[:4] == log.extent(p)[:4]
        assert again.tail(p) == log.tail(p)
        for topic in Topic:
            assert again.published(p, topic, NOWHERE, ALL) == log.published(p, topic, NOWHERE, ALL)
        assert again.format(log.extent(p).last) == log.format(log.extent(p).last)


def test_its_replay_is_the_logs_byte_for_byte(lived: Site, replay: Replay, file: Path, tmp_path: Path) -> None:
    def bare(records: bytes) -> list[bytes]:
        return [record.partition(b',"timing":')[0] for record in records.splitlines()]

    found = {}
    for name, source in (("url", lived.url), ("file", file)):
        out, refused = tmp_path / f"{name}.out", tmp_path / f"{name}.rejects"
        code, _, err = replay(source, "--out", out, "--rejects", refused)
        assert code == 0, err
        found[name] = bare(out.read_bytes()), refused.read_bytes()
    assert found["file"] == found["url"]
    assert len(found["url"][0]) == 400
    code, out_, err = replay(file, "--against", lived.url, "--json")
    assert (code, json.loads(out_)["compared"]) == (0, 404), err
    assert replay(file, "--against", file)[0] == 0


def test_every_line_is_what_the_schema_says(file: Path) -> None:
    schema = jsonschema.Draft202012Validator(json.loads((ROOT / "docs/schemas/export.json").read_text()))
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    for line in lines:
        schema.validate(line)
    assert {line.get("kind") for line in lines} >= {"models", "ticks", "control", "signals", "rejects"}
    assert not schema.is_valid({**lines[1], "kind": "else"})


def test_the_verb_writes_it_whole(lived: Site, replay: Replay, file: Path, tmp_path: Path) -> None:
    there = ("--transport", lived.url)
    code, out, _ = replay("export", "--out", tmp_path / "all.jsonl", "--json", *there, verb="log")
    assert (code, json.loads(out)["records"]) == (0, len(file.read_bytes().splitlines()) - 2)
    assert (tmp_path / "all.jsonl").read_bytes() == file.read_bytes() == replay("export", *there, verb="log")[1].encode()
    assert replay("export", "--out", tmp_path / "no/where", *there, verb="log")[0] == 2
    assert replay("export", "--partition", 7, *there, verb="log")[0] == 2
    assert [path.name for path in tmp_path.iterdir() if "all" in path.name] == ["all.jsonl"]


def test_a_stretch_of_it(lived: Site, replay: Replay, tmp_path: Path) -> None:
    """One partition up to a cursor is replayed as far; without its beginning it is no proof of anything."""
    entries = lived.entries(1)
    first, middle = entries[99].cursor, entries[-50].cursor
    there = ("--transport", lived.url, "--partition", 1)
    part, tail = tmp_path / "part.jsonl", tmp_path / "tail.jsonl"
    assert replay("export", "--out", part, "--to", lived.log.format(middle), *there, verb="log")[0] == 0
    assert ExportedLog(part).read({1: START}, ALL)[1] == entries[:-49]
    code, out, err = replay(part, "--against", lived.url, "--json")
    assert code == 0, err
    assert 0 < json.loads(out)["compared"] < 404
    assert replay("export", "--out", tail, "--from", lived.log.format(first), *there, verb="log")[0] == 0
    again = ExportedLog(tail)
    assert again.read({1: START}, ALL)[1] == entries[100:]
    assert again.extent(1).appended - again.extent(1).kept == 100
    code, _, err = replay(tail)
    assert code == 4
    assert "trimmed" in err


@pytest.mark.parametrize(("spoil", "code"), [
    (lambda lines: lines[:-1], "export_torn"),
    (lambda lines: [*lines[:40], *lines[41:]], "export_torn"),
    (lambda lines: [*lines, lines[-1]], "export_torn"),
    (lambda lines: [*lines[:-1], lines[-2][:40]], "export_torn"),
    (lambda lines: [*lines[:40], lines[41], lines[40], *lines[42:]], "export_damaged"),
    (lambda lines: [*lines[:40], b"{}", *lines[41:]], "export_damaged"),
    (lambda lines: [*lines[:40], lines[40].replace(b'"utf-8"', b'"base64"'), *lines[41:]], "export_damaged"),
    (lambda lines: [lines[0].replace(b'"format":1', b'"format":9'), *lines[1:]], "export_format"),
])
def test_a_damaged_export_is_refused(
    replay: Replay, file: Path, spoil: Callable[[list[bytes]], list[bytes]], code: str
) -> None:
    lines = spoil(file.read_bytes().splitlines())
    end = b"" if len(lines[-1]) == 40 else b"\n"
    file.write_bytes(b"\n".join(lines) + end)
    exit_, out, err = replay(file)
    assert (exit_, out) == (3, "")
    assert f"[{code}]" in err
    assert "→" in err


# ---- a lake


def test_a_lake_is_replayed_as_a_file_of_its_ticks(lived: Site, replay: Replay, tmp_path: Path) -> None:
    """By the word and by the folder; day by day; from and to; and held against the log that it was recorded from."""
    record_all(lived.log, lived.folder, commits=5)
    lake = lived.folder / "lake"
    write_ticks(Lake(lake).read(), tmp_path / "all.parquet")
    start, end = MOVING.ts[WARM], MOVING.ts[700]
    stretch = ("--bundle", "1", "--from", start, "--to", end)
    found = {}
    for source in (tmp_path / "all.parquet", lake, "lake"):
        code, out, err = replay(source, *stretch)
        assert code == 0, err
        found[str(source)] = [line.partition(',"timing":')[0] for line in out.splitlines()]
    expected = found.pop(str(tmp_path / "all.parquet"))
    assert len(expected) == 200
    assert all(lines == expected for lines in found.values())
    code, out, err = replay("lake", *stretch, "--against", lived.url, "--json")
    assert (code, json.loads(out)["compared"]) == (0, 200), err


def test_what_cannot_be_meant_is_said(lived: Site, replay: Replay, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for argv, code, word in (
        ((tmp_path / "empty", "--bundle", "1"), 3, "no_lake"),
        (("lake", lived.folder / "ticks.parquet", "--bundle", "1"), 2, "replay_lake"),
        ((lived.url, "--bundle", "1"), 2, "replay_log"),
        ((lived.url, "--against", tmp_path / "none.jsonl"), 3, "file_missing"),
    ):
        exit_, _, err = replay(*argv)
        assert exit_ == code, err
        assert word in err
