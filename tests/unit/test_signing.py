"""Keys are made once, with the right mode, and are refused with words when they can't be used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.errors import UsageError
from engine.registry import signing


def test_generated_keys_sign_and_verify(tmp_path: Path) -> None:
    private_path, public_path = signing.generate(tmp_path / "keys")
    private, public = signing.load_private(private_path), signing.load_public(public_path)
    signature = signing.sign(private, b"message")
    assert len(signature) == 64
    assert signing.verify(public, b"message", signature)
    assert not signing.verify(public, b"massage", signature)
    assert not signing.verify(public, b"message", signature[:63])
    assert not signing.verify(public, b"message", b"")
    assert not any(
        signing.verify(public, b"message", signature[:i] + bytes([signature[i] ^ 1]) + signature[i + 1:])
        for i in range(64)
    )
    assert signing.is_pair(private, public)
    assert not signing.is_pair(Ed25519PrivateKey.generate(), public)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_private_key_is_readable_by_its_owner_only(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        private, public = signing.generate(tmp_path / "keys")
    finally:
        os.umask(before)
    assert private.stat().st_mode & 0o777 == 0o600
    assert public.stat().st_mode & 0o777 == 0o644 & ~umask
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert sorted(p.name for p in (tmp_path / "keys").iterdir()) == ["private.pem", "public.pem"]


@pytest.mark.parametrize("existing", ["private.pem", "public.pem"])
def test_a_key_is_never_overwritten(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_bytes(b"somebody's")
    with pytest.raises(UsageError) as refused:
        signing.generate(tmp_path)
    assert refused.value.code == "key_exists"
    assert (tmp_path / existing).read_bytes() == b"somebody's"
    assert len(list(tmp_path.iterdir())) == 1


def test_of_those_who_make_keys_at_once_one_wins(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from engine.registry import signing; from engine.errors import UsageError\n"
        "def make(n):\n"
        "    try: signing.generate(pathlib.Path(sys.argv[1], str(n))); return 1\n"
        "    except UsageError: return 0\n"
        "signing.generate(pathlib.Path(sys.argv[1], sys.argv[2])); print('ready', flush=True); sys.stdin.read(1)\n"
        "print(sum(make(n) for n in range(200)))"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("a", "b")
    ]
    for racer in racers:
        assert racer.stdout
        racer.stdout.readline()
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("x")
        racer.stdin.flush()
    assert sum(int(racer.communicate(timeout=60)[0]) for racer in racers) == 200
    for n in range(200):
        private = signing.load_private(tmp_path / str(n) / "private.pem")
        assert signing.is_pair(private, signing.load_public(tmp_path / str(n) / "public.pem"))
        assert len(list((tmp_path / str(n)).iterdir())) == 2


def test_missing_private_key_names_the_path_and_the_verb(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        signing.load_private(tmp_path / "keys" / "private.pem")
    assert refused.value.code == "no_private_key"
    assert refused.value.exit == 2
    assert str(tmp_path / "keys" / "private.pem") in str(refused.value)
    assert "tocsin models keygen" in refused.value.hint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o601])
def test_private_key_that_others_reach_is_refused(tmp_path: Path, mode: int) -> None:
    private, _ = signing.generate(tmp_path)
    private.chmod(mode)
    with pytest.raises(UsageError) as refused:
        signing.load_private(private)
    assert refused.value.code == "key_permissions"
    assert refused.value.hint == f"chmod 600 {private}"
    private.chmod(0o400)
    signing.load_private(private)


def _pem(key: object, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


@pytest.mark.parametrize("content", [
    b"", b"not a key", _pem(generate_private_key(SECP256R1())), _pem(Ed25519PrivateKey.generate(), b"secret"),
    _pem(Ed25519PrivateKey.generate())[:60],
], ids=["empty", "text", "curve", "encrypted", "truncated"])
def test_what_isnt_a_private_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "private.pem"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        signing.load_private(path)
    assert refused.value.code == "key_format"


def test_public_key_is_missing_or_isnt_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        signing.load_public(tmp_path / "public.pem")
    assert refused.value.code == "no_public_key"
    other = generate_private_key(SECP256R1()).public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for content in (b"", b"no", other):
        (tmp_path / "public.pem").write_bytes(content)
        with pytest.raises(UsageError) as refused:
            signing.load_public(tmp_path / "public.pem")
        assert refused.value.code == "key_format"


def test_importing_the_registry_doesnt_import_cryptography() -> None:
    code = (
        "import sys, engine.registry.store, engine.registry.rollout\n"
        "print('cryptography' in sys.modules, 'numpy' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert answer.strip() == "False False"
