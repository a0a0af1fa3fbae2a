"""Proxies, certificates and names that the environment gives, and what lasts until somebody mends it."""

import asyncio
import base64
import datetime as dt
import ipaddress
import os
import ssl
import subprocess
import sys
import traceback

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from safetykit_analytics import InvalidEnvironment, fetch_batches
from safetykit_analytics.fetch import environment, transport
from tests.fetch.helpers import KEY, Listening, Server, batch_id, response, status, status_of

IDS = [batch_id(number) for number in range(8)]
PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in (*PROXY_VARIABLES, "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._sign(self.name, self.key, days=10, is_authority=True)
        self.file = folder / "authority.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, name, key, *, days, host=None, is_authority=False, names_issuer=True):
        now = dt.datetime.now(dt.UTC)
        public = self.key.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=20))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if names_issuer:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
            builder = builder.add_extension(identifier, critical=False)
        if is_authority:
            usage = dict.fromkeys(
                [
                    "content_commitment",
                    "key_encipherment",
                    "data_encipherment",
                    "key_agreement",
                    "encipher_only",
                    "decipher_only",
                ],
                False,
            )
            signs = {"digital_signature": True, "key_cert_sign": True, "crl_sign": True}
            builder = builder.add_extension(x509.KeyUsage(**usage, **signs), critical=True)
        if host:
            try:
                alternative = x509.IPAddress(ipaddress.ip_address(host))
            except ValueError:
                alternative = x509.DNSName(host)
            builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def context(self, *, host="127.0.0.1", days=5, names_issuer=True):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        file = self.folder / f"server-{host}-{days}-{names_issuer}.pem"
        encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        file.write_bytes(
            self._sign(name, key, days=days, host=host, names_issuer=names_issuer).public_bytes(encoding)
            + key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


async def answer(reader, writer):
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.write(response(status_of(head.split(" ")[1].rsplit("/", 1)[-1])))


class Proxy:
    """Tunnels CONNECT to a port, for those who say the right words."""

    def __init__(self, port, words=None):
        self.port, self.words, self.heads = port, words, []

    async def __call__(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        if self.words and f"Basic {base64.b64encode(self.words.encode()).decode()}" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        their_reader, their_writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def pipe(source, sink):
            try:
                while chunk := await source.read(65536):
                    sink.write(chunk)
            finally:
                sink.close()

        await asyncio.gather(pipe(reader, their_writer), pipe(their_reader, writer))


def fetch(url, ids=IDS):
    return fetch_batches(ids, base_url=url, api_key=KEY)


def test_an_issuer_that_ssl_cert_file_names_is_trusted(authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with Listening(answer, context=authority.context()) as server:
        result = fetch(f"https://127.0.0.1:{server.port}")
    assert len(result.frame) == len(IDS)


@pytest.mark.parametrize(
    ("made", "address", "words"),
    [
        ({}, "127.0.0.1", "its issuer is unknown; SSL_CERT_FILE"),
        ({"days": -1}, "127.0.0.1", "it has expired"),
        ({"host": "127.0.0.2"}, "127.0.0.1", "it is for another IP address; is base_url right?"),
        ({"host": "api.example.com"}, "localhost", "it is for another host; is base_url right?"),
        ({"names_issuer": False}, "127.0.0.1", "it has no authority key identifier"),
    ],
)
@pytest.mark.usefixtures("no_waiting")
def test_a_certificate_that_is_refused_ends_the_run_and_says_why(
    authority, monkeypatch, made, address, words
):
    def strict():
        # As Python 3.13 and newer verify by default.
        context = environment.tls_context()
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(transport, "tls_context", strict)
    if made:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with Listening(answer, context=authority.context(**made)) as server:
        result = fetch(f"https://{address}:{server.port}")
    assert len(result.failures) == len(IDS)
    assert (result.failures["attempts"] <= 3).all()
    assert result.failures["message"].str.contains(words, regex=False).all()


def test_a_host_that_nobody_knows_ends_the_run_and_says_so(no_waiting):
    result = fetch("https://no-such-host.invalid", [batch_id(number) for number in range(2000)])
    assert (result.failures["attempts"] <= 3).all()
    assert len(result.failures) == 2000
    assert result.failures["message"].str.contains("the host name is not known").all()
    assert set(result.failures["kind"]) == {"transport", "not_attempted"}


@pytest.mark.parametrize("userinfo", ["", "user:CANARY%21@"])
def test_https_goes_through_the_proxy_of_the_environment(authority, monkeypatch, userinfo):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with Listening(answer, context=authority.context()) as server:
        proxy = Proxy(server.port, "user:CANARY!" if userinfo else None)
        with Listening(proxy) as listening:
            monkeypatch.setenv("HTTPS_PROXY", f"http://{userinfo}127.0.0.1:{listening.port}")
            result = fetch(f"https://127.0.0.1:{server.port}")
    assert len(result.frame) == len(IDS)
    assert proxy.heads
    assert not any(KEY in head for head in proxy.heads)  # TLS stays end to end


@pytest.mark.parametrize("exempt", ["127.0.0.1", "example.com, 127.0.0.0/8", "*", "127.0.0.1:{port}"])
def test_what_no_proxy_names_goes_straight(authority, monkeypatch, exempt):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with Listening(answer, context=authority.context()) as server, Listening(answer) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", exempt.format(port=server.port))
        result = fetch(f"https://127.0.0.1:{server.port}")
    assert len(result.frame) == len(IDS)
    assert proxy.connections == 0


def test_a_proxy_that_wants_a_password_ends_the_run_and_says_so(no_waiting, monkeypatch):
    with Listening(Proxy(9, "user:right")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:CANARY@127.0.0.1:{proxy.port}")
        result = fetch("https://api.example.com")
    assert result.failures["message"].str.contains("(407)", regex=False).all()
    assert "CANARY" not in result.failures.to_csv()


@pytest.mark.parametrize(
    "address", ["socks5://user:CANARY@proxy:1080", "ftp://CANARY:a@proxy", "http://:CANARY@"]
)
def test_a_proxy_that_cannot_be_used_is_an_error_that_names_the_variable(monkeypatch, address):
    monkeypatch.setenv("HTTPS_PROXY", address)
    with pytest.raises(InvalidEnvironment, match="environment variable HTTPS_PROXY") as caught:
        fetch("https://api.example.com")
    assert caught.value.variable == "HTTPS_PROXY"
    assert isinstance(caught.value, OSError)
    ours = [
        (frame, line)
        for frame, line in traceback.walk_tb(caught.value.__traceback__)
        if frame.f_code.co_filename != __file__
    ]
    told = "".join(traceback.StackSummary.extract(iter(ours), capture_locals=True).format())
    assert "fetch/environment.py" in told
    assert "CANARY" not in told + str(caught.value)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"])
def test_a_file_of_the_environment_that_is_not_there_is_an_error_that_names_the_variable(
    monkeypatch, tmp_path, variable
):
    monkeypatch.setenv(variable, str(tmp_path / "nowhere" / "file"))
    with pytest.raises(InvalidEnvironment, match=f"environment variable {variable} names ") as caught:
        fetch("https://127.0.0.1:9")
    assert caught.value.variable == variable


def test_a_file_that_holds_no_certificates_is_named(monkeypatch, tmp_path):
    (tmp_path / "certificates.pem").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificates.pem"))
    with pytest.raises(InvalidEnvironment, match="cannot read the certificates of SSL_CERT_FILE="):
        fetch("https://127.0.0.1:9")


HANGING_NAMES = """
import os, signal, socket, time
import safetykit_analytics as ska
real = socket.getaddrinfo
def hang(host, *args, **options):
    if "slow" in str(host):
        if "interrupted" in str(host):
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(3600)
    return real(host, *args, **options)
socket.getaddrinfo = hang
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("slow", "slow.interrupted"):
    try:
        result = ska.fetch_batches(["a"], base_url=f"https://{name}.example.com", api_key="k", timeout_s=1)
        print(result.failures["kind"].tolist())
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_a_name_that_is_looked_up_for_long_holds_up_neither_the_deadline_nor_ctrl_c():
    done = subprocess.run(
        [sys.executable, "-c", HANGING_NAMES],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout == "['transport']\ninterrupted\n", done.stderr


UNCLOSED = """
import gc, sys
from httpx_aiohttp import AiohttpTransport
import safetykit_analytics as ska
result = ska.fetch_batches(["a"], api_key="k", base_url=sys.argv[1], transport=AiohttpTransport())
print(len(result.failures))
del result
gc.collect()
"""


def test_a_transport_that_nobody_closes_prints_nothing():
    with Server(status(404)) as server:
        done = subprocess.run(
            [sys.executable, "-c", UNCLOSED, server.url],
            env=os.environ | {"PYTHONPATH": os.getcwd()},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert (done.stdout, done.stderr) == ("1\n", "")
