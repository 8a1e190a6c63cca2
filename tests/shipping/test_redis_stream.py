"""Tests of a Redis that asks who we are, and says who it is."""

import re

import pytest

pytest.importorskip("redis")

from eliot_etw.destinations import RedisDestination
from eliot_etw.shipping._engines import Item
from eliot_etw.shipping._redis_stream import RedisStream
from eliot_etw.sources import RedisSource
from tests import _certificates, _services

# What a user must be allowed, of one stream; see docs/destinations/redis.md.
ALLOWED = (
    *("~s", "~{s}:*", "+client|setname", "+eval", "+evalsha", "+script|load", "+time"),
    *("+get", "+set", "+zadd", "+zremrangebyscore", "+xadd", "+xrange"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Start a Redis that speaks TLS, and knows users with passwords only."""
    folder = tmp_path_factory.mktemp("redis")
    kind = _services._kind("redis")
    tool = _services._tool()
    certificate, key = _certificates.make(folder)

    class Strict(kind):
        def _choose_ports(self):
            self.port, self.plain_port = tool.free_ports(2)

        def _command(self, program):
            command = super()._command(program)
            command[command.index("--port") + 1] = str(self.plain_port)
            tls = ["--tls-cert-file", certificate, "--tls-key-file", key]
            tls += ["--tls-ca-cert-file", certificate, "--tls-auth-clients", "no"]
            users = ["--user", "eliot", "on", ">s3cret", *ALLOWED]
            users += ["--user", "reader", "on", ">s3cret", "~s", *ALLOWED[2:3], "+xrange"]
            return [
                *command, "--tls-port", str(self.port), *tls, *users, "--user", "default", "off"
            ]  # fmt: skip

        def _answers(self):
            return tool._said(self.plain_port, b"PING\r\n", until=b"NOAUTH")

    server = tool.started(Strict, folder / "server")
    server.trusted = certificate
    yield server
    server.stop()


def url_of(server, who="eliot:s3cret@", trusted=None):
    return f"rediss://{who}127.0.0.1:{server.port}/0?ssl_ca_certs={trusted or server.trusted}"


def why_not(url):
    """Say why nothing can be added."""
    stream = RedisStream(url, "s", timeout_s=10, feature="a test")
    with pytest.raises(stream.errors) as caught:
        stream.append([Item(b"{}", "s", 1, "")])
    stream.close()
    return str(caught.value)


def test_right(server):
    """With TLS and a user who may little else, all arrives, and can be read back."""
    url = url_of(server)
    destination = RedisDestination(url, stream="s")
    destination({"task_uuid": "a", "task_level": [1], "timestamp": 1.5, "number": 1})
    assert destination.flush(60)
    destination.close()
    assert [m["number"] for m in RedisSource(url, stream="s")] == [1]
    named = RedisSource.named(f"{url}&stream=s")
    assert [m["number"] for m in named] == [1]
    assert "s3cret" not in named.name
    follower = named.follow()
    assert [m["number"] for m in follower.poll()] == [1]
    follower.close()


@pytest.mark.parametrize(
    ("who", "why"),
    [
        ("eliot:wr0ng@", "invalid username-password pair"),
        ("nobody:wr0ng@", "invalid username-password pair"),
        ("", "(?i)auth"),
        ("reader:s3cret@", "no permissions to run the 'evalsha' command"),
    ],
)
def test_wrong_user(server, who, why):
    """Who may not add is told so, without a password."""
    said = why_not(url_of(server, who))
    assert re.search(why, said)
    assert "wr0ng" not in said
    assert "s3cret" not in said


def test_wrong_certificate(server, tmp_path):
    """A server whom nobody we trust has signed gets nothing."""
    stranger, _ = _certificates.make(tmp_path)
    assert "certificate verify failed" in why_not(url_of(server, trusted=stranger))
    assert "certificate verify failed" in why_not(url_of(server).partition("?")[0])


def test_missing_file(tmp_path):
    """A file that is not there is named when the stream is made."""
    with pytest.raises(FileNotFoundError, match=r"missing\.pem"):
        RedisDestination(f"rediss://host?ssl_ca_certs={tmp_path}/missing.pem")


def test_unknown_option():
    """An option that is none is named when the stream is made, and no password is."""
    with pytest.raises(ValueError, match="ssl_ca_cert'") as caught:
        RedisDestination("rediss://user:s3cret@host?ssl_ca_cert=x")
    assert "s3cret" not in str(caught.value)
