"""Tests of folders that processes share: what the dead left is found, and nothing else is."""

import os

import pytest

from eliot_etw.shipping._spool_folders import SpoolFolders


@pytest.fixture
def make(tmp_path):
    """Return what makes what each process has of one shared folder."""
    return lambda: SpoolFolders(tmp_path / "shared", max_bytes=1 << 20, when_full="refuse")


def test_each_has_its_own(make):
    """Each spool has a folder of its own, which only its owner may read."""
    folders = make()
    one, two = folders.new(), folders.new()
    assert one.folder != two.folder
    assert os.stat(one.folder).st_mode & 0o777 == 0o700 or os.name == "nt"
    folders.forget()


def test_found(make):
    """What somebody left with something in it is found, once; as long as it is open, it is not."""
    mine, other = make(), make()
    spool = other.new()
    spool.append(b"a", 1)
    assert mine.find() is None
    other.leave(spool)
    found = mine.find()
    assert (found.identity, len(found)) == (spool.identity, 1)
    assert other.find() is None
    mine.leave(found)


def test_empty_ones_go(make):
    """What is left with nothing in it is removed, also if its owner could not do so."""
    mine, other = make(), make()
    other.leave(other.new())
    other.new()
    other.forget()
    assert len(os.listdir(mine.folder)) == 1
    assert mine.find() is None
    assert os.listdir(mine.folder) == []


def test_strangers_are_left_alone(make):
    """What is not ours by its name is not touched."""
    mine = make()
    mine.leave(mine.new())
    os.mkdir(os.path.join(mine.folder, "something"))
    with open(os.path.join(mine.folder, "sender-notes"), "w") as file:
        file.write("x")
    assert mine.find() is None
    assert sorted(os.listdir(mine.folder)) == ["sender-notes", "something"]


def test_nothing_there(make):
    """Where no folder is yet, there is nothing to be found."""
    assert make().find() is None


def test_others(make):
    """Whether there are any but our own can be asked."""
    mine, other = make(), make()
    mine.new()
    assert not mine.has_others()
    spool = other.new()
    assert mine.has_others()
    other.leave(spool)
    assert not mine.has_others()
    mine.forget()
