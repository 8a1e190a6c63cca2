"""Tests of reading messages back from files."""

import io
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eliot_etw._json import encode_line
from eliot_etw.destinations.file import FileDestination
from eliot_etw.sources import BadLine, FileSource, FollowedFile, _lines

renames = pytest.mark.skipif(os.name == "nt", reason="Windows renames no file that is open")


def message(number=1, **fields):
    """Make a message."""
    return {"task_uuid": "a-task", "task_level": [number], "timestamp": 1.5, **fields}


def line(number=1, **fields):
    """Write a message as a line."""
    return encode_line(message(number, **fields))


def read(content):
    """Read bytes as a file; return the messages and what was reported."""
    reports = []
    messages = list(FileSource(io.BytesIO(content), name="log", on_bad_line=reports.append))
    return messages, [str(report) for report in reports]


fields = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner),
        max_leaves=5,
    ),
    max_size=4,
)


class TestFileSource:
    """Files that do not grow."""

    @given(st.lists(fields, max_size=5))
    def test_reads_what_was_written(self, written):
        """`source(destination(m)) == m`, the law for each pair."""
        messages = [{**extra, **message(n + 1)} for n, extra in enumerate(written)]
        output = io.BytesIO()
        destination = FileDestination(output)
        for one in messages:
            destination(one)
        assert read(output.getvalue()) == (messages, [])

    def test_path_is_opened_anew(self, tmp_path):
        """A source that was given a path can be read again."""
        path = tmp_path / "app.log"
        path.write_bytes(line())
        source = FileSource(path)
        assert [*source, *source] == [message(), message()]

    def test_missing_file(self, tmp_path):
        """A file that is not there raises what `open` raises."""
        with pytest.raises(FileNotFoundError):
            list(FileSource(tmp_path / "app.log"))

    def test_name(self, tmp_path):
        """A source is called by its path, by the file's own name, or as it is told."""
        names = [
            FileSource(tmp_path / "app.log").name,
            FileSource(io.BytesIO()).name,
            FileSource(io.BytesIO(), name="<stdin>").name,
        ]
        assert names == [str(tmp_path / "app.log"), "<stream>", "<stdin>"]

    @pytest.mark.parametrize(
        ("bad", "why"),
        [
            (b"nonsense", "not JSON: Expecting value at column 1"),
            (b"[1]", "not a message: a list, not an object"),
            (b"5", "not a message: a number, not an object"),
            (b"true", "not a message: true or false, not an object"),
            (b"null", "not a message: null, not an object"),
            (b'"text"', "not a message: text, not an object"),
            (b"{}", "not a message: no task_uuid"),
            (b'{"task_uuid":"a"}', "not a message: no task_level"),
            (b'{"task_uuid":5,"task_level":[1]}', "not a message: task_uuid is not text"),
            (
                b'{"task_uuid":"a","task_level":[0]}',
                "not a message: task_level is not a list of whole numbers above 0",
            ),
        ],
    )
    def test_bad_line(self, bad, why):
        """A line that is no message is reported with its number and the reason, and skipped."""
        content = line(1) + bad + b"\n" + line(2)
        assert read(content) == ([message(1), message(2)], [f"log:2: {why}"])

    def test_bad_line_is_a_value(self):
        """A report has its parts, for programs."""
        reports = []
        list(FileSource(io.BytesIO(b"[]\n"), name="log", on_bad_line=reports.append))
        assert reports == [BadLine("log", 1, "not a message: a list, not an object")]

    def test_nobody_wants_reports(self):
        """Without a callback bad lines are just skipped."""
        assert list(FileSource(io.BytesIO(b"nonsense\n" + line()))) == [message()]

    def test_line_that_a_killed_program_left(self):
        """The torn last line is reported as that."""
        assert read(line(1) + line(2)[:-20]) == (
            [message(1)],
            ["log:2: the last line is unfinished"],
        )

    def test_last_line_without_newline(self):
        """A last line that is whole but for its newline is a message."""
        assert read(line(1) + line(2)[:-1]) == ([message(1), message(2)], [])

    def test_blank_lines_are_counted_but_not_reported(self):
        """Blank lines are no news; the numbers of the others are those of an editor."""
        assert read(b"\n  \r\n\n" + line() + b"?\n")[1] == [
            "log:5: not JSON: Expecting value at column 1"
        ]

    def test_windows_line_ends_and_byte_order_mark(self):
        """A file that was through an editor on Windows can be read."""
        content = b"\xef\xbb\xbf" + line(1)[:-1] + b"\r\n" + line(2)[:-1] + b"\r\n"
        assert read(content) == ([message(1), message(2)], [])

    def test_too_deep_nesting(self):
        """Nesting that no decoder takes is a bad line, not a failure."""
        (report,) = read(b"[" * 200_000 + b"\n")[1]
        assert report.startswith("log:1: not JSON: ")

    def test_deep_nesting_with_a_long_number(self):
        """The same where another decoder is used, for integers of many digits."""
        (report,) = read(b"[" * 200_000 + b"1" * 30 + b"\n")[1]
        assert report.startswith("log:1: not JSON: ")

    def test_long_lines(self):
        """A line of many chunks is one line."""
        text = "x" * 3_000_000
        assert read(line(text=text) + line(2)) == ([message(text=text), message(2)], [])

    def test_endless_line(self, monkeypatch):
        """A line without an end is skipped without being kept: it may be a device."""
        monkeypatch.setattr(_lines, "MAX_LINE_BYTES", 1 << 20)
        content = b"9" * (3 << 20) + b"\n" + line()
        assert read(content) == ([message()], ["log:1: longer than 1 MiB"])

    def test_endless_line_at_the_end(self, monkeypatch):
        """The same if the file ends in it."""
        monkeypatch.setattr(_lines, "MAX_LINE_BYTES", 1 << 20)
        assert read(b"9" * (3 << 20)) == ([], ["log:1: longer than 1 MiB"])

    @given(st.lists(st.binary(max_size=40) | st.just(None), max_size=12), st.integers(1, 50))
    def test_good_lines_come_out_whatever_is_between(self, pieces, chunk_size):
        """Any bytes: never an exception, and every line that is a message is given."""
        content, expected = b"", []
        for piece in pieces:
            if piece is None:
                expected.append(message(len(expected) + 1))
                content += line(len(expected))
            else:
                # Not what makes another format of the whole file.
                content += b" " + piece.replace(b"\n", b"") + b"\n"

        class Chunked(io.BytesIO):
            def read1(self, size=-1):
                return super().read1(min(size, chunk_size))

        reports = []
        messages = list(FileSource(Chunked(content), on_bad_line=reports.append))
        assert messages == expected
        assert len(messages) + len(reports) <= len(pieces)

    def test_pipe_is_read_as_it_fills(self):
        """What is in a pipe comes out before the pipe is closed."""
        reader, writer = os.pipe()
        with open(reader, "rb") as pipe, open(writer, "wb", buffering=0) as feed:
            messages = iter(FileSource(pipe))
            feed.write(line(1))
            first = next(messages)
            feed.write(line(2))
            assert [first, next(messages)] == [message(1), message(2)]

    def test_reading_may_stop_early(self):
        """Who has seen enough can stop, also in a chunk that ends in a line without an end."""
        source = iter(FileSource(io.BytesIO(line(1) + line(2) + line(3)[:-1])))
        first = next(source)
        source.close()
        assert first == message(1)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
    def test_named_pipe(self, tmp_path):
        """A path may name a pipe, as `<(command)` does in a shell."""
        path = tmp_path / "pipe"
        os.mkfifo(path)
        feeder = threading.Thread(target=path.write_bytes, args=(line(1) + line(2),))
        feeder.start()
        messages = list(FileSource(path))
        feeder.join(5)
        assert messages == [message(1), message(2)]


