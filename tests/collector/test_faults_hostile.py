"""Tests of a collector among strangers: who may ship, what noise does, how much it all takes."""

import json
import os
import pickle
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

pytest.importorskip("zmq")
pytest.importorskip("yaml")
pytest.importorskip("msgspec")
pytest.importorskip("click")

from eliot_etw.collector._keys import make_keys
from eliot_etw.destinations import ZmqDestination
from tests.collector._faults import (
    LINES,
    PYTHON,
    ROOT,
    STORE,
    each_is_there_once,
    end,
    lines_in,
    rows_in,
)
from tests.collector._fuzzer import Bomb
from tests.collector._processes import lines_of, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="collectors are ended by signals")

ANYWHERE = "tcp://127.0.0.1:*"
# What a collector may grow by while a sink is down; and while there is noise: 64 MiB of unfinished
# frames, with keys 64 of 4 MiB, and what the allocator and batches that are right need besides.
_MOST_GROWTH_MIB = 64
_MOST_GROWTH_BY_NOISE_MIB = 224
_MOST_GROWTH_WITH_KEYS_MIB = 448
# How long noise is made: a minute in CI, on one Python.
_IS_LONG = bool(os.environ.get("CI")) and sys.version_info[:2] == (3, 12)
_FUZZ_S = float(os.environ.get("ELIOT_ETW_FUZZ_S", "60" if _IS_LONG else "3"))


def memory_mib(pid):
    """Return what a process has in memory; 0 where the system does not tell."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


@pytest.fixture
def keys(tmp_path):
    """Make keys: of the collector, of a shop that is allowed, of a stranger; give their folder."""
    make_keys(tmp_path / "keys", "collector")
    make_keys(tmp_path / "keys", "shop")
    make_keys(tmp_path / "keys", "stranger")
    (tmp_path / "allowed").mkdir()
    allow(tmp_path / "keys", "shop")
    return tmp_path / "keys"


def allow(keys, name, of=None):
    """Allow a key, perhaps in the place of another's."""
    allowed = keys.parent / "allowed" / f"{name}.key"
    allowed.with_suffix(".new").write_bytes((keys / f"{of or name}.key").read_bytes())
    allowed.with_suffix(".new").rename(allowed)


@pytest.fixture
def service(keys, collector, tmp_path, request):
    """Start a collector that wants keys, unless the test says otherwise."""
    endpoint = ANYWHERE
    if getattr(request, "param", True):
        endpoint += f"\n    keys: {keys.parent}/allowed"
        endpoint += f"\n    secret_key: {keys}/collector.key_secret"
    return collector((LINES + STORE).format(folder=tmp_path), endpoint).start()


def keys_of(keys, name, collector="collector"):
    """Return the settings of a destination that has keys."""
    return {
        "server_key": str(keys / f"{collector}.key"),
        "keys": str(keys / f"{name}.key_secret"),
    }


class TestKeys:
    """Only who has a key that is allowed is told that anything of it is accepted."""

    def test_strangers(self, service, keys, sender, tmp_path):
        """Without keys, with wrong ones, or for another collector, nothing is; a friend's is."""
        strangers = [
            sender(service.endpoint, "none", patience_s=1),
            sender(service.endpoint, "wrong", patience_s=1, **keys_of(keys, "stranger")),
            sender(service.endpoint, "other", patience_s=1, **keys_of(keys, "shop", "stranger")),
        ]
        friend = sender(service.endpoint, "shop", **keys_of(keys, "shop"))
        wait_until(lambda: lines_in(tmp_path))
        wait_until(lambda: service.figures()['input_denied_total{input="inputs[0]"}'])
        for each in strangers:
            counted = each.end()[0]
            assert counted["acknowledged"] == counted["refused"] == 0
            assert counted["logged"] == counted["spooled"] + counted["dropped"]
        ends = {"shop": friend.end()[0]}
        end(service)
        each_is_there_once(ends, lines_in(tmp_path), rows_in(tmp_path))

    @pytest.mark.parametrize("how", ["removed", "replaced"])
    def test_revoked(self, service, keys, sender, tmp_path, how):
        """From who is connected with a key that is revoked nothing more is taken, until it counts
        again; then all comes.
        """  # noqa: D205 - one sentence
        program = sender(service.endpoint, **keys_of(keys, "shop"))
        wait_until(lambda: lines_in(tmp_path))
        if how == "removed":
            (keys.parent / "allowed" / "shop.key").unlink()
        else:
            allow(keys, "shop", "stranger")
        wait_until(lambda: service.figures()['input_denied_total{input="inputs[0]"}'])
        taken = service.figures()["taken_total"]
        time.sleep(1)  # while it goes on to ship
        assert service.figures()["taken_total"] == taken
        allow(keys, "shop")
        ends = {"x": program.end()[0]}
        end(service)
        assert ends["x"]["logged"] > taken
        each_is_there_once(ends, lines_in(tmp_path), rows_in(tmp_path))


