"""Configuration: frozen, typed, merged from defaults, `tocsin.toml`, `TOCSIN_<SECTION>_<KEY>` and flags, in this order.

Unknown keys are refused with the nearest known one. `Config.origins` says where each value came from.
Nothing in here can change a byte of a decision but `[instruments]` and `[features]`, which a bundle names too: an engine
that counts prices or computes features otherwise refuses to answer with it.
"""

from __future__ import annotations

import difflib
import os
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from . import usual
from .errors import UsageError
from .hidden import hide
from .instruments import Instruments
from .manifest import KINDS

FILE = "tocsin.toml"
MAIN = "main"
"""The deployment that the alias `champion` follows."""
PREFIX = "TOCSIN_"
BARE = ("HOME", "DATA", "DEVICE", "FOREST")
"""Variables without a section."""


class LogSection(Struct, frozen=True, forbid_unknown_fields=True):
    """[log]"""

    transport: str = ""
    """URL of the log; default: the embedded Redis in HOME/log."""
    deployment: str = MAIN
    """Scopes epochs, checkpoints, control records, signals and rejects."""
    partitions: int = 4
    """P of an embedded or memory log when this process creates it."""
    keep_mb: int = 512
    """MB that ticks, and what was published about them, may take before the oldest are trimmed; never what a
    checkpoint or a recorder still needs. From twice as much on no ticks are taken: feeds hold theirs."""


class RegistrySection(Struct, frozen=True, forbid_unknown_fields=True):
    """[registry]"""

    path: str = ""
    """Folder of bundles; default HOME/registry."""
    trust: str = ""
    """Public key whose bundles and control records count; default HOME/keys/public.pem."""
    keys: str = ""
    """Folder of private.pem; default HOME/keys."""
    keep: int = 20
    """Bundles the trainer keeps: the newest, and beside them every one that has an alias or that the log may still need."""


class LakeSection(Struct, frozen=True, forbid_unknown_fields=True):
    """[lake]"""

    path: str = ""
    """Folder of recorded ticks; default HOME/lake."""
    quota_gb: float = 50.0
    """Size from which the oldest days are removed."""


class FeedSection(Struct, frozen=True, forbid_unknown_fields=True):
    """[feed]"""

    spool_mb: int = 256
    """MB that a feed which can't wait stores in HOME/spool while the log takes no ticks; one that needs more ends."""


TIMEFRAMES = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "4h": 14_400, "1d": 86_400}
"""Lengths of bars for indicators, in seconds."""


class FeaturesSection(Struct, frozen=True, forbid_unknown_fields=True):
    """[features]"""

    timeframes: str = "1m,5m,15m,1h"
    """Lengths of the bars of which RSI, MACD and the other indicators are taken: 1m, 5m, 15m, 1h, 4h, 1d."""
    families: str = ""
    """Features of one's own, separated by commas: files that end in .py, modules, or names that packages bring."""


class EngineSection(Struct, frozen=True, forbid_unknown_fields=True):
    """[engine]"""

    name: str = ""
    """Stable name of the process: a restart under it takes its partitions back at once; default host and deployment."""
    batch: int = 256
    """Asked rows from which a micro-batch is cut."""
    lease_s: float = 3.0
    """Seconds without a beat after which another engine's partition may be claimed."""
    listen: str = "127.0.0.1:9464"
    """Where /metrics, /healthz and /readyz answer; port 0 takes a free one, empty: nowhere."""


