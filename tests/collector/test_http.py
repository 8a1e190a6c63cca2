"""Tests of what the collector tells over HTTP."""

import socket
import threading
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")

from eliot_etw.collector import _http
from eliot_etw.collector._http import Figure, HttpServer, Report, exposition


@pytest.fixture
def report():
    return Report([], [Figure("written", 3, {"sink": 'a"\\\n'}), Figure("up", 1, is_gauge=True)])


@pytest.fixture
def server(report):
    server = HttpServer(("127.0.0.1", 0), lambda: report)
    yield server
    server.close()


def get(server, path):
    host, port = server.address
    try:
        with urlopen(f"http://{host}:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics(server):
    """Prometheus gets counters and gauges with labels."""
    assert get(server, "/metrics") == (
        200,
        "# TYPE eliot_etw_collector_written_total counter\n"
        'eliot_etw_collector_written_total{sink="a\\"\\\\\\n"} 3\n'
        "# TYPE eliot_etw_collector_up gauge\n"
        "eliot_etw_collector_up 1\n",
    )


def test_one_name_is_one_group():
    """Numbers of one name stand together, whatever comes between them."""
    figures = [Figure("a", 1, {"x": "1"}), Figure("b", 2), Figure("a", 3, {"x": "2"})]
    names = [line.partition("{")[0].partition(" ")[0] for line in exposition(figures).splitlines()]
    a, b = "eliot_etw_collector_a_total", "eliot_etw_collector_b_total"
    assert names == ["#", a, a, "#", b]


def test_health(server, report):
    """It is well, or says what is wrong."""
    assert get(server, "/healthz") == (200, "ok\n")
    report.problems.append("sink a is down")
    assert get(server, "/healthz") == (503, "sink a is down\n")


def test_of_others(server):
    """Others ask with a query, or for the head only."""
    assert get(server, "/healthz?from=a") == (200, "ok\n")
    host, port = server.address
    with urlopen(Request(f"http://{host}:{port}/metrics", method="HEAD"), timeout=30) as answer:
        assert int(answer.headers["Content-Length"]) > 0
        assert answer.read() == b""


def test_taken(server):
    """Where it cannot listen is said, and what to do."""
    host, port = server.address
    with pytest.raises(OSError, match=rf"cannot listen at {host}:{port}: .* Say another"):
        HttpServer(server.address, lambda: Report([], []))


def test_elsewhere(server):
    """There is nothing else."""
    assert get(server, "/")[0] == 404


def test_many_at_once(server):
    """Who asks and never ends the question takes a place, and only for a while."""
    connections = [socket.create_connection(server.address) for _ in range(50)]
    try:
        for connection in connections[: _http._MOST_AT_ONCE]:
            connection.sendall(b"GET /hea")
        assert threading.active_count() < 50
    finally:
        for connection in connections:
            connection.close()
