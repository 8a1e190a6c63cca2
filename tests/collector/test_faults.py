"""Tests of faults with real senders and collectors: what was acknowledged is stored, and once.

What is not acknowledged is counted. The tests of `collector.service` and of `shipping` have
collectors and senders that are killed.
"""

import os
import shutil
import subprocess
import sys
import time

import pytest

pytest.importorskip("zmq")
pytest.importorskip("yaml")
pytest.importorskip("msgspec")
pytest.importorskip("click")

from eliot_etw.collector._keys import make_keys
from eliot_etw.sources import RedisSource
from tests import _services
from tests.collector._faults import (
    LINES,
    PYTHON,
    ROOT,
    STORE,
    each_is_there_once,
    end,
    lines_in,
    more_lines,
    numbers_of,
    rows_in,
    what_is_left,
)
from tests.collector._processes import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="collectors are ended by signals")


def test_clock_steps(collector, sender, tmp_path):
    """Clocks that go forth and back, of senders and of the collector, disturb nobody."""
    sinks = LINES + "    every_s: 3600\n" + STORE
    odd = (*PYTHON, "tests.collector._odd_clock")
    service = collector(sinks.format(folder=tmp_path)).start(within=odd, cwd=ROOT)
    senders = [
        sender(service.endpoint, "odd", within=odd),
        sender(service.endpoint, "right"),
    ]

    def stepped_far():
        stamps = [message["timestamp"] for message in rows_in(tmp_path) if message["who"] == "odd"]
        return stamps and max(stamps) - min(stamps) > 86_400

    wait_until(stepped_far)
    time.sleep(3)
    ends = {each.who: each.end()[0] for each in senders}
    assert service.health()[0] == 200
    end(service)
    each_is_there_once(ends, lines_in(tmp_path), rows_in(tmp_path))
    assert [end["reconnects"] for end in ends.values()] == [0, 0]


def test_a_hundred_senders_at_once(collector, sender, tmp_path):
    """Processes that were forked from one, and all begin at once, are each served."""
    service = collector((LINES + STORE).format(folder=tmp_path)).start()
    ends = sender(service.endpoint, children=100).end()
    end(service)
    assert len(ends) == 100
    each_is_there_once(
        {f"child {n}": end for n, end in enumerate(ends)}, lines_in(tmp_path), rows_in(tmp_path)
    )


def test_rolling_restart(collector, sender, tmp_path):
    """Collectors that are restarted one after the other, under load, take each message once."""
    folders = [tmp_path / name for name in "ab"]
    services = []
    for folder in folders:
        folder.mkdir()
        sinks = (LINES + STORE).format(folder=folder)
        services.append(collector(sinks, folder=folder).start())
    senders = [
        [sender(service.endpoint, f"{n}", heartbeat_s=0.5) for n in range(2)]
        for service in services
    ]
    for _ in range(2):
        for folder, service in zip(folders, services, strict=True):
            wait_until(more_lines(folder))
            assert service.stop() == 0
            service.start()
    for folder, service, its in zip(folders, services, senders, strict=True):
        ends = {each.who: each.end()[0] for each in its}
        end(service)
        each_is_there_once(ends, lines_in(folder), rows_in(folder))
        assert all(end["reconnects"] for end in ends.values())


def test_engine_is_killed_and_hangs(collector, sender, tmp_path):
    """A sink whose server is killed, or hangs, gets all when it is back; no other waits."""
    pytest.importorskip("redis")
    redis = _services.start("redis", tmp_path / "redis")
    try:
        sinks = LINES + f"  redis:\n    kind: redis\n    url: {redis.url}\n    timeout_s: 1\n"
        service = collector(sinks.format(folder=tmp_path)).start()
        program = sender(service.endpoint)
        wait_until(more_lines(tmp_path))
        redis.stop(9)
        wait_until(lambda: service.health()[0] == 503)
        wait_until(more_lines(tmp_path))
        redis.start()
        wait_until(lambda: service.health()[0] == 200)
        redis.pause()
        wait_until(lambda: service.health()[0] == 503)
        wait_until(more_lines(tmp_path))
        redis.go_on()
        wait_until(lambda: service.health()[0] == 200)
        ends = {program.who: program.end()[0]}
        end(service)
        each_is_there_once(ends, lines_in(tmp_path), RedisSource(redis.url))
    finally:
        redis.stop()


def need_root(what):
    """Skip a test that changes the system, unless it may."""
    if sys.platform != "linux" or os.geteuid():
        pytest.skip(f"{what} needs Linux and root")


def cannot(why):
    """Skip a test that even root may not do here; in the CI it must."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of 3 MiB; give its folder, and what makes it larger."""
    need_root("a disk of its own")
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options):
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    mounted = mount("size=3m")
    if mounted.returncode:
        cannot(f"a disk cannot be mounted here: {mounted.stderr}")
    try:
        yield folder, lambda: mount("remount", "size=200m").check_returncode()
    finally:
        # Whatever still has files open there.
        subprocess.run(["umount", "--lazy", folder], timeout=30, check=True)


