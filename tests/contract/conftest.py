"""A log per test, on each transport of `engine.transports.SCHEMES`: real servers, started once."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engine.errors import DeviceMissing
from engine.redis_server import redis_executable
from engine.transports import SCHEMES, create_log, open_log
from engine.transports.base import Log

SECRET = "p@ss/word"
IN_URL = "p%40ss%2Fword"


class Server(NamedTuple):
    port: int
    socket: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, missing: Callable[[str], NoReturn]) -> Iterator[Server]:
    """A Redis with a password, on a TCP port and a Unix socket."""
    try:
        executable = redis_executable()
    except DeviceMissing as error:
        missing(error.args[0])
    folder = tmp_path_factory.mktemp("redis")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [executable, "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", str(folder / "s"),
         "--dir", str(folder), "--requirepass", SECRET, "--appendonly", "yes", "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None
                time.sleep(0.01)
        yield Server(port, folder / "s")
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def encrypted(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The same server behind TLS: (port, the certificate to trust)."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    def pump(client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),          # one side has gone: so do we
            context.wrap_socket(client, server_side=True) as inside,
            socket.create_connection(("127.0.0.1", server.port)) as outside,
        ):
            for end in (inside, outside):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                ready = [inside] if inside.pending() else select.select([inside, outside], [], [])[0]
                for source in ready:
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    (outside if source is inside else inside).sendall(data)

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):         # the listener was closed
            while True:
                threading.Thread(target=pump, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("localhost", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1], folder / "cert.pem"
        listener.shutdown(socket.SHUT_RDWR)


_numbers = itertools.count()

URLS: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "memory": lambda request: f"memory://{next(_numbers)}",
    "redis+embedded": lambda request: f"redis+embedded://{request.getfixturevalue('redis_dir')}",
    "redis": lambda request: "redis://:{}@127.0.0.1:{}/0?prefix={}.".format(
        IN_URL, request.getfixturevalue("server").port, next(_numbers)
    ),
    "unix": lambda request: "unix://:{}@{}?prefix={}.".format(
        IN_URL, request.getfixturevalue("server").socket, next(_numbers)
    ),
    "rediss": lambda request: "rediss://:{}@localhost:{}/0?ssl_ca_certs={}&prefix={}.".format(
        IN_URL, *request.getfixturevalue("encrypted"), next(_numbers)
    ),
}
"""How to get an empty place for a log, per scheme. A new scheme needs a line here."""


@pytest.fixture(params=sorted(SCHEMES))
def url(request: pytest.FixtureRequest) -> str:
    """Where no log is yet."""
    return URLS[request.param](request)


Door = Callable[..., Log]


@pytest.fixture
def door(url: str) -> Iterator[Door]:
    """Opens the log of the test once more: `door(deployment)`. It has three partitions."""
    logs = [create_log(url, 3)]

    def opened(deployment: str = "main") -> Log:
        logs.append(open_log(url, deployment=deployment))
        return logs[-1]

    yield opened
    for log in logs:
        log.close()


@pytest.fixture
def log(door: Door) -> Log:
    return door()
