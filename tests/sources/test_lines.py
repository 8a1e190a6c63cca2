"""Tests of files by their lines, whatever is in these."""

import io

from eliot_etw.sources._lines import Lines, whole


class Texts(Lines):
    """Each line as text; one with a question mark is bad."""

    def _decoded(self, lines, *, ended=True):
        for line in lines:
            self.number += 1
            if b"?" in line:
                self._report("a question")
            else:
                yield f"{self.number}:{line.decode()}{'' if ended else '...'}"


def test_lines_across_chunks():
    """A line is whole wherever the file was cut into pieces; the last says that it has no end."""
    lines = Texts("log", None)
    assert ["1:one", "2:two", "3:", "4:three..."] == list(
        lines.of(iter([b"on", b"e\ntw", b"o\n\nth", b"ree"]))
    )


def test_reports():
    """A bad line is reported with its number, or the number of an earlier one."""
    reports = []
    lines = Texts("log", lambda bad: reports.append(str(bad)))
    assert ["1:a"] == list(whole(lines, io.BytesIO(b"a\n?\n")))
    lines._report("begun here", 1)
    assert ["log:2: a question", "log:1: begun here"] == reports
