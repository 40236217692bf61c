"""TLS: its versions, HTTP/2 by ALPN, certificates of clients, and new certificates while the server runs."""

from __future__ import annotations

import datetime
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator

import grpc
import pytest
from access import CALL_S, Somebody, closing, reach
from authority import LOOPBACK, Authority, Pair, move_over
from frames import Connection, tls_context
from grpc_health.v1 import health_pb2
from harness import BINARY, Cluster, Server, clean_environment, unique
from wire import CHECK, SERVING, Code

#: How soon a new connection has to see a new certificate.
RELOAD_S = 10.0

#: For what takes no time: reaching it is a failure.
HANDSHAKE_S = 10.0


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    yield from closing(Authority())


@pytest.fixture(scope="module")
def url(cluster: Cluster) -> str:
    return cluster.database()


def start(url: str, own: Pair, *arguments: str) -> Server:
    return Server(
        url, arguments=["--tls-certificate", str(own.certificate), "--tls-key", str(own.key), *arguments]
    )


@pytest.fixture(scope="module")
def server(url: str, authority: Authority) -> Iterator[Server]:
    """With a certificate, that asks for none."""
    yield from closing(start(url, authority.issue(*LOOPBACK)))


@pytest.fixture(scope="module")
def mutual(url: str, authority: Authority) -> Iterator[Server]:
    """That asks for one."""
    yield from closing(start(url, authority.issue(*LOOPBACK), "--tls-client-ca", str(authority.path)))


def context(authority: Authority, pair: Pair | None = None, *protocols: str) -> ssl.SSLContext:
    return tls_context(
        str(authority.path),
        certificate=pair and str(pair.certificate),
        key=pair and str(pair.key),
        protocols=protocols or ("h2",),
    )


def only(version: ssl.TLSVersion, made: ssl.SSLContext) -> ssl.SSLContext:
    made.minimum_version = version
    made.maximum_version = version
    return made


def handshake(address: str, made: ssl.SSLContext) -> ssl.SSLSocket:
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=HANDSHAKE_S)
    try:
        return made.wrap_socket(sock, server_hostname="localhost")
    except BaseException:
        sock.close()
        raise


def assert_serves(address: str, made: ssl.SSLContext) -> None:
    with Connection.open(address, tls=made) as peer:
        answer = peer.call(CHECK)
        assert answer.grpc_status == Code.OK and answer.messages == [SERVING]


def assert_lets_nobody_in(address: str, made: ssl.SSLContext) -> str:
    """No call is answered: the handshake fails, or the connection ends before any frame. Gives the alert.

    With TLS 1.3 a client has ended its handshake before the server has seen its certificate.
    """
    try:
        with Connection.open(address, tls=made, preface=False, timeout=HANDSHAKE_S) as peer:
            peer.hello()
            peer.until_closed()
            assert not peer.frames, peer.history()
            return str(peer.close_reason)
    except (ssl.SSLError, ConnectionError) as error:
        return str(error)


# Versions


def name(version: ssl.TLSVersion) -> str:
    """For the names of tests."""
    return version.name


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=name)
def test_a_version_that_is_spoken(server, authority, version):
    made = only(version, context(authority))
    with handshake(server.address, made) as sock:
        assert sock.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
        assert sock.selected_alpn_protocol() == "h2"
    assert_serves(server.address, made)


def test_the_newest_version_is_chosen(server, authority):
    with handshake(server.address, context(authority)) as sock:
        assert sock.version() == "TLSv1.3"


@pytest.fixture
def old_server(authority: Authority) -> Iterator[str]:
    """A server of the standard library that takes old versions."""
    own = authority.issue(*LOOPBACK)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(own.certificate, own.key)
    made.set_ciphers("ALL:@SECLEVEL=0")
    made.minimum_version = ssl.TLSVersion.TLSv1
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(HANDSHAKE_S)

    def serve() -> None:
        try:
            sock, _ = listener.accept()
            sock.settimeout(HANDSHAKE_S)
            made.wrap_socket(sock, server_side=True).close()
        except OSError:
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    yield "127.0.0.1:{}".format(listener.getsockname()[1])
    listener.close()
    thread.join(HANDSHAKE_S)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=name)