class TestFollowedFile:
    """Files that grow."""

    def test_new_lines(self, tmp_path):
        """Each poll gives what has been added since."""
        path = tmp_path / "app.log"
        followed = FollowedFile(path)
        with path.open("ab", buffering=0) as log:
            log.write(line(1))
            polls = [list(followed.poll()), list(followed.poll())]
            log.write(line(2) + line(3))
            polls.append(list(followed.poll()))
        followed.close()
        assert polls == [[message(1)], [], [message(2), message(3)]]

    def test_partial_line_is_waited_for(self, tmp_path):
        """Half a line is no message and no mistake."""
        path = tmp_path / "app.log"
        reports = []
        followed = FollowedFile(path, on_bad_line=reports.append)
        with path.open("ab", buffering=0) as log:
            log.write(line(1)[:10])
            polls = [list(followed.poll())]
            log.write(line(1)[10:])
            polls.append(list(followed.poll()))
        followed.close()
        assert (polls, reports) == ([[], [message(1)]], [])

    def test_file_that_is_not_there_yet(self, tmp_path):
        """The file may come into being later."""
        path = tmp_path / "app.log"
        followed = FollowedFile(path)
        before = list(followed.poll())
        path.write_bytes(line())
        after = list(followed.poll())
        followed.close()
        assert (before, after) == ([], [message()])

    @renames
    def test_renamed_and_made_anew(self, tmp_path):
        """After a rotation the end of the old file comes out, then the new file from its start."""
        path = tmp_path / "app.log"
        path.write_bytes(line(1))
        followed = FollowedFile(path)
        polls = [list(followed.poll())]
        with path.open("ab") as log:
            log.write(line(2))
        path.rename(tmp_path / "app.log.1")
        path.write_bytes(line(3))
        polls.append(list(followed.poll()))
        followed.close()
        assert polls == [[message(1)], [message(2), message(3)]]

    @renames
    def test_renamed_only(self, tmp_path):
        """Until there is a new file, the old one is read on: it is still being written to."""
        path = tmp_path / "app.log"
        path.write_bytes(line(1))
        followed = FollowedFile(path)
        polls = [list(followed.poll())]
        path.rename(tmp_path / "app.log.1")
        with (tmp_path / "app.log.1").open("ab") as log:
            log.write(line(2))
        polls.append(list(followed.poll()))
        followed.close()
        assert polls == [[message(1)], [message(2)]]

    def test_cut_to_nothing(self, tmp_path):
        """A file that was truncated is read from its start."""
        path = tmp_path / "app.log"
        path.write_bytes(line(1) + line(2))
        followed = FollowedFile(path)
        polls = [list(followed.poll())]
        path.write_bytes(line(3))
        polls.append(list(followed.poll()))
        followed.close()
        assert polls == [[message(1), message(2)], [message(3)]]

    def test_cut_to_nothing_and_grown_again(self, tmp_path):
        """The same if more has been written since than there was before."""
        path = tmp_path / "app.log"
        path.write_bytes(line(1))
        followed = FollowedFile(path)
        polls = [list(followed.poll())]
        path.write_bytes(line(2) + line(3))
        polls.append(list(followed.poll()))
        followed.close()
        assert polls == [[message(1)], [message(2), message(3)]]

    @renames
    def test_torn_line_of_an_old_file(self, tmp_path):
        """What was left unfinished in a rotated file is reported, not joined to the new one."""
        path = tmp_path / "app.log"
        reports = []
        path.write_bytes(line(1) + line(2)[:10])
        followed = FollowedFile(path, on_bad_line=reports.append)
        polls = [list(followed.poll())]
        path.rename(tmp_path / "app.log.1")
        path.write_bytes(b"?\n" + line(3))
        polls.append(list(followed.poll()))
        followed.close()
        assert polls == [[message(1)], [message(3)]]
        assert [(report.number, report.why) for report in reports] == [
            (2, "the last line is unfinished"),
            (1, "not JSON: Expecting value at column 1"),
        ]

    def test_compressed(self, tmp_path):
        """A compressed file does not grow: it says so instead of giving nothing for ever."""
        path = tmp_path / "app.log.gz"
        path.write_bytes(b"\x1f\x8b\x08\x00")
        followed = FollowedFile(path)
        with pytest.raises(OSError, match=r"is compressed \(gzip\); only a plain file") as caught:
            list(followed.poll())
        followed.close()
        assert caught.value.filename == str(path)
