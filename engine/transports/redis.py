"""A log in Redis (or Valkey): streams, and scripts that fence every write of an owner.

Keys of a partition, all under one hash tag: streams `ticks.{p}`, `signals.<deployment>.{p}`, `rejects.<deployment>.{p}`,
`journal.<deployment>.{p}`, `epochs.<deployment>.{p}`, hashes `owner.<deployment>.{p}`, `blobs.<deployment>.{p}`, list
`checkpoints.<deployment>.{p}`, numbers `trimmed.{p}` of tick records forgotten and `quota.{p}` of bytes. One stream
`models`, whose record 1-0 says what the log is and whose record k-0 is control record k; one hash `board`. A tick's cursor
is its id; what is published about it has the id `ms-(seq·2³²+ordinal)`, so that a position is an id and Redis itself
refuses repeats. Ids have 64 bits: never a number in Lua, whose numbers have 53.

A write whose outcome is unknown (a time-out, a lost connection) is never sent again. Scripts are sent whole (EVAL):
measured no slower than by digest, and then a server that has forgotten its scripts needn't be noticed.

Streams are trimmed by whole blocks (`stream-node-max-entries`, 100 records unless set, or `stream-node-max-bytes`):
the rest of a block waits until all of it may go, and a `trim` of fewer records than a block has forgets none.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec
from redis.exceptions import ResponseError

from ..errors import InputRefused, TransportUnreachable, UsageError
from ..instruments import Instruments
from ..redis_server import EmbeddedServer, with_server
from ..types import LAST_ORDINAL, NOWHERE, Cursor, Entry, Kind, Position
from . import redis_settings
from .base import EVERY, KEPT, TRACE, UNSAID, Advice, Extent, Log, Ownership, Record, Tenure, Topic, Trimmed, full, rising
from .redis_client import Client

T = TypeVar("T")

logger = logging.getLogger("tocsin")

FORMAT = b"2"
"""Of the keys and records above; a log of another format is refused."""

BLOCK_MS = 2000
"""Longest wait asked of the server at once, well below the connection's time-out; longer waits are several."""

DEPTH = 2
"""Publish steps on their way: the server writes one while the engine computes the next."""

CHUNK = 256 * 1024
"""bytes, about: what one script writes of blobs or ticks, so that nobody else waits long for the server."""

SWEEP = 10_000
"""Published records of a topic that one `trim` forgets at most: a millisecond or two of the server's time."""

RESERVE = 256 * 2**20
"""bytes below the server's maxmemory that ticks leave to owners; a quarter of it where that is more, a half where less."""

FEW, MOVED = 2000, 64
"""Streams of a few blocks are measured each time, others when one in so many blocks has come or gone: measuring takes the
server 2.6 ms for a million ticks in 28,000 blocks."""

EMBEDDED = "redis+embedded://"

_FIELD = {Kind.TICKS: b"t", Kind.CONTROL: b"c"}
_KIND = {name: kind for kind, name in _FIELD.items()}

_KEY = {topic: b"%d" % number for number, topic in enumerate(Topic, 3)}
"""A topic's stream among the keys of a publish step."""

# ARGV[1]: the owner's epoch and token. A server that forgot its newest writes (power loss, a promoted replica) gives an epoch
# a second time; the token tells the two apart, and an owner whose claim is forgotten has to claim again.
_FENCE = """
local kept = redis.call('HMGET', KEYS[1], 'epoch', 'token')
local epoch, token = string.match(ARGV[1], '(%d+) (%x*)')
local held, mine = tonumber(kept[1] or '0'), tonumber(epoch)
if mine > held then return redis.error_reply('ROLLEDBACK ' .. KEYS[1] .. ' ' .. held) end
if mine < held or kept[2] ~= token then return redis.error_reply('FENCED ' .. KEYS[1] .. ' ' .. held) end
"""

_ABOVE = """
local function above(a, b)
  local am, as = string.match(a, '(%d+)-(%d+)')
  local bm, bs = string.match(b, '(%d+)-(%d+)')
  if am == bm then am, bm = as, bs end
  if #am == #bm then return am > bm end
  return #am > #bm
end
"""

_TAIL = _ABOVE + """
local function tail_from(k)
  local tail = '0-0'
  for i = k, #KEYS do
    local newest = redis.call('XREVRANGE', KEYS[i], '+', '-', 'COUNT', 1)[1]
    if newest and above(newest[1], tail) then tail = newest[1] end
  end
  return tail
end
"""

