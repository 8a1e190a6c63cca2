"""Tests of the journal of commits: a record counts as a whole or not at all."""

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("yaml")

from hypothesis import given
from hypothesis import strategies as st

from eliot_etw.collector import _commits
from eliot_etw.collector._commits import CommitJournal


def reopened(path):
    """Return what a journal says when it is opened again."""
    journal = CommitJournal(path, sync=False)
    journal.close()
    return journal.last


def test_new(tmp_path):
    """A new journal says nothing."""
    assert reopened(tmp_path / "commits") is None


def test_last_commit(tmp_path):
    """What is found again is the last commit, with what is known of every sender."""
    journal = CommitJournal(tmp_path / "commits", sync=True)
    journal.commit(1, 10, {"a": 1})
    journal.commit(1, 20, {"b": 2})
    journal.commit(2, 5, {"a": 3})
    journal.close()
    journal.close()
    assert reopened(tmp_path / "commits") == (2, 5, {"a": 3, "b": 2})


def test_cut_anywhere(tmp_path):
    """Wherever the process was killed, the commits before count, and the next is found."""
    path = tmp_path / "commits"
    journal = CommitJournal(path, sync=False)
    for number in range(1, 4):
        journal.commit(7, number, {"a": number})
    journal.close()
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        last = reopened(path)
        count = 0 if last is None else last.size
        assert count == end // (len(whole) // 3)
        journal = CommitJournal(path, sync=False)
        journal.commit(7, 9, {})
        journal.close()
        assert reopened(path).size == 9


@given(st.binary(max_size=100))
def test_any_content(tmp_path_factory, content):
    """A file that is no journal counts as an empty one."""
    path = tmp_path_factory.mktemp("any") / "commits"
    path.write_bytes(content)
    assert reopened(path) is None


def test_it_does_not_grow_forever(tmp_path, monkeypatch):
    """It is written anew when it is large, and says the same."""
    monkeypatch.setattr(_commits, "_REWRITE_BYTES", 1000)
    path = tmp_path / "commits"
    journal = CommitJournal(path, sync=False)
    for number in range(1000):
        journal.commit(1, number, {"a": number})
        assert path.stat().st_size < 1100
    journal.close()
    assert reopened(path) == (1, 999, {"a": 999})


def test_senders_are_forgotten(tmp_path, monkeypatch):
    """Of too many senders, those that were silent longest are forgotten."""
    monkeypatch.setattr(_commits, "_MOST_SENDERS", 2)
    journal = CommitJournal(tmp_path / "commits", sync=False)
    for sender in "abac":
        journal.commit(1, 1, {sender: 1})
    journal.close()
    assert [*journal.last.marks] == ["a", "c"]


def test_cannot_be_written_anew(tmp_path, monkeypatch):
    """If that is not possible it goes on growing, and tries again later."""
    monkeypatch.setattr(_commits, "_REWRITE_BYTES", 1000)
    path = tmp_path / "commits"
    (tmp_path / "commits.new").mkdir()
    journal = CommitJournal(path, sync=False)
    for number in range(200):
        journal.commit(1, number, {"a": number})
    assert path.stat().st_size > 2000
    (tmp_path / "commits.new").rmdir()
    for number in range(200, 300):
        journal.commit(1, number, {"a": number})
    journal.close()
    assert path.stat().st_size < 2000
    assert reopened(path) == (1, 299, {"a": 299})
