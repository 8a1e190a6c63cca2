"""Tests of what waits: nothing lost or doubled, whatever becomes of the process and the disk."""

import errno
import os
import subprocess
import sys
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from eliot_etw.shipping import _spool as spools
from eliot_etw.shipping._spool import DiskSpool, Entry, MemorySpool, SpoolFull
from tests._faulty_os import FaultyOs
from tests._programs import run_forking

posix = pytest.mark.skipif(os.name != "posix", reason="this system is not POSIX")


@pytest.fixture(params=["memory", "disk"])
def make(request, tmp_path):
    """Return what makes spools of both kinds, and closes them after the test."""
    made = []

    def make(**options):
        options = {"max_bytes": 1 << 20, **options}
        made.append(
            MemorySpool(**options)
            if request.param == "memory"
            else DiskSpool(tmp_path / str(len(made)), **options)
        )
        return made[-1]

    yield make
    for spool in made:
        spool.close()


@pytest.fixture
def folder(tmp_path):
    """Return where a spool on disk is to be."""
    return tmp_path / "spool"


def all_of(spool, at=0):
    """List what is in a spool."""
    entries = []
    while (entry := spool.read(at)) is not None:
        entries.append(entry)
        at = entry.last + 1
    return entries


def reopened(spool, **options):
    """Open the folder of a spool again."""
    spool.close()
    return DiskSpool(spool.folder, **{"max_bytes": 1 << 20, **options})


class TestBoth:
    """What both kinds do."""

    def test_in_order(self, make):
        """What goes in comes out, numbered from 1."""
        spool = make()
        assert [spool.append(b"abc", 3), spool.append(b"d", 1), spool.append(b"", 2)] == [1, 4, 5]
        assert all_of(spool) == [Entry(1, 3, b"abc"), Entry(4, 1, b"d"), Entry(5, 2, b"")]
        assert (len(spool), spool.first, spool.next) == (6, 1, 7)

    def test_from_anywhere(self, make):
        """A blob is found by the number of any of its messages, forwards and backwards."""
        spool = make()
        for blob in (b"abc", b"de", b"f"):
            spool.append(blob, len(blob))
        assert [spool.read(at).first for at in (6, 5, 4, 3, 2, 1, 0, 4, 2)] == [
            6, 4, 4, 1, 1, 1, 1, 4, 1,
        ]  # fmt: skip
        assert spool.read(7) is None

    def test_release(self, make):
        """What is released is gone; a blob that is released in part is there as a whole."""
        spool = make()
        spool.append(b"abc", 3)
        spool.append(b"de", 2)
        assert spool.release(4) == 4
        assert (len(spool), spool.first, all_of(spool)) == (1, 5, [Entry(4, 2, b"de")])
        assert (spool.release(4), spool.release(100), spool.release(100)) == (0, 1, 0)
        assert (len(spool), spool.first, all_of(spool)) == (0, 6, [])
        assert spool.append(b"x", 1) == 6

    def test_refuses(self, make):
        """When it is full it refuses, until something is released."""
        spool = make(max_bytes=4096)
        fill = partial(spool.append, bytes(1000), 1)
        with pytest.raises(SpoolFull):
            [*iter(fill, 100)]
        count = len(spool)
        assert 1 <= count <= 4
        assert spool.dropped == 0
        spool.release(count)
        spool.append(bytes(1000), 1)

    def test_drops(self, make):
        """When it is full and may, it drops the oldest, and counts them."""
        spool = make(max_bytes=4096, when_full="drop_old")
        for _ in range(100):
            spool.append(bytes(500), 5)
            assert spool.size_bytes <= 4096
        assert spool.dropped + len(spool) == 500
        assert len(spool) >= 20
        entries = all_of(spool)
        assert (entries[0].first, entries[-1].last) == (spool.first, 500)

    @pytest.mark.parametrize("when_full", ["refuse", "drop_old"])
    def test_one_at_least(self, make, when_full):
        """One blob is taken, however large it is."""
        spool = make(max_bytes=100, when_full=when_full)
        spool.append(bytes(1000), 1)
        if when_full == "refuse":
            with pytest.raises(SpoolFull):
                spool.append(b"", 1)
        else:
            spool.append(bytes(2000), 1)
            assert (spool.dropped, len(spool)) == (1, 1)

    def test_identity(self, make):
        """Each has its own identity."""
        first, second = make(), make()
        assert len(first.identity) == len(second.identity) == 16
        assert first.identity != second.identity


