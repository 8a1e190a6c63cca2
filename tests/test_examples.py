"""Tests of examples/: the programs do what they show, and their logs tell it."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINKCHECK = ROOT / "examples" / "linkcheck.py"
UTF8 = os.environ | {"PYTHONUTF8": "1"}  # whatever the terminal is

# What is wrong with the demo's site: the end of the link, and why it is broken.
BROKEN = {
    ("/", "/download.html", "404 Not Found"),
    ("/guide.html", "/reference.html#colours", "the page has no #colours"),
    ("/guide.html", "/install/windows.html", "404 Not Found"),
    ("/reference.html", "/circle.html", "redirect loop"),
    ("/reference.html", "/search.html", "no answer within 1 s"),
    ("/contact.html", "/", "connection refused"),
}


def linkcheck(folder, *arguments):
    """Run the program as a user does, in a folder of his; return how it ended, and its pid."""
    command = [sys.executable, LINKCHECK, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=folder, **pipes) as process:
        output, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.pid, process.returncode, output, errors)


def read_log(folder):
    """Return the messages of the log."""
    return [json.loads(line) for line in (folder / "linkcheck.log").read_bytes().splitlines()]


def path_of(url):
    """Return what follows the host and the port, which differ from run to run."""
    return "/" + url.split("/", 3)[3]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run the demo once for all tests that only look at it."""
    folder = tmp_path_factory.mktemp("demo")
    result = linkcheck(folder, "--timeout", "1")
    return folder, result


def test_demo_says_that_links_are_broken(demo):
    """The exit status tells a script, the last words a person."""
    result = demo[1]
    assert (result.returncode, result.stderr) == (1, "")


def test_every_broken_link_is_printed_below_its_page(demo):
    """The summary is enough to repair the site."""
    page, found = "", set()
    for line in demo[1].stdout.splitlines()[1:]:
        if line.startswith("On "):
            page = path_of(line[3:])
        elif line:
            link, why = line.strip().split("  ")
            found.add((page, path_of(link), why))
    assert found == BROKEN


def test_log_is_one_tree(demo):
    """Threads and the child process log to the task of the main thread."""
    assert len({message["task_uuid"] for message in read_log(demo[0])}) == 1


def test_every_level_is_there_once(demo):
    """No two messages, of whatever thread or process, take one place."""
    levels = Counter(tuple(message["task_level"]) for message in read_log(demo[0]))
    assert {1} == set(levels.values())


def test_every_action_ends(demo):
    """What was started is logged to its end, in the child process too."""
    count = Counter(message.get("action_status", "") for message in read_log(demo[0]))
    assert count["started"] == count["succeeded"] + count["failed"]


def test_broken_link_is_in_the_tree_below_its_page(demo):
    """From each failed action, the levels lead up to the page that has the link."""
    messages = read_log(demo[0])
    starts = {
        tuple(message["task_level"][:-1]): message
        for message in messages
        if message.get("action_status") == "started"
    }
    found = set()
    for message in messages:
        if message.get("action_status") == "failed":
            link = tuple(message["task_level"][:-1])
            page = link
            while starts[page]["action_type"] != "linkcheck:page":
                page = page[:-1]
            urls = path_of(starts[page]["url"]), path_of(starts[link]["url"])
            found.add((*urls, message["reason"]))
    assert found == BROKEN


def test_parsing_is_logged_by_another_process(demo):
    """HTML is taken apart by one process, and that is not the one that was started."""
    pids = {message["pid"] for message in read_log(demo[0]) if "pid" in message}
    assert len(pids - {demo[1].args}) == len(pids) == 1


def test_eliot_reads_the_log(demo):
    """Eliot's own parser finds one complete task."""
    parse = pytest.importorskip("eliot.parse")
    tasks = list(parse.Parser.parse_stream(read_log(demo[0])))
    assert [task.is_complete() for task in tasks] == [True]


def test_eliot_tree_draws_the_log(demo):
    """eliot-tree shows every broken link."""
    pytest.importorskip("eliottree")
    program = "from eliottree._cli import main; main()"
    command = [sys.executable, "-W", "ignore", "-c", program, "linkcheck.log"]
    run = subprocess.run(command, cwd=demo[0], capture_output=True, text=True, check=True)
    assert len(BROKEN) == run.stdout.count("BrokenLinkError")


def _shape(line):
    """Reduce a line of a drawn tree to what is the same in each run: no times, ports, levels."""
    text = line.lstrip("0123456789.:msµ◂ │├└─")
    return re.sub(r"[0-9a-f]{8}\b|\d+", "0", text)


def test_readme_shows_what_is_drawn(demo):
    """Every line of the README's picture is one of the demo's tree."""
    pytest.importorskip("click")
    command = [sys.executable, "-m", "eliot_etw.cli", "tree", "linkcheck.log"]
    tree = subprocess.run(
        command, cwd=demo[0], capture_output=True, encoding="utf-8", check=True, env=UTF8
    )
    drawn = {_shape(line) for line in tree.stdout.splitlines()}
    readme = (ROOT / "README.md").read_text("utf-8")
    picture = readme.partition("```text\n")[2].partition("```")[0].splitlines()
    assert [line for line in picture if line != "…" and _shape(line) not in drawn] == []


def test_log_is_fresh_each_time(demo, tmp_path):
    """A second run does not add to the log of the first."""
    (tmp_path / "index.html").write_text("")
    for _ in range(2):
        linkcheck(tmp_path, str(tmp_path))
    assert len({message["task_uuid"] for message in read_log(tmp_path)}) == 1


def test_folder_whose_links_are_good(tmp_path):
    """A folder of files is a site; exit status 0 says that all is well."""
    (tmp_path / "index.html").write_text('<a href="a%20b.html#x">1</a> <a href="mailto:a@b">2</a>')
    (tmp_path / "a b.html").write_text('<p id="x"><img src="index.html"><a href="a b.html">3</a>')
    result = linkcheck(tmp_path, str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    assert "3 pages, 4 links, none of them broken" in result.stdout


def test_link_that_is_no_url_is_broken(tmp_path):
    """What makes no sense is reported like any other broken link, and stops nothing."""
    (tmp_path / "index.html").write_text('<a href="http://[1">1</a> <a href="index.html">2</a>')
    result = linkcheck(tmp_path, str(tmp_path))
    assert (result.returncode, result.stderr) == (1, "")
    assert "  http://[1  Invalid IPv6 URL\n" in result.stdout


def test_pages_are_bounded(tmp_path):
    """However large the site, no more pages are visited than allowed."""
    for number in range(5):
        (tmp_path / f"{number}.html").write_text(f'<a href="{number + 1}.html">next</a>')
    (tmp_path / "index.html").write_text('<a href="0.html">0</a>')
    linkcheck(tmp_path, str(tmp_path), "--max-pages", "2")
    pages = [m for m in read_log(tmp_path) if m.get("action_type") == "linkcheck:page"]
    assert len(pages) == 2 * 2


def test_site_that_is_not_there(tmp_path):
    """One line on standard error, and exit status 2."""
    result = linkcheck(tmp_path, "http://127.0.0.1:9/")
    expected = (2, "", "linkcheck: http://127.0.0.1:9/: connection refused\n")
    assert expected == (result.returncode, result.stdout, result.stderr)


def test_folder_that_is_not_there(tmp_path):
    """A mistyped name is said to be one."""
    result = linkcheck(tmp_path, "no-such-folder")
    expected = "linkcheck: the site must be a URL or a folder, got 'no-such-folder'\n"
    assert (2, expected) == (result.returncode, result.stderr)