@pytest.mark.parametrize("service", [False, True], indirect=True, ids=["open", "with keys"])
def test_fuzzer(service, keys, sender, tmp_path, request):
    """Noise of all kinds makes it neither end, nor fail, nor grow; and others are served."""
    has_keys = "with keys" in request.node.name
    settings = keys_of(keys, "shop") if has_keys else {}
    friend = sender(service.endpoint, **settings)
    wait_until(lambda: lines_in(tmp_path))
    before = memory_mib(service.program.pid)
    with noise(service, tmp_path) as fuzzer, closing(destination(service, settings)) as other:
        grown = []
        while fuzzer.poll() is None:
            other(json.loads(lines_of(1, start=len(grown) + 1, who="other")[0]))
            assert other.flush(60)
            grown.append(memory_mib(service.program.pid) - before)
            time.sleep(0.05)
    assert fuzzer.returncode == 0
    assert min(json.loads((tmp_path / "noise.json").read_text()).values()) > 0
    ends = [friend.end()[0]]
    assert service.program.poll() is None, service.text()[-2000:]
    figures = service.figures()
    assert figures['input_failures_total{input="inputs[0]"}'] == 0, service.text()[-5000:]
    most_mib = _MOST_GROWTH_WITH_KEYS_MIB if has_keys else _MOST_GROWTH_BY_NOISE_MIB
    assert max(grown) < most_mib
    end(service)
    for store in (lines_in(tmp_path), rows_in(tmp_path)):
        of_friend = [message for message in store if message.get("who") == "x"]
        each_is_there_once({"x": ends[0]}, of_friend)
        of_other = [message["number"] for message in store if message.get("who") == "other"]
        assert sorted(of_other) == [*range(1, len(grown) + 1)]
    assert not list(ROOT.glob("harm"))
    assert not list(tmp_path.rglob("harm"))


@contextmanager
def noise(service, folder):
    """Have a program make noise; give it."""
    command = [*PYTHON, "tests.collector._fuzzer", service.endpoint, str(_FUZZ_S), "7"]
    with (
        open(folder / "noise.json", "wb") as said,
        subprocess.Popen(command, cwd=ROOT, stdout=said) as fuzzer,
    ):
        try:
            yield fuzzer
        finally:
            fuzzer.kill()


def destination(service, settings):
    """Make a sender that reads its key from a file, if there are keys."""
    if "server_key" in settings:
        settings = {**settings, "server_key": Path(settings["server_key"])}
    return ZmqDestination(service.endpoint, **settings)


def test_pickle_bomb(collector, shipper, tmp_path):
    """What would do harm when it is unpickled lies inert in all stores, and where it is drawn."""
    service = collector((LINES + STORE).format(folder=tmp_path)).start(cwd=tmp_path)
    bomb = pickle.dumps(Bomb(), protocol=0)
    shipper = shipper(service.endpoint)
    shipper.socket.send(bomb)
    assert shipper.hear_a(shipper.protocol.Refused).code == "garbage"
    shipper.greet()
    shipper.ship([bomb.replace(b"\n", b" "), *lines_of(2, bomb=bomb.decode())])
    shipper.wait_for_ack(3)
    end(service)
    assert [1, 2] == sorted(m["number"] for m in rows_in(tmp_path) if "number" in m)
    for store in ("lines.jsonl", "sqlite:store.sqlite"):
        command = [*PYTHON, "eliot_etw.cli", "tree", store]
        subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert not list(tmp_path.rglob("harm"))


def ship_many(sender, batches):
    """Ship batches of a thousand messages of 300 bytes, four at a time; all are acknowledged."""
    sender.greet()
    acknowledged = 0
    for number in range(batches + 4):
        if number < batches:
            sender.ship(lines_of(1_000, text="x" * 200), number * 1_000 + 1)
        while acknowledged < min(number - 3, batches) * 1_000:
            acknowledged = sender.hear_a(sender.protocol.Ack).through


def test_memory_is_flat(collector, shipper, tmp_path):
    """It does not grow with the number of messages."""
    service = collector(LINES.format(folder=tmp_path)).start()
    ship_many(shipper(service.endpoint), 30)
    before = memory_mib(service.program.pid)
    ship_many(shipper(service.endpoint), 150)
    assert memory_mib(service.program.pid) - before < 16


def test_memory_while_a_sink_is_down(collector, shipper, tmp_path):
    """What waits for a sink is bounded, and so is what is held back for it."""
    store = f"{STORE}    memory_bytes: 4000000\n    spool_bytes: 4000000\n"
    service = collector((LINES + store).format(folder=tmp_path)).start()
    its = shipper(service.endpoint)
    ship_many(its, 10)
    with closing(sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        before = memory_mib(service.program.pid)
        for number in range(10, 200):
            its.ship(lines_of(1_000, text="x" * 200), number * 1_000 + 1)
        wait_until(lambda: service.figures()['input_held_back_total{input="inputs[0]"}'])
        time.sleep(1)
        assert memory_mib(service.program.pid) - before < _MOST_GROWTH_MIB
        size = sum(file.stat().st_size for file in (service.state / "spool").rglob("*"))
        assert size < 6_000_000
        other.execute("ROLLBACK")
    end(service)
