"""The server of grpc's test service (Tests/InteropServer), the official client for it, and stubs of our own.

The binary is INTEROP_SERVER_BIN, by default .build/debug/InteropServer. The official client is fetched by
scripts/lib/dependencies (`need_interop_client`) into .build/interop/client, or is where INTEROP_CLIENT says.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import harness
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BINARY = Path(os.environ.get("INTEROP_SERVER_BIN", harness.ROOT / ".build/debug/InteropServer"))
OFFICIAL_CLIENT = Path(os.environ.get("INTEROP_CLIENT", harness.ROOT / ".build/interop/client"))

#: Far longer than anything should take: reaching it is a failure, never a way to wait.
PATIENCE_S = 60.0

#: The messages and the stubs of interop.proto, which lies beside this file.
messages, services = grpc.protos_and_services("interop.proto")


class Certificates:
    """A throwaway authority, and a certificate by it for the loopback: PEM files in a folder of their own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sbx-tls-"))
        self.authority = self.folder / "authority.pem"
        self.certificate = self.folder / "server.pem"
        self.key = self.folder / "server.key"
        authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        issuer = self._name("Throwaway authority of the interop cases")
        authority = (
            self._builder(issuer, issuer, authority_key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(authority_key, hashes.SHA256())
        )
        loopback = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = (
            self._builder(self._name("localhost"), issuer, server_key)
            .add_extension(x509.SubjectAlternativeName(loopback), critical=False)
            .sign(authority_key, hashes.SHA256())
        )
        self.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            server_key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    @staticmethod
    def _name(common_name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])

    @staticmethod
    def _builder(
        subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.authority.read_bytes())

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class InteropServer:
    """A running InteropServer. It has the parts of `harness.Server` with which a failure shows its log."""

    def __init__(self, certificates: Certificates | None = None) -> None:
        assert BINARY.exists(), f"{BINARY} does not exist: build it, or set INTEROP_SERVER_BIN"
        self.certificates = certificates
        self.name = "interop-tls" if certificates else "interop"
        self.folder = Path(tempfile.mkdtemp(prefix="sbx-interop-"))
        self._log = self.folder / "log"
        command = [str(BINARY), "--port", "0"]
        if certificates:
            command += ["--tls-certificate", str(certificates.certificate)]
            command += ["--tls-key", str(certificates.key)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, bufsize=0)
        harness._servers.append(self)
        assert self.process.stdout is not None
        is_there, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        line = self.process.stdout.readline().decode() if is_there else ""
        found = re.fullmatch(r"listening on (127\.0\.0\.1):(\d+)\n", line)
        if not found:
            said = self.log()
            self.process.kill()
            self.process.wait(PATIENCE_S)
            harness._servers.remove(self)
            shutil.rmtree(self.folder, ignore_errors=True)
            raise AssertionError(f"{' '.join(command)}\nis not serving: {line!r}\n{said}")
        self.host, self.port = found[1], int(found[2])

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def log(self, since: int = 0) -> str:
        return self._log.read_bytes()[since:].decode(errors="replace")

    def log_size(self) -> int:
        return self._log.stat().st_size

    def channel(self, port: int | None = None, **options: int) -> grpc.Channel:
        """A connection of its own: to the server, or to what listens on another port for it."""
        address = f"{self.host}:{port or self.port}"
        arguments = [("grpc.use_local_subchannel_pool", 1)]
        arguments += [(f"grpc.{name}", value) for name, value in options.items()]
        if self.certificates:
            return grpc.secure_channel(address, self.certificates.credentials(), arguments)
        return grpc.insecure_channel(address, arguments)

    def close(self) -> None:
        code: int | None = None
        try:
            self.process.terminate()
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        if self.process.stdout:
            self.process.stdout.close()
        harness._servers.remove(self)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert code == 0, f"the server ended with {code} after SIGTERM"


def run_official_case(server: InteropServer, case: str) -> None:
    """The official client's process, for one case. It ends with 0 when it has seen what it wants.

    With TLS it takes its roots from a file that the environment names, so that the certificates can be ours:
    those that come with its source have a day on which they end.
    """
    assert (OFFICIAL_CLIENT / "tests/interop/client.py").exists(), (
        f"the official interop client is not in {OFFICIAL_CLIENT}: scripts/conformance fetches it"
    )
    command = [sys.executable, "-m", "tests.interop.client", f"--test_case={case}"]
    command += [f"--server_host={server.host}", f"--server_port={server.port}"]
    environment = {**os.environ, "PYTHONPATH": str(OFFICIAL_CLIENT)}
    if server.certificates:
        command += ["--use_tls=true", "--use_test_ca=false"]
        environment["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(server.certificates.authority)
    # In a folder without modules: "-m" would look there first.
    done = subprocess.run(
        command, cwd=server.folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, f"{case}: exit code {done.returncode}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="session")
def interop_certificates() -> Iterator[Certificates]:
    certificates = Certificates()
    yield certificates
    certificates.close()


@pytest.fixture(scope="session")
def plaintext_interop_server() -> Iterator[InteropServer]:
    """One server for all tests over plaintext."""
    server = InteropServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def tls_interop_server(interop_certificates: Certificates) -> Iterator[InteropServer]:
    """One server for all tests over TLS."""
    server = InteropServer(interop_certificates)
    yield server
    server.close()


@pytest.fixture(scope="session", params=["plaintext", "tls"])
def interop(request: pytest.FixtureRequest) -> InteropServer:
    """For what is to hold over both."""
    return request.getfixturevalue(f"{request.param}_interop_server")


@pytest.fixture(scope="session")
def interop_server(plaintext_interop_server: InteropServer) -> str:
    """The address of a server, for tests that speak HTTP/2 to it themselves."""
    return f"{plaintext_interop_server.host}:{plaintext_interop_server.port}"