def test_a_version_that_is_too_old(server, authority, old_server, version):
    """This client can speak it, as another server shows."""
    made = context(authority)
    made.set_ciphers("ALL:@SECLEVEL=0")
    only(version, made)
    with handshake(old_server, made) as sock:
        assert sock.version() == {"TLSv1": "TLSv1", "TLSv1_1": "TLSv1.1"}[version.name]
    with pytest.raises(ssl.SSLError, match="(?i)protocol.version|unsupported.protocol"):
        handshake(server.address, made).close()


@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA"])
def test_a_cipher_that_HTTP_2_prohibits(server, authority, cipher):
    """RFC 9113, 9.2.2 and appendix A: what TLS 1.2 has without authenticated encryption."""
    made = only(ssl.TLSVersion.TLSv1_2, context(authority))
    made.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    assert_serves(server.address, made)
    made.set_ciphers(f"{cipher}:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match="(?i)handshake.failure"):
        handshake(server.address, made).close()


# HTTP/2 by ALPN


def test_h2_among_others(server, authority):
    for protocols in (("h2",), ("http/1.1", "h2"), ("h2", "http/1.1"), ("h3", "x" * 255, "h2")):
        made = context(authority, None, *protocols)
        with handshake(server.address, made) as sock:
            assert sock.selected_alpn_protocol() == "h2"
        assert_serves(server.address, made)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=name)
@pytest.mark.parametrize("protocols", [(), ("http/1.1",), ("h2c",), ("H2",), ("h2-14", "spdy/3")], ids=str)
def test_without_h2(server, authority, protocols, version):
    """Whoever does not offer it is not served, even if it then speaks it."""
    made = tls_context(str(authority.path), protocols=protocols)
    assert_lets_nobody_in(server.address, only(version, made))
    assert_serves(server.address, context(authority))


def test_plaintext(server, authority):
    """A client that does not speak TLS gets no answer in plain text either."""
    with Connection.open(server.address, preface=False, timeout=HANDSHAKE_S) as peer:
        peer.hello()
        try:
            peer.until_closed()
        except AssertionError:
            raise
        except Exception:  # An alert of TLS is no frame of HTTP/2.
            pass
        assert not peer.streams
    assert_serves(server.address, context(authority))


def test_the_certificate_is_of_its_authority(server, authority):
    """What a client needs to know with whom it speaks: one that trusts another authority does not."""
    other = Authority("Another one")
    try:
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(server.address, context(other)).close()
    finally:
        other.close()
    with handshake(server.address, context(authority)) as sock:
        names = {value for _, value in sock.getpeercert()["subjectAltName"]}
    assert names == {"localhost", "127.0.0.1"}


# Certificates of clients


def past() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=name)
class TestClientCertificates:
    def test_of_the_authority(self, mutual, authority, version):
        made = only(version, context(authority, authority.issue("dns:somebody")))
        assert_serves(mutual.address, made)

    def test_without_names(self, mutual, authority, version):
        """Names are asked for by rules, and here are none."""
        assert_serves(mutual.address, only(version, context(authority, authority.issue())))

    def test_none(self, mutual, authority, version):
        assert_lets_nobody_in(mutual.address, only(version, context(authority)))

    def test_of_another_authority(self, mutual, authority, version):
        other = Authority("A throwaway authority")
        try:
            made = only(version, context(authority, other.issue("dns:somebody")))
            assert_lets_nobody_in(mutual.address, made)
        finally:
            other.close()

    def test_one_whose_time_is_over(self, mutual, authority, version):
        made = only(version, context(authority, authority.issue("dns:somebody", ends=past())))
        assert_lets_nobody_in(mutual.address, made)

    def test_signed_by_a_client(self, mutual, authority, version):
        """A certificate that is no authority's makes no others."""
        pair = authority.issue_by(authority.issue("dns:somebody"), "dns:root")
        assert_lets_nobody_in(mutual.address, only(version, context(authority, pair)))

    def test_not_asked_for(self, server, authority, version):
        """Where none is wanted, one that is offered does no harm."""
        made = only(version, context(authority, authority.issue("dns:somebody")))
        assert_serves(server.address, made)