class TestDisk:
    """What only a spool on disk has."""

    def test_opened_again(self, folder):
        """What was not released is there again, with its numbers and the identity."""
        spool = DiskSpool(folder, max_bytes=1 << 20)
        identity = spool.identity
        for blob in (b"abc", b"de", b"f"):
            spool.append(blob, len(blob))
        spool.release(3)
        spool = reopened(spool)
        assert spool.identity == identity
        assert all_of(spool) == [Entry(4, 2, b"de"), Entry(6, 1, b"f")]
        assert spool.append(b"g", 1) == 7
        spool = reopened(spool)
        assert (spool.first, spool.next, len(spool)) == (4, 8, 4)
        spool.release(7)
        spool = reopened(spool)
        assert (all_of(spool), spool.append(b"h", 1)) == ([], 8)
        spool.close()

    def test_files_go(self, folder):
        """What is released takes no room for long, whether in many files or in one."""
        spool = DiskSpool(folder, max_bytes=1 << 16)
        for _ in range(1000):
            last = spool.append(bytes(1000), 1)
            spool.release(last)
        assert len(list(folder.glob("*.spool"))) <= 2
        assert sum(path.stat().st_size for path in folder.iterdir()) < 1 << 14
        spool.close()

    def test_sizes(self, folder):
        """The size is that of its files."""
        spool = DiskSpool(folder, max_bytes=1 << 16)
        for number in range(40):
            spool.append(bytes(1000), 1)
            spool.release(number // 2)
            files = sum(path.stat().st_size for path in folder.glob("*.spool"))
            assert spool.size_bytes == files
        assert reopened(spool).size_bytes == files

    def test_one_owner(self, folder):
        """A second one is refused, until the first is closed; also in one process."""
        spool = DiskSpool(folder, max_bytes=1000)
        with pytest.raises(BlockingIOError, match="which another has"):
            DiskSpool(folder, max_bytes=1000)
        reopened(spool).close()

    def test_remove(self, folder):
        """An empty one can be removed with its folder; one that is not empty stays."""
        spool = DiskSpool(folder, max_bytes=1000)
        spool.append(b"a", 1)
        spool.remove()
        spool = DiskSpool(folder, max_bytes=1000)
        assert len(spool) == 1
        spool.release(1)
        spool.remove()
        assert not folder.exists()

    def test_file_that_was_not_begun(self, folder):
        """An empty file, neither begun nor removed, hides nothing of the one that went on."""
        spool = DiskSpool(folder, max_bytes=8 << 10)
        blobs = [bytes([number]) * 300 for number in range(9)]
        for number, blob in enumerate(blobs, 1):
            spool.append(blob, 1)
            if number == 2:
                open(spool._path_of(3), "xb").close()
        assert len(spool._segments) > 1
        spool.close()
        spool = DiskSpool(folder, max_bytes=8 << 10)
        assert [entry.blob for entry in all_of(spool)] == blobs
        spool.close()

    @given(cut=st.integers(0, 80), flip=st.none() | st.integers(0, 79))
    @settings(deadline=None)
    def test_cut_off(self, cut, flip):
        """However much of the end is there, or damaged, whole blobs are read; damage is counted.

        Only what was cut short is not: it was never put in, or nobody can tell.
        """
        with TemporaryDirectory() as folder:
            spool = DiskSpool(folder, max_bytes=1 << 20)
            for blob in (b"aaaa", b"bbbb", b"cccc"):
                spool.append(blob, 1)
            spool.close()
            (path,) = Path(folder).glob("*.spool")
            content = bytearray(path.read_bytes())
            assert len(content) == 80
            if flip is not None:
                content[flip] ^= 0x10
            path.write_bytes(content[:cut])
            places = {b"aaaa": range(8, 32), b"bbbb": range(32, 56), b"cccc": range(56, 80)}
            there = [blob for blob, place in places.items() if place.stop <= cut]
            whole = [blob for blob in there if flip not in places[blob]]
            with closing(DiskSpool(folder, max_bytes=1 << 20)) as spool:
                assert [entry.blob for entry in all_of(spool)] == whole
                assert spool.dropped + len(spool) == spool.next - 1
                if flip is None:
                    assert spool.dropped == 0
                for blob in set(there).difference(whole):
                    # The last, if its length is damaged, looks as if it was cut short.
                    is_cut = blob == there[-1] and flip - places[blob].start in range(12, 16)
                    assert is_cut or spool.dropped
                number = spool.append(b"dddd", 1)
            with closing(DiskSpool(folder, max_bytes=1 << 20)) as spool:
                assert [entry.blob for entry in all_of(spool)] == [*whole, b"dddd"]
                assert spool.dropped + len(spool) == spool.next - 1 == number

    @pytest.mark.parametrize("opens_again", [False, True])
    @pytest.mark.parametrize("which", [0, 1, -1])
    def test_damage(self, folder, which, opens_again):
        """A damaged file loses the blob that is damaged, which is counted, and nothing else."""
        spool = DiskSpool(folder, max_bytes=1 << 14)
        for _ in range(10):
            spool.append(bytes(600), 1)
        path = sorted(folder.glob("*.spool"))[which]
        content = bytearray(path.read_bytes())
        content[50] ^= 1
        path.write_bytes(content)
        if opens_again:
            spool = reopened(spool, max_bytes=1 << 14)
        numbers = [entry.first for entry in all_of(spool)]
        assert all_of(spool) == all_of(spool, 1)
        assert spool.dropped == 10 - len(numbers) == 10 - len(spool) == 1
        assert spool.append(b"x", 1) == 11
        assert [entry.first for entry in all_of(spool)] == [*numbers, 11]
        assert spool.release(11) == len(numbers) + 1
        assert len(spool) == 0
        spool.close()

    @given(
        sizes=st.lists(st.integers(0, 400), min_size=1, max_size=12),
        damage=st.lists(
            st.tuples(st.integers(0, 3), st.integers(0, 1500), st.binary(min_size=1, max_size=60)),
            max_size=4,
        ),
        opens_again=st.booleans(),
    )
    @settings(deadline=None)
    def test_any_damage(self, sizes, damage, opens_again):
        """Whatever is written over its files, a spool gives all blobs that are whole, in order.

        Each number that it has ever given is that of one of these, or counted as dropped.
        """
        with TemporaryDirectory() as folder, ExitStack() as stack:
            spool = stack.enter_context(closing(DiskSpool(folder, max_bytes=8 << 10)))
            spool._max_bytes = 1 << 20  # small files, much room
            ends = []
            for number, size in enumerate(sizes, 1):
                spool.append(bytes([number]) * size, 1)
                segment = spool._segments[-1]
                ends.append((spool._path_of(segment), spool._sizes[segment]))
            whole = dict(enumerate(zip(sizes, ends, strict=True), 1))
            for which, at, data in damage:
                path = sorted(Path(folder).glob("*.spool"))[which % len(spool._segments)]
                content = path.read_bytes()
                path.write_bytes((content[:at] + data + content[at + len(data) :])[: len(content)])
                for number, (size, (of, end)) in [*whole.items()]:
                    if of == str(path) and at < end and end - 20 - size < at + len(data):
                        del whole[number]
            if opens_again:
                spool = stack.enter_context(closing(reopened(spool, max_bytes=8 << 10)))
            found = [(entry.first, entry.blob) for entry in all_of(spool)]
            # Damage may be what was there before.
            assert {(number, bytes([number]) * whole[number][0]) for number in whole} <= {*found}
            assert found == sorted(found)
            assert spool.dropped + len(spool) == spool.next - 1
            assert len(found) == len(spool)
            assert spool.append(b"x", 1) > max([0, *(number for number, _ in found)])
            assert [entry.blob for entry in all_of(spool)] == [*(blob for _, blob in found), b"x"]

    def test_disk_full(self, folder, monkeypatch):
        """What the disk does not take leaves no trace."""
        spool = DiskSpool(folder, max_bytes=1 << 20)
        spool.append(b"a", 1)
        write = os.write

        def write_some(fd, data):
            if len(data) > 500:
                return write(fd, data[:500])
            raise OSError(errno.ENOSPC, "no space")

        monkeypatch.setattr(spools.os, "write", write_some)
        with pytest.raises(OSError, match="no space"):
            spool.append(bytes(600), 1)
        monkeypatch.undo()
        assert spool.append(b"b", 1) == 2
        spool = reopened(spool)
        assert [entry.blob for entry in all_of(spool)] == [b"a", b"b"]
        spool.close()

    def test_sync(self, folder, monkeypatch):
        """If asked, each blob is on the disk itself before it counts."""
        name = "fdatasync" if hasattr(os, "fdatasync") else "fsync"
        synced = []
        monkeypatch.setattr(spools.os, name, synced.append)
        spool = DiskSpool(folder, max_bytes=1 << 20, sync=True)
        spool.append(b"a", 1)
        assert len(synced) == 1
        spool.close()

    @posix
    def test_killed(self, folder):
        """Whatever a process had put in when it was killed is there, and it can be opened."""
        program = f"""
from eliot_etw.shipping._spool import DiskSpool
spool = DiskSpool({str(folder)!r}, max_bytes=1 << 30)
while True:
    number = spool.append(bytes(1000), 1)
    print(number, flush=True)
    if number % 3 == 0:
        spool.release(number - 50)
"""
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            lines = [process.stdout.readline() for _ in range(200)]
            process.kill()
            lines += process.stdout.readlines()
            process.wait(30)
        said = int(b"".join(lines).splitlines()[-1] if lines[-1].endswith(b"\n") else lines[-2])
        spool = DiskSpool(folder, max_bytes=1 << 30)
        assert spool.next > said
        assert spool.first <= said - 48
        numbers = [entry.first for entry in all_of(spool)]
        assert numbers == list(range(spool.first, spool.next))
        spool.close()

    @posix
    def test_forked(self, folder):
        """A child that closes its copy does not take the folder away from the parent."""
        run_forking(
            """
import sys
from eliot_etw.shipping._spool import DiskSpool

spool = DiskSpool(sys.argv[1], max_bytes=1 << 20)
in_child(spool.close)
try:
    DiskSpool(sys.argv[1], max_bytes=1000)
except BlockingIOError:
    spool.append(b"a", 1)
else:
    raise AssertionError
spool.close()
""",
            folder,
        )


class Same(RuleBasedStateMachine):
    """Both kinds, treated alike, say the same; the one on disk also after it is opened again."""

    def __init__(self):
        super().__init__()
        self.folder = TemporaryDirectory()
        self.memory = MemorySpool(max_bytes=1 << 30)
        self.disk = DiskSpool(self.folder.name, max_bytes=8 << 10)
        self.disk._max_bytes = 1 << 30  # small files, much room

    @rule(size=st.integers(0, 700), count=st.integers(1, 5))
    def append(self, size, count):
        blob = os.urandom(size)
        assert self.memory.append(blob, count) == self.disk.append(blob, count)

    @rule(back=st.integers(0, 30))
    def release(self, back):
        through = self.memory.next - back
        # A blob that is released in part: how much of it counts is the same.
        assert self.memory.release(through) == self.disk.release(through)

    @rule(ahead=st.integers(-3, 30))
    def read(self, ahead):
        at = self.memory.first + ahead
        assert self.memory.read(at) == self.disk.read(at)

    @rule()
    def open_again(self):
        self.disk = reopened(self.disk, max_bytes=8 << 10)
        self.disk._max_bytes = 1 << 30

    @invariant()
    def equal(self):
        names = ("first", "next", "dropped")
        assert [getattr(self.memory, n) for n in names] == [getattr(self.disk, n) for n in names]
        assert len(self.memory) == len(self.disk)

    def teardown(self):
        assert all_of(self.memory) == all_of(self.disk)
        self.disk.close()
        self.folder.cleanup()


TestSame = Same.TestCase
TestSame.settings = settings(
    max_examples=min(50, settings().max_examples), stateful_step_count=40, deadline=None
)


_FAULTY = ("open", "write", "ftruncate", "remove", "lseek", "fdatasync", "fsync")
# After how many calls, how many fail, and how much of a write is done all the same; mostly none.
_FAULTS = st.one_of(
    st.just((0, 0, 0)),
    st.tuples(st.integers(0, 6), st.integers(1, 4), st.sampled_from([0, 3, 30, 400])),
)


class Broken(RuleBasedStateMachine):
    """Whatever calls fail, what was put in comes out once, in order, until it is released.

    What could neither be put in nor be taken back may be there after the folder is opened again;
    so may be what was released but could not be noted down.
    """

    def __init__(self):
        super().__init__()
        self.folder = TemporaryDirectory()
        self.os = spools.os = FaultyOs(*_FAULTY)
        self.entries = []
        self.unsure = []
        self.first = 1
        self._open()

    def _open(self):
        self.spool = DiskSpool(self.folder.name, max_bytes=8 << 10, sync=True)
        self.spool._max_bytes = 1 << 30  # small files, much room

    @rule(size=st.integers(0, 700), count=st.integers(1, 5), fault=_FAULTS)
    def append(self, size, count, fault):
        entry = Entry(self.spool.next, count, os.urandom(size))
        try:
            with self.os.failing(*fault):
                assert self.spool.append(entry.blob, count) == entry.first
        except OSError:
            self.unsure.append(entry)
        else:
            self.entries.append(entry)
            self.unsure.clear()

    @rule(back=st.integers(0, 30), fault=_FAULTS)
    def release(self, back, fault):
        through = self.spool.next - back
        with self.os.failing(*fault):
            self.spool.release(through)
        self.first = max(self.first, min(through, self.spool.next - 1) + 1)
        assert self.spool.first == self.first

    @rule(fault=_FAULTS)
    def open_again(self, fault):
        self.spool.close()
        try:
            with self.os.failing(*fault):
                self._open()
        except OSError:
            self._open()
        if self.unsure and self.spool.next > self.unsure[0].first:
            found = self.spool.read(self.unsure[0].first)
            assert found in self.unsure
            self.entries.append(found)
        self.unsure.clear()
        assert self.spool.first <= self.first
        self.first = self.spool.first

    @rule()
    def read(self):
        expected = [entry for entry in self.entries if entry.last >= self.first]
        assert all_of(self.spool) == expected
        assert self.spool.dropped == 0
        assert self.spool.next == (self.entries[-1].last + 1 if self.entries else 1)

    def teardown(self):
        try:
            self.read()
        finally:
            spools.os = os
            self.spool.close()
            self.folder.cleanup()


TestBroken = Broken.TestCase
TestBroken.settings = settings(stateful_step_count=40, deadline=None)