# ARGV: epoch, id that must be the tail ('' if any may be), checkpoint, then in position order key, id and payload each.
# Scripts don't roll back: everything is checked before the first write. The checkpoint comes last. Should a server bring back
# half of a step (7.0 does, where its file ended within one and it is started a second time), it is the half before a position:
# whoever takes over writes the rest.
_PUBLISH = _FENCE + _TAIL + """
local tail = tail_from(3)
if ARGV[2] ~= '' and ARGV[2] ~= tail then return redis.error_reply('BROKEN ' .. KEYS[1] .. ' ' .. tail) end
if ARGV[5] and not above(ARGV[5], tail) then return redis.error_reply('REPEAT ' .. KEYS[1] .. ' ' .. tail) end
for i = 4, #ARGV, 3 do redis.call('XADD', KEYS[tonumber(ARGV[i])], ARGV[i + 1], 'v', ARGV[i + 2]) end
if ARGV[3] ~= '' then
  redis.call('LPUSH', KEYS[2], ARGV[3])
  redis.call('LTRIM', KEYS[2], 0, KEPT - 1)
end
return 1
""".replace("KEPT", str(KEPT))

# KEYS: owner, epochs, checkpoints, then the topics.
_HOLD = _TAIL + """
local function hold(epoch, owner, token)
  local newest = redis.call('LINDEX', KEYS[3], 0)
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'owner', owner, 'beat', 0, 'token', token)
  redis.call(
    'XADD', KEYS[2], 'MAXLEN', '~', TRACE, '*', 'epoch', epoch, 'owner', owner, 'tail', tail_from(4),
    'checkpoint', newest and redis.sha1hex(newest) or ''
  )
end
""".replace("TRACE", str(TRACE))

_CLAIM = _HOLD + """
local held = redis.call('HMGET', KEYS[1], 'epoch', 'owner', 'beat')
local epoch, owner, beat = held[1] or '0', held[2] or '', held[3] or '0'
if owner ~= '' and owner ~= ARGV[1] and (epoch ~= ARGV[2] or beat ~= ARGV[3]) then return 0 end
hold(epoch + 1, ARGV[1], ARGV[4])
return epoch + 1
"""

_RELEASE = _FENCE + _HOLD + "hold(epoch, '', '') return 1"

_MARK = _FENCE + "redis.call('HSET', KEYS[1], 'mark', ARGV[2]) return 1"

_BEAT = _FENCE + "return redis.call('HINCRBY', KEYS[1], 'beat', 1)"

_STAGE = _FENCE + "for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end return 1"

_UNSTAGE = _FENCE + "for i = 2, #ARGV do redis.call('HDEL', KEYS[2], ARGV[i]) end return 1"

# KEYS: owner, ticks, trimmed, then the topics. ARGV: epoch, id that stays, records of ticks, records per topic at most.
# What was published about the first record kept begins at ms-(seq * 2^32): the only product of this script, whose
# first factor has 32 bits (nothing is published about a higher one), so that a number of 53 holds it exactly.
_TRIM = _FENCE + _ABOVE + """
local function sweep()
  local gone, first = 0, redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
  local ms, seq = string.match(first and first[1] or ARGV[2], '(%d+)-(%d+)')
  local floor = string.format('%s-%.0f', ms, math.min(tonumber(seq), LAST_ORDINAL) * 4294967296)
  for k = 4, #KEYS do
    local newest = redis.call('XREVRANGE', KEYS[k], '+', '-', 'COUNT', 1)[1]
    if newest then
      local from = above(newest[1], floor) and floor or newest[1]
      gone = gone + redis.call('XTRIM', KEYS[k], 'MINID', '~', from, 'LIMIT', ARGV[4])
    end
  end
  return gone
end
local ticks, published = 0, sweep()
if published == 0 and ARGV[3] ~= '0' then
  ticks = redis.call('XTRIM', KEYS[2], 'MINID', '~', ARGV[2], 'LIMIT', ARGV[3])
  if ticks > 0 then
    redis.call('INCRBY', KEYS[3], ticks)
    published = sweep()
  end
end
return {ticks, published}
""".replace("LAST_ORDINAL", str(LAST_ORDINAL))

_TRIM_REJECTS = _FENCE + "return redis.call('XTRIM', KEYS[2], 'MAXLEN', '~', ARGV[2], 'LIMIT', ARGV[3])"