def test_the_official_client(mutual, authority):
    """grpcio, with a certificate and without."""
    roots, pair = authority.path.read_bytes(), authority.issue("dns:somebody")
    good = grpc.ssl_channel_credentials(roots, pair.key.read_bytes(), pair.certificate.read_bytes())
    with grpc.secure_channel(mutual.address, good) as channel:
        answer = Somebody(channel).health.Check(health_pb2.HealthCheckRequest(), timeout=CALL_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with grpc.secure_channel(mutual.address, grpc.ssl_channel_credentials(roots)) as channel:
        with pytest.raises(grpc.RpcError) as error:
            Somebody(channel).health.Check(health_pb2.HealthCheckRequest(), timeout=CALL_S)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE


# New files


class Renewed:
    """A server whose certificate's files may be replaced, and a watch that has to go on."""

    def __init__(self, url: str, authority: Authority) -> None:
        self.authority = authority
        self.first = authority.issue(*LOOPBACK)
        # Copies: what is replaced is not the authority's own.
        self.files = authority.issue(*LOOPBACK)
        self.files.replace(self.first)
        self.clients = authority.folder / f"{unique('clients')}.pem"
        self.clients.write_bytes(authority.path.read_bytes())
        self.server = start(url, self.files, "--tls-client-ca", str(self.clients))
        try:
            self._begin()
        except BaseException:
            self.server.close()
            raise

    def _begin(self) -> None:
        authority = self.authority
        self.client = authority.issue("dns:somebody")
        credentials = grpc.ssl_channel_credentials(
            authority.path.read_bytes(), self.client.key.read_bytes(), self.client.certificate.read_bytes()
        )
        self._channel = grpc.secure_channel(
            self.server.address, credentials, [("grpc.use_local_subchannel_pool", 1)]
        )
        self._caller = Somebody(self._channel)
        self._user = unique("ada")
        self._watch = self._caller.watch(user_id=self._user)

    def shown(self, client: Pair | None = None) -> bytes:
        """The certificate that a new connection sees."""
        with handshake(self.server.address, context(self.authority, client or self.client)) as sock:
            found = sock.getpeercert(binary_form=True)
            assert found
            return found

    def assert_goes_on(self) -> None:
        """The same stream, which nobody opens again, tells of what happens now."""
        self._watch.until_event("ENQUEUED", self._caller.enqueue(self._user))

    def assert_ends(self) -> None:
        assert self._watch.end()[0] is grpc.StatusCode.UNAVAILABLE

    def close(self) -> None:
        self._watch.close()
        self._channel.close()
        self.server.close()


@pytest.fixture
def renewed(url: str, authority: Authority) -> Iterator[Renewed]:
    yield from closing(Renewed(url, authority))


def long(value: str) -> object:
    """Ten seconds each: the others are told by what they have in common with the first two."""
    return pytest.param(value, marks=pytest.mark.long)


@pytest.mark.slow
def test_a_new_certificate(renewed, authority):
    """New connections see it, and an open stream does not notice; as often as there is a new one."""
    assert renewed.shown() == renewed.first.der
    for _ in range(2):
        new = authority.issue(*LOOPBACK)
        renewed.files.replace(new)
        reach(lambda new=new: renewed.shown() == new.der, RELOAD_S, "the new certificate")
        renewed.assert_goes_on()
        assert_serves(renewed.server.address, context(authority, renewed.client))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["garbage", "another key", long("empty"), long("gone"), long("a key")])
