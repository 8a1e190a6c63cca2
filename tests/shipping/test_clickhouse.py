"""Tests of the table of ClickHouse: what is asked, what is answered, and what breaks off."""

import socket
import struct
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from eliot_etw.shipping._clickhouse import ClickHouseTable, Refused, quoted
from tests import _certificates, _services


@contextmanager
def answers(status, body, length=None):
    """Run a server that answers everything so; give its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def table_at(url):
    return ClickHouseTable(url, "messages", timeout_s=10)


def test_fails_in_the_middle():
    """An answer that ends with a failure gives what came before, and raises."""
    table = table_at(_services.shared("clickhouse").url)
    query = (
        "SELECT number, throwIf(number >= 200000) FROM system.numbers LIMIT 1000000 "
        "FORMAT JSONEachRow"
    )
    numbers = []
    with pytest.raises(Refused, match="throwIf") as caught:
        numbers.extend(int(row["number"]) for row in table._rows(query, max_block_size="100"))
    assert caught.value.code == 395
    assert numbers == [*range(200_000)]


@pytest.mark.parametrize(
    "end",
    [
        b'{"exception": "Code: 241. DB::Exception: Memory limit exceeded"}\n',
        b"Code: 241. DB::Exception: Memory limit exceeded",
        b"__exception__\r\nabc\nCode: 241. DB::Exception: Memory limit exceeded",
    ],
)
def test_fails_in_the_middle_as_later_releases_do(end):
    """Each release has a way of its own to say so; none of them is a row."""
    with (
        answers(200, b'{"line":"a"}\n' + end) as url,
        pytest.raises(Refused),
    ):
        list(table_at(url).rows("line", once=True, where="1"))


@pytest.mark.parametrize("body", [b'{"line":"a"}\n{"line":"b', b'{"line":"a"}\n'])
def test_breaks_off(body):
    """An answer of which the rest is missing is none."""
    with (
        answers(200, body, length=1000) as url,
        pytest.raises(OSError, match="not all of it"),
    ):
        list(table_at(url).rows("line", once=True, where="1"))


@contextmanager
def hangs_up(said):
    """Run a server that takes one request, says this, and throws the connection away.

    Gives its URL, and the event that it waits for before it does so.
    """
    now = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.settimeout(30)
                asked = b""
                while b"SELECT" not in asked:
                    asked += connection.recv(10_000)
                connection.sendall(said)
                now.wait(30)
                # The other side hears of a reset, as if what it has sent were still unread.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", now
        finally:
            now.set()
            thread.join()


def test_hangs_up():
    """Who hangs up has given no answer, in whichever way the system tells of it."""
    with hangs_up(b"") as (url, now):
        now.set()
        with pytest.raises(OSError, match="no answer"):
            table_at(url).prepare()


def test_hangs_up_in_the_middle():
    """What came of an answer before it was broken off is given, and then that there was more."""
    begin = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    with hangs_up(begin + b'{"line":"a"}\n' * 10_000) as (url, now):
        rows = table_at(url).rows("line", once=True, where="1")
        assert next(rows) == {"line": "a"}
        now.set()
        with pytest.raises(OSError, match="not all of it"):
            list(rows)


@pytest.mark.parametrize(
    ("release", "settings"),
    [(b"18.16.1\n", {}), (b"24.8.4.13-lts\n", {"input_format_parallel_parsing": "0"})],
)
def test_releases(release, settings):
    """Releases that would take a long insert in pieces are told not to; others do not know it."""
    with answers(200, release) as url:
        table = table_at(url)
        table.prepare()
    assert table._insert_settings == settings


def test_somebody_else():
    """What is no ClickHouse is an OSError, too."""
    with answers(200, b"<html>") as url, pytest.raises(OSError, match="<html>"):
        table_at(url).prepare()
    with answers(200, b"<html>") as url, pytest.raises(OSError, match="<html>"):
        table_at(url).insert(b"{}\n")
    with answers(502, b"") as url, pytest.raises(OSError, match="HTTP 502"):
        table_at(url).prepare()
    with pytest.raises(OSError, match="no answer"):
        table_at(f"http://127.0.0.1:{_services.shared('redis').port}").prepare()


def test_with_tls():
    """With TLS, nothing goes to who does not speak it."""
    url = _services.shared("clickhouse").url.replace("http:", "clickhouses:")
    with pytest.raises(OSError, match=r"(?i)ssl"):
        table_at(url).prepare()


def test_certificates(tmp_path, monkeypatch):
    """With TLS, a server gets something only if one whom we trust has signed it."""
    certificate, key = _certificates.make(tmp_path)
    stranger, _ = _certificates.make(tmp_path, "stranger")
    other, other_key = _certificates.make(tmp_path, "other", "DNS:elsewhere.example")

    def prepare(server, trusted, login=""):
        monkeypatch.setenv("SSL_CERT_FILE", trusted)
        return table_at(f"clickhouses://{login}127.0.0.1:{server.tls_port}").prepare()

    server = _with_tls(tmp_path / "server", certificate, key)
    try:
        assert prepare(server, certificate) == 0
        with pytest.raises(Refused, match="password") as caught:
            prepare(server, certificate, "default:wr0ng@")
        assert "wr0ng" not in str(caught.value)
        with pytest.raises(OSError, match="certificate verify failed"):
            prepare(server, stranger)
    finally:
        server.stop()
    server = _with_tls(tmp_path / "server", other, other_key)
    try:
        with pytest.raises(OSError, match=r"not valid for '127\.0\.0\.1'"):
            prepare(server, other)
    finally:
        server.stop()


def _with_tls(folder, certificate, key):
    """Start a ClickHouse that speaks HTTPS too."""
    tool = _services._tool()

    class WithTls(_services._kind("clickhouse")):
        def _choose_ports(self):
            self.port, self._native, self.tls_port = tool.free_ports(3)

        def _command(self, program):
            command = super()._command(program)
            settings = self.folder / "config.xml"
            more = (
                f"<https_port>{self.tls_port}</https_port><openSSL><server>"
                f"<certificateFile>{certificate}</certificateFile>"
                f"<privateKeyFile>{key}</privateKeyFile>"
                "<verificationMode>none</verificationMode></server></openSSL></yandex>"
            )
            text = settings.read_text("utf-8").replace("</yandex>", more)
            settings.write_text(text, "utf-8")
            return command

    return tool.started(WithTls, folder)


def test_users(tmp_path):
    """Users have passwords; one that may only read, and set nothing, reads."""
    server = _with_reader(tmp_path)
    try:
        table_at(server.url).prepare()
        url = server.url.replace("//", "//reader:%C3%BC%3A7@")
        assert list(table_at(url).rows("line", once=True, where="1")) == []
        with pytest.raises(Refused, match="readonly") as caught:
            table_at(url).insert(b"")
        assert caught.value.code == 164
        with pytest.raises(Refused, match="reader"):
            table_at(url.replace("7@", "8@")).prepare()
    finally:
        server.stop()


def _with_reader(folder):
    """Start a ClickHouse that has a user ``reader``, whose password is ``ü:7``."""

    class WithReader(_services._kind("clickhouse")):
        def _command(self, program):
            command = super()._command(program)
            users = self.folder / "users.xml"
            user = (
                "<reader><password>ü:7</password><networks><ip>127.0.0.1</ip></networks>"
                "<profile>reading</profile><quota>default</quota></reader></users>"
            )
            profile = "<reading><readonly>1</readonly></reading></profiles>"
            text = users.read_text("utf-8").replace("</users>", user)
            users.write_text(text.replace("</profiles>", profile), "utf-8")
            return command

    return _services._tool().started(WithReader, folder)


def test_large_body_that_is_not_wanted():
    """Why a long insert was refused is heard, even if ClickHouse hangs up before it has it all."""
    table = table_at(_services.shared("clickhouse").url)
    table.prepare()
    with pytest.raises(Refused, match="JSON") as caught:
        table.insert(b'{"line":7}\n' + b'{"line":"' + b"x" * 50_000_000 + b'"}\n')
    assert caught.value.code == 26


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("clickhouse://host/db", ("host", 8123)),
        ("clickhouses://host", ("host", 8443)),
        ("https://[::1]:9", ("::1", 9)),
    ],
)
def test_urls(url, address):
    """A URL says where, and whether with TLS."""
    assert table_at(url)._address == address


def test_quoted():
    """A text is one text to ClickHouse, whatever is in it."""
    text = "a'b\\c\n\t\0`\"; DROP TABLE x; --"
    table = table_at(_services.shared("clickhouse").url)
    assert table._number(f"SELECT {quoted(text)} = {_as_codes(text)}") == 1


def _as_codes(text):
    """Write a text as ClickHouse has it when nothing has to be quoted."""
    return f"unhex('{text.encode().hex()}')"