# Why ticks are refused, '' where they are taken. Another's share of the server's memory counts too, its own buffers as well:
# what is left is what owners have. Who may not ask (ACL) sees no maxmemory. ahead: bytes as good as there, as what a producer
# that is refused holds in its hand is while it asks.
_FULL = """
local function full(size, quota, ahead)
  if size > quota then return string.format('its ticks take %.1f MB, its quota is %.1f', size / 1e6, quota / 1e6) end
  local told = redis.pcall('INFO', 'memory')
  if type(told) ~= 'string' then return '' end
  local used, most = tonumber(string.match(told, 'used_memory:(%d+)')), tonumber(string.match(told, 'maxmemory:(%d+)') or '0')
  if most == 0 or used + ahead <= most - math.max(most / 4, math.min(most / 2, RESERVE)) then return '' end
  return string.format('its server uses %.1f MB of a maxmemory of %.1f, the rest is for engines', used / 1e6, most / 1e6)
end
""".replace("RESERVE", str(RESERVE))

# KEYS: ticks, trimmed, then the topics, then the quota. ARGV: bytes of ticks, '' to have everything measured; quota where
# nobody said one. XINFO names its fields: versions differ in their order. Whole streams are measured: their blocks may be of
# very different sizes, and the first ones, which are what Redis samples, are no measure of the rest.
_EXTENT = _FULL + """
local function look(key)
  local about = {}
  if redis.call('EXISTS', key) == 1 then
    local fields = redis.call('XINFO', 'STREAM', key)
    for i = 1, #fields, 2 do about[fields[i]] = fields[i + 1] end
  end
  return about
end
local about, sizes, topics = look(KEYS[1]), {}, {}
local blocks = {about['radix-tree-keys'] or 0}
if ARGV[1] == '' then
  for k = 1, #KEYS - 1 do sizes[k] = redis.call('MEMORY', 'USAGE', KEYS[k], 'SAMPLES', 0) or 0 end
end
for k = 3, #KEYS - 1 do
  local topic = look(KEYS[k])
  topics[k - 2], blocks[k - 1] = topic['length'] or 0, topic['radix-tree-keys'] or 0
end
local first, quota = about['first-entry'], redis.call('GET', KEYS[#KEYS])
return {
  first and first[1] or '0-0', about['last-generated-id'] or '0-0', redis.call('GET', KEYS[2]) or '0', about['length'] or 0,
  sizes, topics, blocks, quota or '0', full(sizes[1] or tonumber(ARGV[1]), tonumber(quota or ARGV[2]), 1048576)
}
"""

# KEYS: ticks, quota. ARGV: the field, quota where nobody said one, payloads. _LOOK goes before it, now and then.
_LOOK = _FULL + """
local why = full(redis.call('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', 0) or 0, tonumber(redis.call('GET', KEYS[2]) or ARGV[2]), 0)
if why ~= '' then return why end
"""
_APPEND = """
local ids = {}
for i = 3, #ARGV do ids[i - 2] = redis.call('XADD', KEYS[1], '*', ARGV[1], ARGV[i]) end
return ids
"""

_APPEND_CONTROL = """
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local free, k = string.match(newest[1], '%d+') + 1, tonumber(ARGV[1])
if k == free then
  local now = redis.call('TIME')
  redis.call('XADD', KEYS[1], k .. '-0', 'c', ARGV[2], 'us', now[1] .. string.format('%06d', now[2]))
end
return free
"""


def open_log(url: str, deployment: str, create: int | None, rules: Instruments) -> Log:
    """The log of this URL. `create` counts for an embedded server only. Raises as `RedisLog`, and DeviceMissing."""
    if not url.startswith(EMBEDDED):
        log = RedisLog(url, deployment)
        if create is not None:         # somebody who will write
            _fit(log)
        return log
    folder = _folder(url)
    if create is None and not folder.exists():
        raise _no_log(url)             # asking leaves nothing behind
    return _embedded(folder, deployment, create, rules)


def create_log(url: str, partitions: int, rules: Instruments) -> Log:
    """A new log. Raises as `RedisLog`, and TransportUnreachable with code `log_exists`."""
    embedded = url.startswith(EMBEDDED)
    log = _embedded(_folder(url), "main", partitions, rules) if embedded else RedisLog(url, create=partitions, rules=rules)
    if not log.created:
        log.close()
        raise TransportUnreachable(
            "log_exists", f"{log.url} already holds a log of {log.partitions} partitions", hint="use it or name another"
        )
    return log


