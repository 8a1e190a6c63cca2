"""Tests of what is shown of where engines are: never a password."""

import doctest
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.shipping import _engines
from eliot_etw.shipping._clickhouse import ClickHouseTable
from eliot_etw.shipping._engines import without_password, wrong_url


def test_examples():
    """The examples in the docstrings are right."""
    assert doctest.testmod(_engines).failed == 0


@given(st.text(min_size=1))
def test_any_password(password):
    """No password is shown, whatever is in it; where the engine is, is."""
    url = f"redis://user:{password}@host:6379/0"
    assert without_password(url) == "redis://host:6379/0"
    assert "redis://host:6379/0" in str(wrong_url("Redis", url, "redis://a"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host/0", "redis://host/0"),
        ("user:secret@host", "host"),
        ("nats://a:b@c,nats://d:e@f", "nats://f"),
        ("redis://host/0?db=1&password=secret", "redis://host/0?db=1&password=..."),
        (
            "mongodb://host/?tlsCertificateKeyFilePassword=secret&w=1",
            "mongodb://host/?tlsCertificateKeyFilePassword=...&w=1",
        ),
    ],
)
def test_shown(url, shown):
    """What is no password stays, also of options."""
    assert without_password(url) == shown


def redis(url):
    pytest.importorskip("redis")
    from eliot_etw.shipping._redis_stream import RedisStream

    return RedisStream(url, "s", timeout_s=1, feature="a test")


def nats(url):
    pytest.importorskip("nats")
    from eliot_etw.shipping._nats_stream import NatsStream

    return NatsStream(url, "s", timeout_s=1, feature="a test")


def mongodb(url):
    pytest.importorskip("pymongo")
    from eliot_etw.shipping._mongodb import MongoCollection

    return MongoCollection(url, "s", timeout_s=1, feature="a test")


def clickhouse(url):
    return ClickHouseTable(url, "s", timeout_s=1)


@pytest.mark.parametrize("engine", [redis, nats, mongodb, clickhouse])
@pytest.mark.parametrize("odd", "/?#[]")
def test_not_escaped(engine, odd):
    """A password that was not escaped is not cited, neither here nor in what it is raised from."""
    url = f"{engine.__name__}://user:s3c{odd}r3t@host:1"
    try:
        told = engine(url).url
    except ValueError as error:
        told = "".join(traceback.TracebackException.from_exception(error).format(chain=True))
    assert "s3c" not in told
    assert "r3t" not in told
