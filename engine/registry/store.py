"""The registry: a folder with one folder per version, each written once, signed, and never changed.

    REG/<version>/manifest.json   what the bundle says of itself, with the sha256 of each of its files
    REG/<version>/manifest.sig    Ed25519 over the bytes of manifest.json, 64 bytes
    REG/<version>/…               the files, plain names only
    REG/aliases/<name>            the version a name stands for, as text
    REG/decisions/<version>.json  what the trainer decided about it (decisions.py)
    REG/.tmp-<random>             being written; what a crash left there means nothing to anybody

Nothing of a version is believed, or shown, before its signature has been checked against the trusted key: a key that
lies in the registry is never trusted by itself.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ..errors import ModelRefused, TocsinError, UsageError
from ..manifest import FORMAT, Manifest
from . import signing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from ..runtimes.ensemble import Ensemble

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
ALIASES = "aliases"

CHAMPION = "champion"
"""The alias of the bundle that a new log starts with."""

_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_TEMPORARY = ".tmp-"
_PLAIN_ONLY = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
"""Not through a link, not waiting at a pipe."""
_LEFTOVER_S = 3600.0
"""A temporary folder nobody wrote to for so long belongs to a publisher that died."""


class Contents(NamedTuple):
    """A version as checked: these very bytes were held against signature and digests."""

    manifest: Manifest
    digest: str
    """sha256 of manifest.json, hex: names this bundle among all, whatever its number."""
    files: dict[str, bytes]


class _Format(msgspec.Struct):
    format: int


_formats = msgspec.json.Decoder(_Format)
_manifests = msgspec.json.Decoder(Manifest)


class Registry:
    """The versions under `folder`, believed when signed by the public key in the file `trust`."""

    def __init__(self, folder: str | Path, trust: str | Path | None = None) -> None:
        """Raises UsageError `registry_path` where something else than a folder has this name."""
        self.folder = Path(folder)
        if not next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists()).is_dir():
            raise UsageError("registry_path", f"{self.folder} isn't a folder", hint="mend [registry] path")
        self.trust = None if trust is None else Path(trust)

    def __repr__(self) -> str:
        return f"Registry({str(self.folder)!r}, trust={None if self.trust is None else str(self.trust)!r})"

    # ---- names

    def versions(self) -> list[str]:
        """Every version there is, in order, whether or not it would be refused."""
        return [str(number) for number in sorted(self._numbers())]

    def _numbers(self) -> list[int]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return [int(name) for name in names if _VERSION.fullmatch(name)]

    def aliases(self) -> dict[str, str]:
        """Version by alias."""
        try:
            names = sorted(os.listdir(self.folder / ALIASES))
        except FileNotFoundError:
            return {}
        texts = {name: self._alias(name) for name in names if _ALIAS.fullmatch(name)}
        return {name: text for name, text in texts.items() if text is not None}

    def _alias(self, name: str) -> str | None:
        try:
            return (self.folder / ALIASES / name).read_text("ascii", errors="replace").strip()
        except (FileNotFoundError, IsADirectoryError):
            return None

    def resolve(self, name: str) -> str:
        """The version that a version or an alias names. Raises ModelRefused `not_found`."""
        version = self._alias(name) if _ALIAS.fullmatch(name) else name
        if version is not None and _VERSION.fullmatch(version) and os.path.lexists(self.folder / version):
            return version
        known = [*self.versions()[-5:], *self.aliases()]
        raise ModelRefused(
            "not_found", f"{self.folder} holds no bundle {name!r}",
            hint=f"there are {', '.join(known)}" if known else "it is empty: `tocsin train` makes the first bundle",
        )

    def set_alias(self, name: str, version: str) -> None:
        """Let a name stand for a version from now on. Raises ModelRefused `not_found`, UsageError `alias`."""
        if not _ALIAS.fullmatch(name):
            raise UsageError(
                "alias", f"{name!r} can't be an alias",
                hint="a small letter first, then small letters, digits, - and _, such as champion",
            )
        version = self.resolve(version)
        (self.folder / ALIASES).mkdir(exist_ok=True)
        temporary = self.folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
        _write(temporary, f"{version}\n".encode())
        temporary.replace(self.folder / ALIASES / name)
        _sync_folder(self.folder / ALIASES)

    # ---- writing

    def publish(self, manifest: Manifest, files: Mapping[str, bytes], private: Ed25519PrivateKey) -> str:
        """Store a bundle under the next free number, which is returned; it never changes after that.

        `format`, `version` and `files` of the manifest are filled in here. The folder appears whole, by one rename.
        Raises UsageError `key_pair` when the trusted key isn't this one's (nobody would believe the bundle),
        ModelRefused `format` when the manifest or a file name couldn't be read back.
        """
        if self.trust is not None:
            self.check_pair(private)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()
        digests = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
        manifest = msgspec.structs.replace(manifest, format=FORMAT, files=digests)
        temporary = self.folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
        temporary.mkdir()
        try:
            for name, content in files.items():
                _write(temporary / _plain(name), content)
            while True:
                version = str(max(self._numbers(), default=0) + 1)
                signed = encode(msgspec.structs.replace(manifest, version=version))
                _decode(version, signed)
                _write(temporary / MANIFEST, signed)
                _write(temporary / SIGNATURE, signing.sign(private, signed))
                _sync_folder(temporary)
                if _rename(temporary, self.folder / version):
                    _sync_folder(self.folder)
                    return version
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def remove(self, version: str) -> None:
        """Take a version away whole. Whoever must not miss it asks `prune` first."""
        temporary = self.folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
        with suppress(FileNotFoundError):
            (self.folder / version).rename(temporary)
            shutil.rmtree(temporary, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        for path in self.folder.glob(f"{_TEMPORARY}*"):
            with suppress(FileNotFoundError):  # another publisher removes them too
                if time.time() - path.lstat().st_mtime < _LEFTOVER_S:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()

    # ---- reading

    def read(self, name: str) -> Contents:
        """Check a version (or alias) and return what was checked, every byte read once.

        Raises ModelRefused: `not_found`; `half_written` (the manifest or a file is missing); `unsigned` (no
        signature); `signature` (not the trusted key's, or the manifest isn't what was signed); `format`;
        `version_mismatch` (a bundle under another number than its own); `altered` (a file isn't what was signed);
        `unreadable` (the system says no).
        Raises UsageError `no_trust`, `no_public_key` or `key_format` when there is no key to check against.
        """
        version = self.resolve(name)
        with self._opened(version) as folder:
            manifest, digest = self._signed(version, folder)
            files = {}
            for file, expected in manifest.files.items():
                content = _read(version, folder, file)
                if content is None:
                    raise _refused(version, "half_written", f"{file} is missing")
                if hashlib.sha256(content).hexdigest() != expected:
                    raise _refused(version, "altered", f"{file} isn't what was signed")
                files[file] = content
        return Contents(manifest, digest, files)

    def verify(self, name: str) -> Manifest:
        """The manifest of a version whose signature and files hold; raises as `read` does."""
        return self.read(name).manifest

    def manifest(self, name: str) -> Manifest:
        """The signed manifest of a version, its files left unread; raises as `read` does."""
        version = self.resolve(name)
        with self._opened(version) as folder:
            return self._signed(version, folder)[0]

    def status(self, version: str) -> str:
        """`ok`, or the code of what speaks against it."""
        try:
            self.verify(version)
        except TocsinError as error:
            return error.code
        return "ok"

    def load(self, name: str) -> Ensemble:
        """The ensemble of a version or alias, ready to answer. Raises as `read` and `load_bundle` do."""
        from .bundle import load_bundle

        return load_bundle(self, name).ensemble

    def public_key(self) -> Ed25519PublicKey:
        """The trusted key. Raises UsageError `no_trust`, `no_public_key`, `key_format`."""
        if self.trust is None:
            raise UsageError(
                "no_trust", f"no key is trusted for {self.folder}",
                hint="name the public key: `[registry] trust`, or Registry(folder, trust=PATH)",
            )
        return signing.load_public(self.trust)

    def check_pair(self, private: Ed25519PrivateKey) -> None:
        """Raises UsageError `key_pair` when what this key signs would be refused; else as `public_key` does."""
        if not signing.is_pair(private, self.public_key()):
            raise UsageError(
                "key_pair", f"the private key isn't the one of the trusted {self.trust}",
                hint="sign with the key the engines trust, or have them trust yours: `[registry] trust`",
            )

    @contextmanager
    def _opened(self, version: str) -> Iterator[int]:
        """The folder of a version as a descriptor, so that every file is read from this very folder."""
        try:
            folder = os.open(self.folder / version, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise _unreadable(version, "its folder", error) from None
        try:
            yield folder
        finally:
            os.close(folder)

    def _signed(self, version: str, folder: int) -> tuple[Manifest, str]:
        """The manifest and its digest, once the signature holds."""
        public = self.public_key()
        content = _read(version, folder, MANIFEST)
        if content is None:
            raise _refused(version, "half_written", f"{MANIFEST} is missing")
        signature = _read(version, folder, SIGNATURE)
        if signature is None:
            raise _refused(version, "unsigned", f"{SIGNATURE} is missing")
        if not signing.verify(public, content, signature):
            raise _refused(
                version, "signature", f"it isn't signed by {self.trust}, or was altered since",
                hint="if you trust who signed it, name their public key in `[registry] trust`; else train or copy anew",
            )
        manifest = _decode(version, content)
        if manifest.version != version:
            raise _refused(
                version, "version_mismatch", f"its manifest says it is version {manifest.version}",
                hint=f"a bundle keeps its number: it belongs in the folder {manifest.version}",
            )
        return manifest, hashlib.sha256(content).hexdigest()


def encode(manifest: Manifest) -> bytes:
    """manifest.json: no spaces, keys in the order of the schema.

    Inside `instruments` the order given is kept, never sorted: the first rule that matches counts.
    """
    return msgspec.json.encode(manifest)


def _decode(version: str, content: bytes) -> Manifest:
    """The manifest of these bytes. Raises ModelRefused `format`."""
    try:
        found = _formats.decode(content).format
        if found != FORMAT:
            raise _refused(
                version, "format", f"it is of format {found}, this engine reads format {FORMAT}",
                hint="upgrade the older of the two: the engine, or the trainer that wrote the bundle",
            )
        manifest = _manifests.decode(content)
    except msgspec.DecodeError as error:
        raise _refused(version, "format", f"{MANIFEST} can't be read: {error}") from None
    for name in manifest.files:
        _plain(name)
    for expert in manifest.experts:
        if expert.file not in manifest.files:
            raise _refused(version, "format", f"expert {expert.name} answers from {expert.file!r}, which isn't signed")
    return manifest


def _plain(name: str) -> str:
    if not _FILE.fullmatch(name) or name in (MANIFEST, SIGNATURE):
        raise ModelRefused(
            "format", f"{name!r} can't be a file of a bundle",
            hint="a letter or digit first, then letters, digits, - . and _; no folders",
        )
    return name


def _refused(version: str, code: str, why: str, hint: str = "") -> ModelRefused:
    hint = hint or "copy it anew from where it was published, or train again; another version stays what it was"
    return ModelRefused(code, f"bundle {version}: {why}", hint=hint)


def _unreadable(version: str, what: str, error: OSError) -> ModelRefused:
    """A link or a device where a file was written is an alteration; the rest may be mended."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO):
        return _refused(version, "altered", f"{what} isn't what was written ({error.strerror})")
    return _refused(
        version, "unreadable", f"{what} can't be read ({error.strerror})", hint="let this user read the registry"
    )


def _read(version: str, folder: int, name: str) -> bytes | None:
    """A regular file of an open folder, None where there is none; never through a link, never from a pipe."""
    try:
        with open(name, "rb", opener=lambda name, _: os.open(name, _PLAIN_ONLY, dir_fd=folder)) as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(version, name, error) from None
    raise _refused(version, "altered", f"{name} isn't a regular file")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(source: Path, target: Path) -> bool:
    """Rename a folder; False when the target was taken by somebody else."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True