def test_a_broken_file_keeps_the_old_certificate(renewed, authority, how):
    """Also one file that is new before the other; what is right again counts."""
    size = renewed.server.log_size()
    new = authority.issue(*LOOPBACK)
    certificate = renewed.files.certificate
    match how:
        case "garbage":
            move_over(certificate, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        case "empty":
            move_over(certificate, b"")
        case "gone":
            certificate.unlink()
        case "another key":
            move_over(renewed.files.key, new.key.read_bytes())
        case "a key":
            move_over(certificate, new.key.read_bytes())
    reach(lambda: "certificate" in warnings(renewed.server.log(size)), RELOAD_S, "a line in the log")
    assert renewed.shown() == renewed.first.der
    renewed.assert_goes_on()
    renewed.files.replace(new)
    reach(lambda: renewed.shown() == new.der, RELOAD_S, "the new certificate")
    renewed.assert_goes_on()


def warnings(log: str) -> str:
    return "\n".join(line for line in log.splitlines() if "warning" in line.lower())


@pytest.mark.slow
def test_new_authorities_of_clients(renewed, authority):
    """Who is let in is read again too. Who is in stays when an authority is added; when one is taken away all have
    to come again, and its clients cannot."""
    other = Authority("The next one")
    try:
        stranger = other.issue("dns:stranger")
        assert_lets_nobody_in(renewed.server.address, context(authority, stranger))
        both = authority.path.read_bytes() + other.path.read_bytes()
        move_over(renewed.clients, both)

        def is_in(pair: Pair) -> bool:
            try:
                assert_serves(renewed.server.address, context(authority, pair))
            except (OSError, AssertionError):
                return False
            return True

        reach(lambda: is_in(stranger), RELOAD_S, "the new authority's client")
        assert is_in(renewed.client)
        renewed.assert_goes_on()
        with Connection.open(renewed.server.address, tls=context(authority, renewed.client)) as idle:
            move_over(renewed.clients, other.path.read_bytes())
            # And a second for whoever measures it.
            idle.until_closed(RELOAD_S + 1)
            assert idle.goaways, "it was asked to go before"
        renewed.assert_ends()
        reach(lambda: not is_in(renewed.client), RELOAD_S, "an end of the old authority")
        assert is_in(stranger)
    finally:
        other.close()


# Starting


class Start:
    """`signalbox serve` with some arguments, which is expected to end at once."""

    def __init__(self, url: str) -> None:
        self._url = url

    def refuses(self, *arguments: str, listen: str = "127.0.0.1:0") -> str:
        done = subprocess.run(
            [str(BINARY), "serve", "--listen", listen, "--database-url", self._url, *arguments],
            capture_output=True,
            text=True,
            timeout=CALL_S,
            env=clean_environment(),
            check=False,
        )
        assert done.returncode > 0, (done.returncode, done.stdout)
        assert "serving on" not in done.stdout
        return done.stderr + done.stdout


@pytest.fixture
def attempt(url: str) -> Start:
    return Start(url)


#: Where other machines could connect.
EVERYWHERE = ("0.0.0.0:0", "[::]:0")


@pytest.fixture
def tokens(tmp_path) -> list[str]:
    path = tmp_path / "tokens.yaml"
    path.write_text("tokens: []\n")
    return ["--auth-tokens", str(path)]


@pytest.mark.parametrize("listen", EVERYWHERE)
class TestWhereOthersCanConnect:
    def test_without_anything(self, attempt, listen):
        said = attempt.refuses(listen=listen)
        assert "tls-certificate" in said and "auth-tokens" in said and "insecure" in said

    def test_with_tokens_and_no_TLS(self, attempt, tokens, listen):
        said = attempt.refuses(*tokens, listen=listen)
        assert "tls-certificate" in said and "insecure" in said

    def test_with_TLS_and_no_credentials(self, attempt, authority, listen):
        own = authority.issue(*LOOPBACK)
        files = ["--tls-certificate", str(own.certificate), "--tls-key", str(own.key)]
        said = attempt.refuses(*files, listen=listen)
        assert "auth-tokens" in said and "insecure" in said
        # That only some clients can connect does not say what they may do.
        said = attempt.refuses(*files, "--tls-client-ca", str(authority.path), listen=listen)
        assert "auth" in said and "insecure" in said


def reached(server: Server) -> str:
    return f"127.0.0.1:{server.address.rpartition(':')[2]}"


def test_both_where_others_can_connect(url, authority, tokens):
    own = authority.issue(*LOOPBACK)
    files = ["--tls-certificate", str(own.certificate), "--tls-key", str(own.key)]
    server = Server(url, listen="0.0.0.0:0", arguments=[*files, *tokens])
    try:
        assert_serves(reached(server), context(authority))
        with Connection.open(reached(server), tls=context(authority)) as peer:
            assert peer.call("/signalbox.v1.JobService/ListJobs").grpc_status == Code.UNAUTHENTICATED
    finally:
        server.close()


@pytest.mark.parametrize("with_tokens", [False, True])
def test_insecure_where_others_can_connect(url, tokens, with_tokens):
    """Said in so many words it is done; and what there is of authentication holds."""
    server = Server(url, listen="0.0.0.0:0", arguments=["--insecure", *(tokens if with_tokens else [])])
    try:
        with Connection.open(reached(server)) as peer:
            answer = peer.call("/signalbox.v1.JobService/ListJobs")
            assert answer.grpc_status == (Code.UNAUTHENTICATED if with_tokens else Code.OK)
    finally:
        server.close()


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_on_loopback_nothing_is_needed(url, listen):
    server = Server(url, listen=listen)
    try:
        with Connection.open(server.address) as peer:
            assert peer.call("/signalbox.v1.JobService/ListJobs").grpc_status == Code.OK
    finally:
        server.close()


def test_files_that_are_wrong(attempt, authority, tmp_path):
    """The server does not start without what it was told to have, and says which."""
    own, other = authority.issue(*LOOPBACK), authority.issue(*LOOPBACK)
    garbage, none = tmp_path / "garbage.pem", tmp_path / "none.pem"
    garbage.write_text("garbage\n")
    key = ["--tls-key", str(own.key)]
    certificate = ["--tls-certificate", str(own.certificate)]
    clients = ["--tls-client-ca"]
    assert "tls-key" in attempt.refuses(*certificate)
    assert "tls-certificate" in attempt.refuses(*key)
    assert "tls-certificate" in attempt.refuses(*clients, str(authority.path))
    for path in (garbage, none):
        assert str(path) in attempt.refuses("--tls-certificate", str(path), *key)
        assert str(path) in attempt.refuses("--tls-key", str(path), *certificate)
        assert str(path) in attempt.refuses(*certificate, *key, *clients, str(path))
        assert str(path) in attempt.refuses("--auth-tokens", str(path))
        jwt = ["--auth-jwt-issuer", "x", "--auth-jwt-audience", "x"]
        assert str(path) in attempt.refuses("--auth-jwks", str(path), *jwt)
    assert str(other.key) in attempt.refuses(*certificate, "--tls-key", str(other.key)), "they do not go together"


def test_settings_that_do_not_go_together(attempt, authority, tmp_path):
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    assert "auth-jwt-issuer" in attempt.refuses("--auth-jwks", str(keys), "--auth-jwt-audience", "x")
    assert "auth-jwt-audience" in attempt.refuses("--auth-jwks", str(keys), "--auth-jwt-issuer", "x")
    assert "auth-jwks" in attempt.refuses("--auth-jwt-issuer", "x", "--auth-jwt-audience", "x")
    jwt = ["--auth-jwks", str(keys), "--auth-jwt-issuer", "x", "--auth-jwt-audience", "x"]
    assert "auth-jwt-leeway" in attempt.refuses(*jwt, "--auth-jwt-leeway", "61s")
    assert str(keys) in attempt.refuses(*jwt), "a set without a key"
    config = tmp_path / "signalbox.yaml"
    config.write_text("auth:\n  certificates:\n    - {san: dns:x, scopes: [admin]}\n")
    assert "tls-client-ca" in attempt.refuses("--config", str(config))
    for wrong in (
        "- {san: dns:x, scopes: [everything]}",
        "- {san: dns:x, scopes: []}",
        "- {san: x, scopes: [admin]}",
        "- {san: ip:127.0.0.1, scopes: [admin]}",
        "- {scopes: [admin]}",
        "- {san: dns:x}",
        "- {san: dns:x, scopes: [admin], user: ada}",
        "- {san: dns:*.example.com, scopes: [admin]}",
        "- {san: dns:x, scopes: [admin]}\n    - {san: dns:X, scopes: [jobs.read]}",
        "- {san: dns:x, scopes: [admin], users: everybody}",
    ):
        config.write_text(f"auth:\n  certificates:\n    {wrong}\n")
        own = authority.issue(*LOOPBACK)
        files = ["--tls-certificate", str(own.certificate), "--tls-key", str(own.key)]
        files += ["--tls-client-ca", str(authority.path)]
        said = attempt.refuses("--config", str(config), *files)
        assert "certificates" in said or "dns:" in said, wrong