class TrainerSection(Struct, frozen=True, forbid_unknown_fields=True):
    """[trainer]"""

    threads: int = 0
    """CPU threads of a fit; 0 = all cores."""
    every: str = "24h"
    """When to train: an interval (90s, 15m, 24h, 7d), a cron expression of five fields in UTC, or empty: on demand only."""
    experts: str = "lightgbm"
    """Who is fitted: names separated by commas, or all."""
    preset: str = "lean"
    """lean or seed."""
    moments: str = "cusum"
    """When the ensemble is asked: cusum, tick, bar:1m, bar:5m, bar:15m or bar:1h."""
    activate: str = "if-better"
    """What becomes of a new bundle: if-better, manual or always."""
    days: float = 0.0
    """Only so many days before the newest tick are learned from; 0 = all there are."""
    listen: str = "127.0.0.1:9465"
    """Where /metrics, /healthz and /readyz answer; port 0 takes a free one, empty: nowhere."""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a command needs to know of its surroundings."""

    log: LogSection = LogSection()
    registry: RegistrySection = RegistrySection()
    features: FeaturesSection = FeaturesSection()
    engine: EngineSection = EngineSection()
    trainer: TrainerSection = TrainerSection()
    lake: LakeSection = LakeSection()
    feed: FeedSection = FeedSection()
    instruments: dict[str, Any] = field(default_factory=dict)
    """[instruments]: `closed = true`, `table = "usual"`, and a table per symbol or pattern: `"*JPY" = {scale = 3}`."""
    home: str = ".tocsin"
    data: str = ""
    origins: dict[str, str] = field(default_factory=dict)

    @property
    def home_path(self) -> Path:
        return Path(self.home)

    @property
    def url(self) -> str:
        return self.log.transport or f"redis+embedded://{self.home_path / 'log'}"

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return hide(self.url)

    @property
    def registry_path(self) -> Path:
        return Path(self.registry.path or self.home_path / "registry")

    @property
    def keys_path(self) -> Path:
        return Path(self.registry.keys or self.home_path / "keys")

    @property
    def trust_path(self) -> Path:
        return Path(self.registry.trust or self.keys_path / "public.pem")

    @property
    def lake_path(self) -> Path:
        return Path(self.lake.path or self.home_path / "lake")

    @property
    def spool_path(self) -> Path:
        return self.home_path / "spool"

    @property
    def name(self) -> str:
        return self.engine.name or f"{socket.gethostname()}.{self.log.deployment}"

    def rules(self) -> Instruments:
        """The instruments as [instruments] names them; the shipped table's stand behind one's own. Raises UsageError."""
        rules = dict(self.instruments)
        closed, shipped = bool(rules.pop("closed", False)), rules.pop("table", "")
        own = Instruments(rules, closed=closed)
        if shipped not in ("", usual.NAME):
            raise UsageError("instrument_table", f"[instruments] table = {shipped!r}: there is no such table",
                             hint=f'table = "{usual.NAME}", or leave it out')
        return Instruments(usual.behind(own.to_dict()["rules"]), closed=closed) if shipped else own


SECTIONS = ("log", "feed", "registry", "lake", "features", "engine", "trainer")


def load(
    file: str | None = None, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> Config:
    """Merge. `flags`: {"log.transport": value, "home": value}; None means not given. Raises UsageError."""
    environ = os.environ if environ is None else environ
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for path, value, origin in (*_from_file(file), *_from_environment(environ), *_from_flags(flags or {})):
        section, _, key = path.partition(".")
        if key:
            merged.setdefault(section, {})[key] = value
        else:
            merged[section] = value
        origins[path] = origin
    try:
        config = msgspec.convert({**merged, "origins": origins}, Config, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError("config_value", str(error), hint="see `tocsin config show`") from None
    _check(config)
    return config


def _from_file(file: str | None) -> list[tuple[str, Any, str]]:
    path = Path(file or FILE)
    if not path.is_file():
        if file:
            raise UsageError("config_missing", f"{file} isn't there", hint="check --config")
        return []
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError("config_syntax", f"{path}: {error}", hint="the file is TOML") from None
    found = []
    for section, keys in content.items():
        if section == "instruments" and isinstance(keys, dict):
            found.append(("instruments", keys, str(path)))
            continue
        if section not in SECTIONS or not isinstance(keys, dict):
            raise _unknown(section, section, (*SECTIONS, "instruments"), path)
        for key, value in keys.items():
            if key not in _keys(section):
                raise _unknown(f"[{section}] {key}", key, _keys(section), path)
            found.append((f"{section}.{key}", value, str(path)))
    return found


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, Any, str]]:
    found: list[tuple[str, Any, str]] = []
    known = {f"{section}_{key}".upper(): f"{section}.{key}" for section in SECTIONS for key in _keys(section)}
    for variable, value in sorted(environ.items()):
        name = variable.removeprefix(PREFIX)
        if not variable.startswith(PREFIX):
            continue
        if name in ("HOME", "DATA"):
            if value:                              # a folder without a name is none; any other key may be empty on purpose
                found.append((name.lower(), value, variable))
        elif name in known:
            found.append((known[name], value, variable))
        elif name not in BARE:
            raise _unknown(variable, name, (*known, *BARE), "the environment")
    return found


def _from_flags(flags: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    return [(path, value, "flag") for path, value in flags.items() if value is not None]


def _keys(section: str) -> tuple[str, ...]:
    return getattr(Config(), section).__struct_fields__  # type: ignore[no-any-return]


def _unknown(what: str, name: str, known: tuple[str, ...], where: object) -> UsageError:
    near = difflib.get_close_matches(name, known, 1)
    prefix = what.removesuffix(name)           # `[log] ` or `TOCSIN_`: the whole of what to write
    return UsageError("config_unknown", f"{where}: there is no {what}",
                      hint=f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(known)}")


def _check(config: Config) -> None:
    config.rules()
    timeframes = [name.strip() for name in config.features.timeframes.split(",") if name.strip()]
    for ok, what in (
        (set(timeframes) <= set(TIMEFRAMES) and len(set(timeframes)) == len(timeframes),
         f"[features] timeframes names each of {', '.join(TIMEFRAMES)} at most once"),
        (1 <= config.log.partitions <= 1024, "[log] partitions is 1 to 1024"),
        (1 <= config.engine.batch <= 65_536, "[engine] batch is 1 to 65536"),
        (config.engine.lease_s > 0, "[engine] lease_s is above 0"),
        (config.log.keep_mb >= 1, "[log] keep_mb is 1 or more"),
        (config.feed.spool_mb >= 1, "[feed] spool_mb is 1 or more"),
        (config.registry.keep >= 1, "[registry] keep is 1 or more"),
        (config.lake.quota_gb > 0, "[lake] quota_gb is above 0"),
        (config.trainer.days >= 0, "[trainer] days is 0 (all) or more"),
        (config.trainer.preset in ("lean", "seed"), "[trainer] preset is lean or seed"),
        (config.trainer.moments in KINDS, f"[trainer] moments is one of {', '.join(KINDS)}"),
        (config.trainer.activate in ("if-better", "manual", "always"), "[trainer] activate is if-better, manual or always"),
        (config.trainer.threads >= 0, "[trainer] threads is 0 (all cores) or more"),
        (config.log.deployment.replace("-", "").replace("_", "").isalnum(), "[log] deployment is letters, digits, - and _"),
    ):
        if not ok:
            raise UsageError("config_range", what, hint="see `tocsin config show`")
