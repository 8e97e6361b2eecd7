"""Ed25519 keys (RFC 8032) of the registry: who holds the private one decides what may answer.

`cryptography` is imported when a key is first used, so that importing the registry stays cheap.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE = "private.pem"
PUBLIC = "public.pem"


def generate(folder: Path) -> tuple[Path, Path]:
    """Make a key pair, `private.pem` (mode 0600) and `public.pem`; returns both paths.

    Raises UsageError `key_exists`: a key is never overwritten, since what it signed would be refused from then on.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    private_path, public_path = folder / PRIVATE, folder / PUBLIC
    for path in (private_path, public_path):
        if os.path.lexists(path):
            raise _key_exists(path)
    key = Ed25519PrivateKey.generate()
    _create(private_path, 0o600, key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))
    _create(public_path, 0o644, key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ))
    return private_path, public_path


def _create(path: Path, mode: int, content: bytes) -> None:
    """A new file that is there whole or not at all, and never readable by others for a moment."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # unlike a rename, refuses to replace what another process just made
    except FileExistsError:
        raise _key_exists(path) from None
    finally:
        temporary.unlink()


def _key_exists(path: Path) -> UsageError:
    return UsageError(
        "key_exists", f"there is a key already: {path}",
        hint="keep it, or move the pair elsewhere first: bundles signed with it are refused under another key",
    )


def load_private(path: Path) -> Ed25519PrivateKey:
    """The private key of a PEM file.

    Raises UsageError: `no_private_key` (no such file), `key_permissions` (others may read it), `key_format`.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read()
    except OSError as error:
        raise UsageError(
            "no_private_key", f"no private key at {path} ({error.strerror})",
            hint="make a pair with `tocsin models keygen`, or run this where the key is",
        ) from None
    if mode & 0o077:
        raise UsageError("key_permissions", f"others may read {path} (mode {mode:04o})", hint=f"chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: encrypted with a password
        raise _key_format(path, "private", error) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _key_format(path, "private", f"it holds a {type(key).__name__}")
    return key


def load_public(path: Path) -> Ed25519PublicKey:
    """The public key of a PEM file. Raises UsageError: `no_public_key`, `key_format`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            "no_public_key", f"no public key at {path} ({error.strerror})",
            hint="copy public.pem from where bundles are signed and name it in `[registry] trust`,"
                 " or make a pair with `tocsin models keygen`",
        ) from None
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _key_format(path, "public", error) from None
    if not isinstance(key, Ed25519PublicKey):
        raise _key_format(path, "public", f"it holds a {type(key).__name__}")
    return key


def _key_format(path: Path, kind: str, why: object) -> UsageError:
    return UsageError(
        "key_format", f"{path} isn't an Ed25519 {kind} key: {why}",
        hint=f"it must be an unencrypted PEM file as `tocsin models keygen` writes {kind}.pem",
    )


def sign(private: Ed25519PrivateKey, message: bytes) -> bytes:
    """The signature, 64 bytes; the same for the same message."""
    return private.sign(message)


def verify(public: Ed25519PublicKey, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is this key's, over exactly these bytes."""
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def is_pair(private: Ed25519PrivateKey, public: Ed25519PublicKey) -> bool:
    """Whether what the one signs holds under the other."""
    return private.public_key() == public
