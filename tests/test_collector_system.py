"""Tests of a whole system: several services, one collector, and the same tree in each store."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from threading import Timer
from types import SimpleNamespace
from urllib.request import ProxyHandler, build_opener
from uuid import uuid4

import pytest

pytest.importorskip("zmq")
pytest.importorskip("msgspec")
pytest.importorskip("pymongo")
pytest.importorskip("yaml")
pytest.importorskip("click")
pytest.importorskip("redis")
pytest.importorskip("requests")

from eliot_etw import sources
from eliot_etw.parse import Parser, WrittenAction
from tests import _mongodb as _mongodb_server
from tests import _services
from tests.collector._processes import CollectorProcess

ROOT = Path(__file__).resolve().parents[1]
_PATIENCE_S = 120


def _file(folder, unique):
    return {"path": f"{folder}/all.jsonl"}, f"{folder}/all.jsonl"


def _sqlite(folder, unique):
    return {"path": f"{folder}/all.sqlite"}, f"sqlite:{folder}/all.sqlite"


def _redis(folder, unique):
    url = _services.shared("redis").url
    return {"url": url, "stream": unique}, f"{url}?stream={unique}"


def _nats(folder, unique):
    url = _services.shared("nats").url
    return {"url": url, "stream": unique}, f"{url}?stream={unique}"


def _clickhouse(folder, unique):
    url = _services.shared("clickhouse").url.replace("http:", "clickhouse:")
    return {"url": url, "table": unique}, f"{url}?table={unique}"


def _mongodb(folder, unique):
    url = f"{_mongodb_server.shared_url()}eliot"
    return {"url": url, "collection": unique}, f"{url}?collection={unique}"


# For each kind of sink that can be read back: its options, and what the command line calls it.
STORES = {
    "clickhouse": _clickhouse,
    "jsonlines": _file,
    "mongodb": _mongodb,
    "nats": _nats,
    "redis": _redis,
    "sqlite": _sqlite,
}


class Service:
    """A service in a process of its own.

    Attributes:
        where: What it said when it was there: mostly its address.
    """

    def __init__(self, *arguments):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests._order_system", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        giving_up = Timer(_PATIENCE_S, self._process.kill)
        giving_up.start()
        self.where = self._process.stdout.readline().strip()
        giving_up.cancel()
        assert self.where, "the service did not start"

    def end(self):
        """Have it end, and return what became of its messages, by what shipped them."""
        said, _ = self._process.communicate(timeout=_PATIENCE_S)
        assert self._process.returncode == 0
        return json.loads(said)

    def stop(self):
        """End it at once, if it has not ended."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """Have something ordered; return what became of it, and where it is stored."""
    folder = tmp_path_factory.mktemp("system")
    redis = _services.shared("redis").url
    unique = f"system{uuid4().hex}"
    names, missing, sinks = {}, {}, []
    for kind, store in STORES.items():
        try:
            options, names[kind] = store(folder, unique)
        except pytest.skip.Exception as why:
            missing[kind] = str(why)
        else:
            sinks += [f"  {kind}:", f"    kind: {kind}"]
            sinks += [f"    {name}: {value}" for name, value in options.items()]
    inputs = "inputs:\n  - kind: zmq\n    endpoint: tcp://127.0.0.1:*\n"
    config = "\n".join(["http: 127.0.0.1:0", f"{inputs}sinks:", *sinks, ""])
    with ExitStack() as stack:
        collector = CollectorProcess(folder, config).start()
        stack.callback(collector.kill)
        services = []
        for arguments in [("stock",), ("shop",), ("mail",)]:
            stock = [services[0].where] if services[:1] and arguments == ("shop",) else []
            services.append(Service(*arguments, collector.endpoint, f"{redis}/1", *stock))
            stack.callback(services[-1].stop)
        open_url = build_opener(ProxyHandler({})).open
        with open_url(f"{services[1].where}/order", timeout=_PATIENCE_S) as answer:
            assert answer.read() == b"done"
        ends = [end for service in services for end in service.end()]
        assert collector.stop() == 0
    return SimpleNamespace(names=names, missing=missing, ends=ends)


def stored_in(system, kind):
    """Return what the command line calls a store, or skip where there is none."""
    if kind in system.missing:
        pytest.skip(system.missing[kind])
    return system.names[kind]


def drawn(name):
    """Draw what is in a store."""
    command = [sys.executable, "-m", "eliot_etw.cli", "tree", name]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=True)
    return done.stdout


def outline(written):
    """Write a tree as nested lists of types; threads may have been first, second or third."""
    if not isinstance(written, WrittenAction):
        return written.contents["message_type"]
    return [written.action_type, *sorted(map(outline, written.children), key=str)]


RECORD = "eliot:stdlib"
EXPECTED = [
    "http:request",
    [
        "shop:order",
        RECORD,
        ["shop:price"],
        ["shop:price"],
        [
            "stock:asked",
            [
                "stock:reserve",
                RECORD,
                "stock:counted",
                "stock:counted",
                "stock:counted",
                [
                    "mail:job",
                    [
                        "mail:send",
                        RECORD,
                        "eliot:traceback",
                        ["http:call", ["http:request", RECORD]],
                    ],
                ],
            ],
        ],
    ],
]


def in_order(tree):
    """Put what is in each action of an outline in one order."""
    if isinstance(tree, str):
        return tree
    return [tree[0], *sorted(map(in_order, tree[1:]), key=str)]


def test_all_is_acknowledged(system):
    """Every message of every service is, and so many are stored."""
    left = ("queued", "spooled", "refused", "dropped", "reports")
    assert [[0] * len(left)] * 4 == [[end[name] for name in left] for end in system.ends]
    acknowledged = sum(end["acknowledged"] for end in system.ends)
    assert acknowledged == len(list(sources.FileSource(stored_in(system, "jsonlines"))))


def test_one_tree(system):
    """What three services did, over three kinds of transport, is one tree that is complete."""
    messages = sorted(
        sources.FileSource(stored_in(system, "jsonlines")), key=lambda m: m["timestamp"]
    )
    (task,) = Parser.parse_stream(messages)
    assert task.is_complete()
    assert in_order(EXPECTED) == outline(task.root())
    (item,) = {m["item"] for m in messages if m.get("action_type") == "shop:order" and "item" in m}
    assert item == "TEA"


@pytest.mark.parametrize("kind", [kind for kind in STORES if kind != "jsonlines"])
def test_drawn_alike(system, kind):
    """The tree is the same from whatever store it is drawn."""
    expected = drawn(stored_in(system, "jsonlines"))
    assert "no such customer: Zoë ☃" in expected
    assert expected == drawn(stored_in(system, kind))
