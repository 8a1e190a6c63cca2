"""Tests of addresses: which of them other machines cannot reach."""

import json
import socket

import pytest

pytest.importorskip("zmq")
pytest.importorskip("msgspec")
pytest.importorskip("yaml")

import zmq

from eliot_etw.collector import _control as control
from eliot_etw.collector._addresses import is_address, is_local
from eliot_etw.collector._keys import make_keys
from eliot_etw.collector._level_client import LevelClient
from eliot_etw.collector.inputs.zmq import ZmqInput
from eliot_etw.collector.sinks import Batch
from eliot_etw.collector.sinks.zmq_pub import ZmqPubSink
from eliot_etw.destinations import ZmqDestination
from eliot_etw.sources import ZmqSubSource
from tests.collector._processes import lines_of
from tests.collector.inputs.test_zmq import Taken


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
    "endpoint",
    [
        *("", "here", "127.0.0.1:5515", "tcp://:5515", "tcp://a:65536", "tcp://a", "ipc://"),
        "inproc://a",
    ],
)
def test_no_address(endpoint):
    """These are none, though ZeroMQ takes some of them."""
    assert not is_address(endpoint)


def has_ipv6():
    """Say whether this machine can talk to itself by IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture(params=["tcp://127.0.0.1:*", "tcp://localhost:0", "tcp://[::1]:*", "ipc"])
def endpoint(request, tmp_path_factory):
    """Give an address to listen at."""
    if "::1" in request.param and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    if request.param != "ipc":
        return request.param
    if not zmq.has("ipc") or not hasattr(socket, "AF_UNIX"):
        pytest.skip("this system, or its Python, has no sockets with paths")
    return f"ipc://{tmp_path_factory.mktemp('s')}/a"


@pytest.fixture(params=[False, True], ids=["plain", "keys"])
def keys(request, tmp_path):
    """Make keys, or none: the options of who listens, and of two who connect."""
    if not request.param:
        return {}, {}, {}
    public, _ = make_keys(tmp_path / "own", "collector")
    _, ours = make_keys(tmp_path / "all", "a")
    secret = str(tmp_path / "own" / "collector.key_secret")
    listening = {"keys": str(tmp_path / "all"), "secret_key": secret}
    asking = {"server_key": str(public), "secret_key": str(ours)}
    return listening, {"server_key": public, "keys": ours}, asking


def test_ship(endpoint, keys, tmp_path):
    """A program ships to each kind of address, and levels are asked for there."""
    listening, sending, asking = keys
    taken = Taken()
    port = ZmqInput(endpoint, **listening, **({"admins": ["a"]} if listening else {}))
    port.start(taken, tmp_path / "input")
    try:
        destination = ZmqDestination(port.endpoint, **sending)
        destination({"number": 1})
        assert destination.flush(60)
        client = LevelClient(port.endpoint, timeout_s=60, **asking)
        assert not client.ask(control.ListLevels()).rules
        client.close()
        destination.close()
    finally:
        port.stop(5)
        port.close(5)
    [batch] = taken.batches
    assert [json.loads(line)["number"] for line in batch.lines] == [1]


def test_listen(endpoint, keys):
    """So does who publishes, and who listens there."""
    publishing, listening, _ = keys
    sink = ZmqPubSink(endpoint, **publishing)
    source = ZmqSubSource(sink.endpoint, **listening).follow()
    heard = []
    for _ in range(600):  # until the connection is made
        sink.store(Batch(lines_of(1)))
        source.wait(timeout_s=0.1)
        heard += source.poll()
        if heard:
            break
    source.close()
    sink.close(5)
    assert heard[0]["number"] == 1