def _fit(log: RedisLog) -> None:
    """Close a log whose server can't be trusted with what would be written there. Raises as `RedisLog.check`."""
    try:
        log.check()
    except BaseException:
        log.close()
        raise


def _folder(url: str) -> Path:
    folder = url.removeprefix(EMBEDDED)
    if not folder:
        raise UsageError("transport_url", f"{url} names no folder", hint="redis+embedded://.tocsin/log")
    return Path(folder).expanduser()


def _embedded(folder: Path, deployment: str, create: int | None, rules: Instruments) -> RedisLog:
    server = with_server(folder)
    try:
        return RedisLog(f"unix://{quote(str(server.socket))}", deployment, create=create, rules=rules, server=server)
    except BaseException:
        server.close()
        raise


class _Found(NamedTuple):
    """What the script of `extent` answers."""

    first: Cursor
    last: Cursor
    appended: int
    kept: int
    sizes: list[int]
    """Of ticks, trimmed and the topics, if they were measured."""
    topics: list[int]
    """Records in each."""
    blocks: list[int]
    """Of ticks and the topics."""
    quota: int
    full: str


class _Measured(NamedTuple):
    """What a partition's streams took, and of how many blocks they were, when that was measured."""

    sizes: list[int]
    blocks: list[int]

    def now(self, blocks: list[int]) -> list[int] | None:
        """What they take by now, in proportion; None where so many blocks have come or gone that it must be measured."""
        if sum(blocks) <= FEW or any(abs(now - then) > then // MOVED for now, then in zip(blocks, self.blocks, strict=True)):
            return None
        each = zip(self.sizes, blocks, self.blocks, strict=True)
        return [size * now // then if then else 0 for size, now, then in each]


class _Step(NamedTuple):
    """A publish step whose answer hasn't been read yet."""

    partition: int
    done: Callable[[], None] | None


class RedisLog(Log):
    """A log behind a redis://, rediss:// or unix:// URL.

    One thread reads (`read`) and one publishes (`publish`, `settle`), each over a connection of its own; everything
    else may be called from any thread. A refusal is raised when no step is on its way any more: the step of the call
    that raises it was not sent.

    Raises what `Client` raises; TransportUnreachable: `no_log`, `log_format`, `identity` (a lost connection was
    answered by another log), `broken` (the step before, still on its way, was refused), `cursor`.
    """

    def __init__(
        self, url: str, deployment: str = "main", *, prefix: str = "", create: int | None = None,
        rules: Instruments | None = None, server: EmbeddedServer | None = None,
    ) -> None:
        """`prefix`: of every key (or in the URL, `?prefix=`). `create`, `rules`: of a new log, if there is none.

        `server`: left when the log is closed.
        """
        self._client = Client(url)
        self._ask = self._client.ask
        self._reader, self._writer = self._client.connection(), self._client.connection()
        self._sent: deque[_Step] = deque()
        self._last: dict[int, bytes] = {}
        self._unseen: dict[int, int] = {}
        """bytes appended to a partition since it was looked at how full it is."""
        self._measured: dict[int, _Measured] = {}
        self._server = server
        self._token = secrets.token_hex(8)
        self.url = f"{EMBEDDED}{server.folder}" if server else self._client.shown
        self.deployment = deployment
        prefix = prefix or self._client.prefix
        self._models = f"{prefix}models".encode()
        self._board = f"{prefix}board".encode()

        mine = secrets.token_hex(16)
        try:
            if create is not None:
                self.check()
            about = self._about() or (self._create(mine, create, rules or Instruments()) if create else None)
            if about is None:
                raise _no_log(self.url)
            if about.get(b"format") != FORMAT:
                raise TransportUnreachable(
                    "log_format", f"the log at {self.url} has format {about.get(b'format')!r}, not {FORMAT!r}",
                    hint="read it with the version of tocsin that wrote it",
                )
        except BaseException:
            self._client.close()
            raise
        self.identity = about[b"identity"].decode()
        self.created = self.identity == mine
        self.partitions = int(about[b"partitions"])
        self.rules = Instruments.from_dict(msgspec.json.decode(about[b"rules"]))
        self._client.greet = self._recognise

        def keys(topic: str) -> list[bytes]:
            return [f"{prefix}{topic}.{{{p}}}".encode() for p in range(self.partitions)]

        self._ticks, self._trimmed, self._quota = keys("ticks"), keys("trimmed"), keys("quota")
        self._owner, self._epochs, self._checkpoints, self._blobs = (
            keys(f"{what}.{deployment}") for what in ("owner", "epochs", "checkpoints", "blobs")
        )
        self._topics = {topic: keys(f"{topic}.{deployment}") for topic in Topic}

    # ---- producers

    def append(self, partition: int, payloads: Sequence[bytes], kind: Kind = Kind.TICKS) -> list[Cursor]:
        if kind not in _FIELD:
            raise InputRefused("kind", f"{kind.name} records can't leave their process", hint="encode them as a frame")
        keys, cursors = (self._ticks[partition], self._quota[partition]), list[Cursor]()
        look = kind is not Kind.CONTROL and self._unseen.get(partition, EVERY) >= EVERY
        for n, chunk in enumerate(_chunks(payloads, len)):
            script = _LOOK + _APPEND if look and n == 0 else _APPEND
            ids = self._ask("EVAL", script, 2, *keys, _FIELD[kind], UNSAID // self.partitions, *chunk)
            if isinstance(ids, bytes):
                raise full(self.url, partition, ids.decode())
            cursors += map(_cursor, ids)
        self._unseen[partition] = (0 if look else self._unseen.get(partition, EVERY)) + sum(map(len, payloads))
        return cursors

    def limit(self, partition: int, quota: int) -> None:
        self._ask("SET", self._quota[partition], quota)

    # ---- control records

    def controls(self, after: int = 1) -> list[tuple[int, bytes]]:
        if not self._is_this(self._about()):
            raise self._replaced()
        answer = self._ask("XRANGE", self._models, b"%d-0" % (max(after, 1) + 1), "+")
        return [(_cursor(ident)[0], fields[1]) for ident, fields in answer]

    def control_stamps(self) -> dict[int, int]:
        answer = self._ask("XRANGE", self._models, b"2-0", "+")
        return {_cursor(ident)[0]: int(fields[3]) * 1000 for ident, fields in answer if len(fields) > 3}

    def append_control(self, k: int, payload: bytes) -> bool:
        free = self._ask("EVAL", _APPEND_CONTROL, 1, self._models, k, payload)
        if k > free:
            raise InputRefused("control_order", f"control record {k} would leave a hole",
                               hint=f"{free} is the next: read `controls` again")
        return bool(k == free)

    # ---- the board

    def post(self, name: str, payload: bytes) -> None:
        self._ask("HSET", self._board, name, payload)

    def posts(self, prefix: str = "") -> dict[str, bytes]:
        answer = self._ask("HGETALL", self._board)
        posts = {name.decode(): payload for name, payload in zip(answer[::2], answer[1::2], strict=True)}
        return {name: payload for name, payload in posts.items() if name.startswith(prefix)}

    def unpost(self, name: str) -> None:
        self._ask("HDEL", self._board, name)

    # ---- the owner of a partition

    def ownership(self, partition: int) -> Ownership:
        epoch, owner, beat = self._ask("HMGET", self._owner[partition], "epoch", "owner", "beat")
        return Ownership(int(epoch or 0), (owner or b"").decode(), int(beat or 0))

    def claim(self, partition: int, owner: str, seen: Ownership) -> int | None:
        keys = self._held(partition)
        epoch = self._ask("EVAL", _CLAIM, len(keys), *keys, owner, seen.epoch, seen.beat, self._token)
        self._last.pop(partition, None)
        return epoch or None

    def _held(self, partition: int) -> list[bytes]:
        """What the trace of the partition's owners is written from."""
        of = (self._owner, self._epochs, self._checkpoints, *self._topics.values())
        return [keys[partition] for keys in of]

    def _hold(self, epoch: int) -> str:
        """What a write of an owner shows, as it was written when this object claimed."""
        return f"{epoch} {self._token}"

    def beat(self, partition: int, epoch: int) -> None:
        self._ask("EVAL", _BEAT, 1, self._owner[partition], self._hold(epoch))

    def release(self, partition: int, epoch: int) -> None:
        keys = self._held(partition)
        self._ask("EVAL", _RELEASE, len(keys), *keys, self._hold(epoch))

    def mark(self, partition: int, epoch: int, what: bytes) -> None:
        self._ask("EVAL", _MARK, 1, self._owner[partition], self._hold(epoch), what)

    def marked(self, partition: int) -> bytes:
        return self._ask("HGET", self._owner[partition], "mark") or b""

    def epochs(self, partition: int) -> list[Tenure]:
        return [_tenure(ident, fields) for ident, fields in self._ask("XRANGE", self._epochs[partition], "-", "+")]

    def publish(
        self, partition: int, epoch: int, records: Sequence[Record], checkpoint: bytes | None = None,
        done: Callable[[], None] | None = None,
    ) -> None:
        """As in the seam. A step is refused if the one before it, still on its way, was: nothing is ever left out."""
        if not rising(records, NOWHERE):
            raise TransportUnreachable(
                "repeat", f"the positions of a step for partition {partition} don't rise",
                hint="nothing of it was written",
            )
        keys = (self._owner[partition], self._checkpoints[partition], *(self._topics[topic][partition] for topic in Topic))
        written: list[bytes] = []
        before = last = self._last.get(partition, b"")
        for topic, position, payload in records:
            last = _id(position)
            written += _KEY[topic], last, payload
        with self._client.coded():
            self._await(DEPTH - 1)
            self._sent.append(_Step(partition, done))
            self._last[partition] = last
            try:
                self._writer.send_command(
                    "EVAL", _PUBLISH, len(keys), *keys, self._hold(epoch), before, checkpoint or b"", *written,
                )
            except BaseException:
                self._sent.clear()
                raise

    def settle(self) -> None:
        with self._client.coded():
            self._await(0)

    def _await(self, left: int) -> None:
        """Read answers until only `left` steps are on their way; after a refusal until none is, then raise it."""
        refusal: ResponseError | None = None
        while len(self._sent) > (0 if refusal else left):
            step = self._sent.popleft()
            try:
                self._writer.read_response()
            except ResponseError as error:
                if refusal is None:
                    refusal = error
                    self._last.pop(step.partition, None)
                continue
            except BaseException:
                self._sent.clear()     # what became of them is unknown, and their answers will never come
                raise
            if step.done:
                step.done()
        if refusal is not None:
            raise refusal

    def stage(self, partition: int, epoch: int, blobs: Mapping[str, bytes]) -> None:
        for chunk in _chunks(blobs.items(), lambda item: len(item[1])):
            self._ask(
                "EVAL", _STAGE, 2, self._owner[partition], self._blobs[partition], self._hold(epoch),
                *(part for item in chunk for part in item),
            )

    def staged(self, partition: int, names: Iterable[str]) -> list[bytes | None]:
        wanted = list(names)
        found: list[bytes | None] = []
        for first in range(0, len(wanted), 16):
            found += self._ask("HMGET", self._blobs[partition], *wanted[first:first + 16])
        return found

    def unstage(self, partition: int, epoch: int, keep: Iterable[str]) -> None:
        kept = {name.encode() for name in keep}
        doomed = [name for name in self._ask("HKEYS", self._blobs[partition]) if name not in kept]
        for chunk in _chunks(doomed, len):
            self._ask("EVAL", _UNSTAGE, 2, self._owner[partition], self._blobs[partition], self._hold(epoch), *chunk)

    def trim(self, partition: int, epoch: int, before: Cursor, most: int) -> Trimmed:
        keys = (self._owner[partition], *self._counted(partition))
        return Trimmed(*self._ask("EVAL", _TRIM, len(keys), *keys, self._hold(epoch), b"%d-%d" % before, max(most, 0), SWEEP))

    def trim_rejects(self, partition: int, epoch: int, keep: int) -> int:
        keys = (self._owner[partition], self._topics[Topic.REJECTS][partition])
        return int(self._ask("EVAL", _TRIM_REJECTS, 2, *keys, self._hold(epoch), max(keep, 1), SWEEP))

    # ---- readers

    def extent(self, partition: int) -> Extent:
        known = self._measured.get(partition)
        found = self._extent(partition, known.sizes[0] if known else None)
        sizes = known.now(found.blocks) if known else None
        if sizes is None:
            found = self._extent(partition, None)
            sizes = [found.sizes[0], *found.sizes[2:]]
            self._measured[partition] = _Measured(sizes, found.blocks)
        rejects = list(Topic).index(Topic.REJECTS)
        return Extent(
            found.first, found.last, found.appended, found.kept, sum(sizes), found.topics[rejects], sizes[1 + rejects],
            found.quota, found.full,
        )

    def _extent(self, partition: int, ticks: int | None) -> _Found:
        """ticks: bytes they are taken for; None: everything is measured."""
        keys = (*self._counted(partition), self._quota[partition])
        first, last, trimmed, kept, sizes, topics, blocks, quota, why = self._ask(
            "EVAL", _EXTENT, len(keys), *keys, "" if ticks is None else ticks, UNSAID // self.partitions
        )
        return _Found(_cursor(first), _cursor(last), int(trimmed) + kept, kept, sizes, topics, blocks, int(quota), why.decode())

    def _counted(self, partition: int) -> list[bytes]:
        """The partition's ticks, the count of those forgotten, and its topics."""
        topics = (self._topics[topic][partition] for topic in Topic)
        return [self._ticks[partition], self._trimmed[partition], *topics]

    def read(self, after: Mapping[int, Cursor], count: int, block_ms: int = 0) -> dict[int, list[Entry]]:
        if not after:
            return {}
        of = {self._ticks[partition]: partition for partition in after}
        with self._client.coded():
            answer = _xread(self._ask_reader, of, [b"%d-%d" % cursor for cursor in after.values()], count, block_ms)
        return {of[key]: _entries(records) for key, records in answer}

    def _ask_reader(self, *command: Any) -> Any:
        self._reader.send_command(*command)
        return self._reader.read_response()

    def entry(self, partition: int, cursor: Cursor) -> Entry | None:
        ident = b"%d-%d" % cursor
        entries = _entries(self._ask("XRANGE", self._ticks[partition], ident, ident))
        return entries[0] if entries else None

    def tail(self, partition: int) -> Position:
        newest = (self._ask("XREVRANGE", keys[partition], "+", "-", "COUNT", 1) for keys in self._topics.values())
        return max((_position(records[0][0]) for records in newest if records), default=NOWHERE)

    def follow(
        self, topic: Topic, after: Mapping[int, Position], count: int, block_ms: int = 0
    ) -> dict[int, list[tuple[Position, bytes]]]:
        if not after:
            return {}
        of = {self._topics[topic][partition]: partition for partition in after}
        idents = [b"0-0" if position == NOWHERE else _id(position) for position in after.values()]
        answer = _xread(self._ask, of, idents, count, block_ms)
        return {of[key]: [(_position(ident), fields[1]) for ident, fields in records] for key, records in answer}

    def backwards(self, partition: int, topic: Topic, before: Position | None, count: int) -> list[tuple[Position, bytes]]:
        upto = "+" if before is None else b"(" + _id(before)
        records = self._ask("XREVRANGE", self._topics[topic][partition], upto, "-", "COUNT", count)
        return [(_position(ident), fields[1]) for ident, fields in records]

    def since(self, stamp: int) -> Cursor:
        return (max(stamp // 1_000_000 - 1, 0), 2**32)

    def checkpoints(self, partition: int) -> list[bytes]:
        return list(self._ask("LRANGE", self._checkpoints[partition], 0, KEPT - 1))

    def check(self) -> None:
        """Refuse a server that may lose records without a word. Raises as `redis_settings.check`."""
        try:
            redis_settings.check(redis_settings.parse(self._ask("INFO")), self.url)
        except TransportUnreachable as error:
            if error.code != "rights":
                raise
            logger.warning("%s doesn't say how it is set: see to it that its maxmemory-policy is noeviction", self.url)

    def advice(self) -> list[Advice]:
        if self._server:
            return []                  # set as it should be, by us
        try:
            info = redis_settings.parse(self._ask("INFO"))
        except TransportUnreachable as error:
            if error.code != "rights":
                raise
            return [Advice("log's server", "note", "this user may not ask how it is set", "docs/redis.md: Settings")]
        config: dict[str, str] = {}
        for name in redis_settings.ASKED:
            with suppress(TransportUnreachable):           # not every user may, and not every service knows it
                config[name] = b"".join(self._ask("CONFIG", "GET", name)[1:2]).decode()
        return redis_settings.advise(info, config)

    def format(self, cursor: Cursor) -> str | int:
        return f"{cursor[0]}-{cursor[1]}"

    def close(self) -> None:
        """As in the seam. Steps still on their way aren't waited for: `settle` first."""
        self._sent.clear()
        self._reader.disconnect()
        self._writer.disconnect()
        self._client.close()
        if self._server:
            self._server.close()

    # ---- which log this is

    def _about(self) -> dict[bytes, bytes] | None:
        """What the log's first record says of it, None if there is no log."""
        answer = self._ask("XRANGE", self._models, "1-0", "1-0")
        return _fields(answer) if answer else None

    def _create(self, identity: str, partitions: int, rules: Instruments) -> dict[bytes, bytes] | None:
        """Make the log, unless somebody else just did: what its first record says then."""
        try:
            self._ask(
                "XADD", self._models, "1-0", "identity", identity, "partitions", partitions,
                "rules", msgspec.json.encode(rules.to_dict()), "format", FORMAT,
            )
        except TransportUnreachable:
            about = self._about()
            if about is None:
                raise
            return about
        return self._about()

    def _recognise(self, connection: Any) -> None:
        """Refuse a connection to any other log than the one this object was opened on."""
        connection.send_command("XRANGE", self._models, "1-0", "1-0")
        answer = connection.read_response()
        if not self._is_this(_fields(answer) if answer else None):
            raise self._replaced()

    def _is_this(self, about: Mapping[bytes, bytes] | None) -> bool:
        """Whether that is what this log's first record says of it."""
        return about is not None and about[b"identity"] == self.identity.encode()

    def _replaced(self) -> TransportUnreachable:
        return TransportUnreachable(
            "identity", f"{self.url} holds another log now than {self.identity}",
            hint="somebody replaced the log: start again, or bring the old one back",
        )


# ---- ids


def _id(position: Position) -> bytes:
    (ms, seq), ordinal = position
    if seq > LAST_ORDINAL or ordinal > LAST_ORDINAL:
        raise TransportUnreachable(
            "cursor", f"{position} doesn't fit a Redis id",
            hint="the second number of a tick's id must be below 2^32, as in those that Redis gives",
        )
    return b"%d-%d" % (ms, seq << 32 | ordinal)


def _position(ident: bytes) -> Position:
    ms, low = _cursor(ident)
    return Position((ms, low >> 32), low & LAST_ORDINAL)


def _cursor(ident: bytes) -> Cursor:
    ms, _, seq = ident.partition(b"-")
    return int(ms), int(seq)


# ---- records


def _entries(records: list[tuple[bytes, list[bytes]]]) -> list[Entry]:
    """What somebody wrote in another shape than ours is handed on whole, as ticks that no decoder will take."""
    entries = []
    for ident, fields in records:
        head, _, seq = ident.partition(b"-")
        ms = int(head)
        kind = _KIND.get(fields[0])
        if kind is None or len(fields) != 2:
            kind, fields = Kind.TICKS, [b"", b" ".join(fields)]
        entries.append(Entry((ms, int(seq)), kind, fields[1], ms * 1_000_000))
    return entries


def _tenure(ident: bytes, flat: list[bytes]) -> Tenure:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    tail = NOWHERE if fields[b"tail"] == b"0-0" else _position(fields[b"tail"])
    return Tenure(
        int(fields[b"epoch"]), fields[b"owner"].decode(), tail, fields[b"checkpoint"].decode(), _cursor(ident)[0]
    )


def _fields(records: list[tuple[bytes, list[bytes]]]) -> dict[bytes, bytes]:
    """The first record's."""
    flat = records[0][1]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _xread(
    ask: Callable[..., Any], keys: Iterable[bytes], after: list[bytes], count: int, block_ms: int
) -> list[tuple[bytes, list[tuple[bytes, list[bytes]]]]]:
    """XREAD; a long wait is several, each shorter than the connection's own time-out."""
    deadline = time.monotonic() + block_ms / 1000
    while True:
        left = min(int((deadline - time.monotonic()) * 1000), BLOCK_MS)
        wait = ("BLOCK", left) if left > 0 else ()
        answer = ask("XREAD", "COUNT", count, *wait, "STREAMS", *keys, *after)
        if answer or left <= 0:
            return answer or []


def _chunks(items: Iterable[T], size: Callable[[T], int]) -> list[list[T]]:
    """The items in order, in lists of about CHUNK bytes each; one list at least."""
    chunks: list[list[T]] = [[]]
    total = 0
    for item in items:
        if total >= CHUNK:
            chunks.append([])
            total = 0
        chunks[-1].append(item)
        total += size(item) + 64
    return chunks


def _no_log(url: str) -> TransportUnreachable:
    create = "" if url.startswith(EMBEDDED) else "create it with `tocsin log create`, then "
    return TransportUnreachable(
        "no_log", f"there is no log at {url}",
        hint=f"{create}start `tocsin feed` or `tocsin run engine` with this --transport",
    )