@pytest.mark.parametrize("is_killed", [False, True])
def test_disk_is_full(small_disk, collector, sender, is_killed):
    """What was acknowledged before the disk was full is stored; the rest is when there is room.

    Not even the collector's own log, its spools and its journals have room; and it may be killed.
    """
    folder, make_larger = small_disk
    service = collector((LINES + STORE).format(folder=folder), folder=folder).start()
    # So few that the program has room for what is held back, however long all this takes.
    program = sender(service.endpoint, burst=100, pause_s=0.05)
    with what_is_left(service):
        wait_until(lambda: service.health()[0] == 503)
        time.sleep(0.5)  # so that more comes
        if is_killed:
            service.kill()
        make_larger()
        if is_killed:
            service.start()
        wait_until(lambda: service.health()[0] == 200)
        wait_until(more_lines(folder))
        ends = {program.who: program.end()[0]}
        end(service)
        each_is_there_once(ends, lines_in(folder), rows_in(folder))


class Wire:
    """Two networks of their own, and a wire between them that can be cut.

    Attributes:
        ends: For each network, what a command begins with that is to run in it.
        address: Where the first is.
    """

    address = "10.77.0.1"

    def __init__(self):
        self._names = [f"eliot{os.getpid()}{end}" for end in "ab"]
        self.ends = [("ip", "netns", "exec", name) for name in self._names]

    def open(self):
        """Make them; skip where that is not possible."""
        need_root("a network of its own")
        if not shutil.which("ip"):
            cannot("there is no command ip. On Debian: apt-get install iproute2")
        made = self._ip("netns", "add", self._names[0], check=False)
        if made.returncode:
            cannot(f"there are no network namespaces here: {made.stderr}")
        one, two = self._names
        self._ip("netns", "add", two)
        self._ip("-n", one, "link", "add", "wire", "type", "veth", "peer", "wire", "netns", two)
        for number, name in enumerate(self._names, 1):
            self._ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "wire")
            for device in ("lo", "wire"):
                self._ip("-n", name, "link", "set", device, "up")

    def cut(self, *, is_cut=True):
        """Cut the wire, or mend it; nobody is told."""
        self._ip("-n", self._names[0], "link", "set", "wire", "down" if is_cut else "up")

    def close(self):
        """Remove all."""
        for name in self._names:
            self._ip("netns", "delete", name, check=False)

    @staticmethod
    def _ip(*command, check=True):
        return subprocess.run(
            ["ip", *command], check=check, capture_output=True, text=True, timeout=30
        )


@pytest.fixture
def wire():
    """Return a wire between two networks."""
    wire = Wire()
    try:
        wire.open()
        yield wire
    finally:
        wire.close()


def test_network_is_cut(wire, collector, sender, tmp_path):
    """What is logged while the network is cut comes when it is mended, once; or is counted.

    All is encrypted, as it must be between two machines.
    """
    for name in ("collector", "shop"):
        make_keys(tmp_path / "keys", name)
    keys = tmp_path / "keys"
    endpoint = f"tcp://{wire.address}:5515"
    options = f"\n    keys: {keys}\n    secret_key: {keys}/collector.key_secret"
    sinks = (LINES + STORE).format(folder=tmp_path)
    service = collector(sinks, endpoint + options).start(within=wire.ends[0])
    settings = {
        "within": wire.ends[1],
        "heartbeat_s": 0.3,
        "server_key": str(keys / "collector.key"),
        "keys": str(keys / "shop.key_secret"),
    }
    patient = sender(endpoint, "patient", spool_folder=str(tmp_path / "spool"), **settings)
    small = {"max_spool_bytes": 20_000, "max_queued": 100, "when_full": "drop_new"}
    forgetful = sender(endpoint, "forgetful", **small, **settings)

    def more_of_each():
        """Return what says whether there are more lines of both than now."""
        before = [str(lines_in(tmp_path)).count(name) for name in ("patient", "forgetful")]
        return lambda: all(
            str(lines_in(tmp_path)).count(name) > count
            for name, count in zip(("patient", "forgetful"), before, strict=True)
        )

    for _ in range(2):
        wait_until(more_of_each())
        wire.cut()
        time.sleep(2)  # longer than four signs of life
        wire.cut(is_cut=False)
    wait_until(more_of_each())
    (theirs,), (its,) = patient.end(), forgetful.end()
    assert min(theirs["reconnects"], its["reconnects"]) >= 1
    assert its["dropped"] > 0
    assert service.stop() == 0
    for store in (lines_in(tmp_path), rows_in(tmp_path)):
        of_patient = [message for message in store if message.get("who") == "patient"]
        each_is_there_once({"patient": theirs}, of_patient)
        numbers, reports = numbers_of(store)
        left = numbers["forgetful"]
        assert len(left) == len(set(left)) == its["acknowledged"] - reports
