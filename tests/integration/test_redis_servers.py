"""Servers of one's own: how they are reached, which are refused, what the doctor says of them."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from engine import cli
from engine.errors import TransportUnreachable, UsageError
from engine.instruments import Instruments
from engine.transports import create_log, open_log, redis_client, redis_settings
from engine.types import START
from tests.engines import wait_for
from tests.servers import Server

# ---- TLS


class Signed(NamedTuple):
    """A certificate and its key, as files and as what signs others."""

    certificate: Path
    key: Path
    name: x509.Name
    private: ec.EllipticCurvePrivateKey


def certificate(folder: Path, name: str, by: Signed | None = None) -> Signed:
    """Signed by somebody, or by itself: then it may sign others."""
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issuer, signer = (by.name, by.private) if by else (subject, private)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    made = Signed(folder / f"{name}.crt", folder / f"{name}.key", subject, private)
    made.certificate.write_bytes(builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))
    return made


class Secure(NamedTuple):
    """A server that speaks TLS only, and who is who around it."""

    server: Server
    authority: Signed
    client: Signed
    stranger: Signed

    def url(self, authority: Signed | None, client: Signed | None = None, more: str = "") -> str:
        options = [f"ssl_ca_certs={authority.certificate}"] if authority else []
        options += [f"ssl_certfile={client.certificate}", f"ssl_keyfile={client.key}"] if client else []
        return f"rediss://127.0.0.1:{self.server.port}?{'&'.join([*options, *more.split()])}"


@pytest.fixture
def secure(executable: str, tmp_path: Path) -> Iterator[Secure]:
    told = subprocess.run([executable, "-"], input=b"tls-port 0\nport none\n", capture_output=True, check=False)
    if b"tls-port" in told.stdout + told.stderr:
        pytest.skip("this server was built without TLS")
    authority = certificate(tmp_path, "authority")
    own, client = (certificate(tmp_path, name, authority) for name in ("server", "client"))
    tls = ("--tls-cert-file", own.certificate, "--tls-key-file", own.key, "--tls-ca-cert-file", authority.certificate)
    with Server(executable, tmp_path / "secure", *tls, tls=True) as server:
        yield Secure(server, authority, client, certificate(tmp_path, "stranger"))


def refused(code: str, kind: type[Exception] = TransportUnreachable) -> Any:
    return pytest.raises(kind, match=rf"\[{code}\]")


def test_a_log_behind_tls(secure: Secure) -> None:
    url = secure.url(secure.authority, secure.client)
    log = create_log(url, 2, Instruments())
    [cursor] = log.append(0, [b"tick"])
    again = open_log(url)
    assert again.url == f"rediss://127.0.0.1:{secure.server.port}/0"
    assert again.read({0: START}, 1)[0][0].cursor == cursor
    for each in (log, again):
        each.close()
    for _ in range(20):                                   # a new connection every time, in whichever order packets arrive
        open_log(url).close()


def test_a_connection_that_cannot_be_trusted_is_refused_and_says_what_is_missing(
    secure: Secure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_client, "TIMEOUT_S", 0.5)
    for url in (secure.url(secure.stranger, secure.client), secure.url(None, secure.client)):
        with refused("tls") as caught:
            open_log(url)
        assert "ssl_ca_certs" in caught.value.hint
    with refused("(tls|unreachable)"):                    # the server hangs up on who shows no certificate
        open_log(secure.url(secure.authority))
    with refused("unreachable") as caught:
        open_log(f"redis://127.0.0.1:{secure.server.port}")
    assert "rediss" in caught.value.hint
    with refused("tls"):
        open_log(secure.url(secure.authority, secure.client._replace(key=secure.stranger.key)))


def test_options_that_cannot_be_meant_are_refused_as_usage(secure: Secure, tmp_path: Path) -> None:
    with refused("tls_file", UsageError) as caught:
        open_log(secure.url(secure.authority._replace(certificate=tmp_path / "none.crt")))
    assert "ssl_ca_certs" in caught.value.hint
    for more in ("ssl_cert_reqs=nonsense", "ssl_min_version=TLSv1.2", "nonsense=1"):
        with refused("transport_url", UsageError):
            open_log(secure.url(secure.authority, secure.client, more))


# ---- what a server must be set to


def test_a_server_that_would_forget_streams_is_refused_to_whoever_would_write(host: Server) -> None:
    """Whether or not maxmemory is set yet; readers may go on."""
    create_log(host.url(), 1, Instruments()).close()
    with host.admin() as admin:
        for limit, policy in ((0, "allkeys-lru"), (10**9, "allkeys-lfu"), (10**9, "allkeys-random")):
            admin.config_set("maxmemory", limit)
            admin.config_set("maxmemory-policy", policy)
            with refused("eviction") as caught:
                open_log(host.url(), create=1)
            assert "CONFIG SET maxmemory-policy noeviction" in caught.value.hint
            open_log(host.url()).close()
        for policy in ("volatile-lru", "volatile-ttl", "noeviction"):
            admin.config_set("maxmemory-policy", policy)
            open_log(host.url(), create=1).close()


def test_no_log_is_made_where_it_would_be_forgotten(host: Server) -> None:
    with host.admin() as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
        with refused("eviction"):
            create_log(host.url(), 1, Instruments())
        assert admin.dbsize() == 0


def test_volatile_policies_forget_nothing_of_a_log(host: Server) -> None:
    """None of its keys has a time to live: such a server refuses writes when it is full, as noeviction does."""
    log = create_log(host.url(), 1, Instruments())
    with host.admin() as admin:
        admin.config_set("maxmemory-policy", "volatile-lru")
        log.append(0, [b"x" * 1000] * 100)
        admin.config_set("maxmemory", 1)
        with refused("memory"):
            log.append(0, [b"x"])
        assert admin.xlen("ticks.{0}") == 100
    log.close()


def test_who_may_not_ask_how_a_server_is_set_is_told_once_what_to_see_to(host: Server, caplog: pytest.LogCaptureFixture) -> None:
    create_log(host.url(), 1, Instruments()).close()
    with host.admin() as admin:
        admin.execute_command("ACL", "SETUSER", "ann", "on", ">secret", "~*", "+@all", "-info", "-config")
    log = open_log(host.url("ann:secret"), create=1)
    assert [record.message.count("noeviction") for record in caplog.records] == [1]
    [advice] = log.advice()
    assert "may not ask" in advice.found
    log.close()


def test_a_node_of_a_cluster_is_refused(executable: str, tmp_path: Path) -> None:
    with Server(executable, tmp_path, "--cluster-enabled", "yes") as node, refused("cluster"):
        create_log(node.url(), 1, Instruments())


def test_old_versions_are_refused() -> None:
    """No such server is at hand; what one would say is."""
    for version in ("5.0.14", "6.0.16"):
        with refused("redis_version"):
            redis_settings.check({"redis_version": version}, "redis://host")
    for version in ("6.2.0", "7.0.15", "8.2.1", "10.0", ""):
        redis_settings.check({"redis_version": version}, "redis://host")


# ---- the doctor


@pytest.fixture
def doctor(host: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[], dict[str, dict[str, str]]]:
    create_log(host.url(), 1, Instruments()).close()

    def asked() -> dict[str, dict[str, str]]:
        assert cli.main(["doctor", "--json", "--home", str(tmp_path), "--transport", host.url()]) == 0
        return {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}

    return asked


def test_the_doctor_says_what_a_power_loss_takes_and_what_would_change_it(
    host: Server, doctor: Callable[[], dict[str, dict[str, str]]]
) -> None:
    with host.admin() as admin:
        for policy, state, words, command in (
            ("everysec", "note", "up to 2 s", "CONFIG SET appendfsync always"), ("always", "ok", "nothing", ""),
            ("no", "missing", "half a minute", "CONFIG SET appendfsync everysec"),
        ):
            admin.config_set("appendfsync", policy)
            found = doctor()["at power loss"]
            assert (found["state"], words in found["found"], command in found["advice"]) == (state, True, True)
        admin.config_set("appendonly", "no")
    found = doctor()
    assert (found["append-only file"]["state"], found["append-only file"]["advice"]) == (
        "missing", "redis-cli CONFIG SET appendonly yes",
    )
    assert "at power loss" not in found


def test_the_doctor_looks_at_the_memory(host: Server, doctor: Callable[[], dict[str, dict[str, str]]]) -> None:
    with host.admin() as admin:
        assert (doctor()["memory"]["state"], "CONFIG SET maxmemory" in doctor()["memory"]["advice"]) == ("note", True)
        admin.config_set("maxmemory", 10**9)
        assert doctor()["memory"]["state"] == "ok"
        admin.config_set("maxmemory", int(admin.info("memory")["used_memory"] * 1.1))
        assert doctor()["memory"]["state"] == "missing"
        admin.config_set("maxmemory-policy", "allkeys-lru")
        assert "noeviction" in doctor()["memory"]["advice"]


def test_the_doctor_looks_at_replicas(
    host: Server, executable: str, tmp_path: Path, doctor: Callable[[], dict[str, dict[str, str]]]
) -> None:
    assert "replicas" not in doctor()
    with Server(executable, tmp_path / "replica", "--replicaof", "127.0.0.1", host.port):
        wait_for(lambda: doctor().get("replicas", {"state": "missing"})["state"] != "missing")
        found = doctor()["replicas"]
        assert (found["state"], found["advice"]) == (
            "note", "redis-cli CONFIG SET min-replicas-to-write 1 bounds what a promotion loses",
        )
    info = {"role": "master", "master_repl_offset": "900", "slave0": "ip=h,port=1,state=online,offset=100,lag=7"}
    [late] = [advice for advice in redis_settings.advise(info, {}) if advice.what == "replicas"]
    assert (late.state, "800 bytes behind" in late.found, "silent for 7 s" in late.found) == ("missing", True, True)
    [reading] = [advice for advice in redis_settings.advise({"role": "slave"}, {}) if advice.what == "replication"]
    assert reading.state == "missing"
