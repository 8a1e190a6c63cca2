"""Tests of addresses: which of them other machines cannot reach."""

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")

from eliot_etw.collector._addresses import is_address, is_local


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://127.0.0.1:5515",
        "tcp://127.1.2.3:*",
        "tcp://localhost:5515",
        "tcp://[::1]:5515",
        "ipc:///run/a.sock",
    ],
)
def test_local(endpoint):
    """Loopback addresses and files are this machine's."""
    assert is_local(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://*:5515",
        "tcp://0.0.0.0:5515",
        "tcp://[::]:5515",
        "tcp://eth0:5515",
        "tcp://127.0.0.1.example.org:5515",
        "tcp://localhost.example.org:5515",
        "tcp://192.168.0.1:5515",
        "udp://127.0.0.1:5515",
        "ipc://",
        "",
    ],
)
def test_not_local(endpoint):
    """Anything else may be reached from elsewhere."""
    assert not is_local(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://*:5515",
        "tcp://eth0:*",
        "tcp://[::1]:65535",
        "tcp://127.0.0.1:0",
        "ipc://a",
        "ipc://@a",
    ],
)
def test_address(endpoint):
    """These can be listened at."""
    assert is_address(endpoint)


@pytest.mark.parametrize(
    "endpoint", ["", "here", "127.0.0.1:5515", "tcp://:5515", "tcp://a:65536", "tcp://a", "ipc://"]
)
def test_no_address(endpoint):
    """These are none, though ZeroMQ takes some of them."""
    assert not is_address(endpoint)
