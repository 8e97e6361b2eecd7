"""What a Redis must be set to before a log is written there, and what an operator should know of one. Pure.

What a server says of itself comes in, as INFO and CONFIG GET tell it; refusals and advice go out. Docs: docs/redis.md.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import TransportUnreachable
from .base import Advice

OLDEST = (6, 2)
"""The first version whose XTRIM knows MINID and LIMIT: nothing could be trimmed without."""

NEAR = 0.8
"""Of maxmemory: from here on it is time to do something."""

LAG_S = 2
"""A replica that hasn't answered for so long lags; it answers every second."""

ASKED = ("appendfsync", "min-replicas-to-write")
"""What INFO doesn't say."""


def parse(info: bytes) -> dict[str, str]:
    """INFO's answer by field."""
    fields = (line.partition(":") for line in info.decode(errors="replace").splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in fields if name}


def check(info: Mapping[str, str], url: str) -> None:
    """Refuse a server on which a log would lose records without a word. What it doesn't tell is not held against it.

    An `allkeys` policy is refused whether or not `maxmemory` is set: setting it later would make streams vanish, and
    nobody would look again. The `volatile` policies evict only keys that have a time to live; ours have none.

    Raises TransportUnreachable: `redis_version`, `cluster`, `eviction`.
    """
    version = info.get("redis_version", "")
    if _version(version) < OLDEST:
        raise TransportUnreachable("redis_version", f"{url} is Redis {version}, which can't trim streams by id",
                                   hint="Redis 6.2 or newer, or Valkey")
    if info.get("redis_mode") == "cluster":
        raise TransportUnreachable("cluster", f"{url} is a node of a cluster",
                                   hint="a log needs one server for itself (and its replicas), with cluster-enabled no")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy.startswith("allkeys"):
        raise TransportUnreachable("eviction", f"{url} has maxmemory-policy {policy}: it forgets streams when memory is short",
                                   hint="redis-cli CONFIG SET maxmemory-policy noeviction, and the same in its configuration")


def _version(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    return numbers or OLDEST


def advise(info: Mapping[str, str], config: Mapping[str, str]) -> list[Advice]:
    """For the operator, one by one. config: ASKED, as far as it may be asked."""
    found = [_version_of(info), _aof(info)]
    if info.get("aof_enabled") == "1":
        found.append(_fsync(config.get("appendfsync")))
    return [*found, _memory(info), *_replicas(info, config)]


def _version_of(info: Mapping[str, str]) -> Advice:
    valkey, redis = info.get("valkey_version"), info.get("redis_version", "of no version")
    return Advice("log's server", "ok", f"Valkey {valkey}" if valkey else f"Redis {redis}", "")


def _aof(info: Mapping[str, str]) -> Advice:
    if info.get("aof_enabled") != "1":
        return Advice("append-only file", "missing", "none: the log is gone with the server's process",
                      _set("appendonly yes"))
    for what in ("aof_last_write_status", "aof_last_bgrewrite_status"):
        if info.get(what, "ok") != "ok":
            return Advice("append-only file", "missing", f"{what} is {info[what]}", "make room on the server's disk")
    return Advice("append-only file", "ok", "yes", "")


def _fsync(policy: str | None) -> Advice:
    if policy == "always":
        return Advice("at power loss", "ok", "nothing that was acknowledged is lost (appendfsync always)", "")
    if policy == "everysec":
        return Advice("at power loss", "note", "up to 2 s are lost (appendfsync everysec)",
                      f"{_set('appendfsync always')} loses none")
    if policy == "no":
        return Advice("at power loss", "missing", "half a minute or more is lost (appendfsync no)",
                      _set("appendfsync everysec"))
    return Advice("at power loss", "note", "the server doesn't tell its appendfsync",
                  "let its operator look: always loses nothing, everysec up to 2 s")


def _memory(info: Mapping[str, str]) -> Advice:
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    policy = info.get("maxmemory_policy", "noeviction")
    if policy.startswith("allkeys"):
        return Advice("memory", "missing", f"maxmemory-policy {policy} forgets streams", _set("maxmemory-policy noeviction"))
    if not limit:
        return Advice("memory", "note", f"{used / 2**20:,.0f} MB, no maxmemory: the system ends the server when there is no more",
                      _set("maxmemory BYTES") + ", some more than [log] keep_mb")
    found = f"{used / 2**20:,.0f} of {limit / 2**20:,.0f} MB"
    if used > NEAR * limit:
        return Advice("memory", "missing", found, "writes are refused when it is full: lower [log] keep_mb, or "
                      + _set("maxmemory BYTES"))
    return Advice("memory", "ok", found, "")


def _replicas(info: Mapping[str, str], config: Mapping[str, str]) -> list[Advice]:
    if info.get("role") == "slave":
        return [Advice("replication", "missing", f"this is a replica of {info.get('master_host')}:{info.get('master_port')}",
                       "name the primary in --transport: nothing can be written here")]
    lines = [value for name, value in info.items() if name.startswith("slave") and name[5:].isdigit()]
    if not lines:
        return []
    replicas = [dict(part.partition("=")[::2] for part in line.split(",")) for line in lines]
    behind = [int(info.get("master_repl_offset", 0)) - int(replica.get("offset", 0)) for replica in replicas]
    late = [replica for replica in replicas if replica.get("state") != "online" or int(replica.get("lag", 0)) >= LAG_S]
    found = f"{len(replicas)}, {max(behind):,} bytes behind"
    if late:
        one = late[0]
        return [Advice("replicas", "missing", f"{found}; {one.get('ip')}:{one.get('port')} is {one.get('state')}, silent for "
                       f"{one.get('lag')} s", "what a replica hasn't got is lost when it is promoted: look after it")]
    if config.get("min-replicas-to-write", "1") == "0":
        return [Advice("replicas", "note", f"{found}; writes don't wait for them",
                       f"{_set('min-replicas-to-write 1')} bounds what a promotion loses")]
    return [Advice("replicas", "ok", found, "")]


def _set(setting: str) -> str:
    return f"redis-cli CONFIG SET {setting}"
