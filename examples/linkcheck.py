"""Check every link of a site, and log how: threads, a child process and one tree of actions.

    python examples/linkcheck.py                      a small site with broken links, served here
    python examples/linkcheck.py https://example.org  a site on the web
    python examples/linkcheck.py docs/_build          a folder of HTML files

    eliot-etw tree linkcheck.log                      the story of it

The main thread visits page after page, a pool of threads follows the links of a page all at once,
and a child process takes the HTML apart. Each page is an action and each of its links an action
within it, so a broken link stands in the log below the page that has it.

Exit status: 0 if every link is good, 1 if some are broken, 2 if nothing could be checked.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from html.parser import HTMLParser
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urldefrag, urljoin, urlsplit
from urllib.request import Request, urlopen

from eliot_etw import log_message, start_action, start_task, to_file
from eliot_etw.executors import ProcessPoolExecutor, ThreadPoolExecutor

MAX_BYTES = 4_000_000  # of one page; what comes after is not looked at
LINKS = {"a": "href", "area": "href", "img": "src", "link": "href", "script": "src"}


class BrokenLinkError(Exception):
    """A link leads nowhere; the text says why."""


@dataclass(frozen=True)
class Page:
    """What a URL turned out to be; what is no HTML has neither links nor anchors."""

    url: str  # where redirects ended
    links: tuple[str, ...] = ()  # absolute, in the order of the page
    anchors: frozenset[str] = frozenset()


# ---- in the child process ----------------------------------------------------------------------


def set_up_child(path: str) -> None:
    """Give the process its own destination: both append to one file, whole lines at a time."""
    to_file(path)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process to handle


class Scanner(HTMLParser):
    """Collects where a page links to, and what in it can be linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at one tag; the parser calls this."""
        values = {name: value for name, value in attrs if value}
        self.anchors.update(values[name] for name in ("id", "name") if name in values)
        href = values.get(LINKS.get(tag, ""))
        if href:
            self.hrefs.append(href.strip())


def parse(url: str, html: str) -> Page:
    """Take a page apart."""
    with start_action(action_type="linkcheck:parse", url=url, pid=os.getpid()) as action:
        scanner = Scanner()
        scanner.feed(html)
        urls = [clean(href, url) for href in scanner.hrefs]
        links = tuple(dict.fromkeys(u for u in urls if u.startswith(("http:", "https:"))))
        action.add_success_fields(links=len(links), anchors=len(scanner.anchors))
        return Page(url, links, frozenset(scanner.anchors))


def clean(href: str, page: str = "") -> str:
    """Resolve a link as a browser does, which takes blanks and any letter for granted."""
    try:
        parts = urlsplit(urljoin(page, href))
    except ValueError:
        return href  # no URL at all, as whoever follows it will find
    return quote(parts._replace(path=parts.path or "/").geturl(), safe="!#$%&'()*+,/:;=?@[]~")


# ---- in the threads ----------------------------------------------------------------------------


class Checker:
    """Follows links, and looks up each URL once however many links lead there."""

    def __init__(self, parsers: ProcessPoolExecutor, timeout_s: float) -> None:
        self.origin = ""  # of the site; unknown until its first page has been looked up
        self._parsers = parsers
        self._timeout_s = timeout_s
        self._pages: dict[str, Future[Page]] = {}
        self._lock = threading.Lock()

    def is_internal(self, url: str) -> bool:
        """Say whether a URL is of the site, so that the links it has are to be checked too."""
        return self.origin in ("", origin(url))

    def check(self, link: str) -> Page:
        """Follow one link.

        Raises:
            BrokenLinkError: If it leads nowhere. The action fails with it: the reason is logged.
        """
        with start_action(action_type="linkcheck:link", url=link) as action:
            url, anchor = urldefrag(link)
            page = self.look_up(url)
            if anchor and self.is_internal(page.url) and unquote(anchor) not in page.anchors:
                msg = f"the page has no #{anchor}"
                raise BrokenLinkError(msg)
            if page.url != url:
                action.add_success_fields(redirected_to=page.url)
            return page

    def look_up(self, url: str) -> Page:
        """Return what is at a URL; if another thread is about to find out, wait for it."""
        with self._lock:
            is_first = url not in self._pages
            future = self._pages.setdefault(url, Future())
        if is_first:
            try:
                future.set_result(self._fetch(url))
            except Exception as error:  # noqa: BLE001 - raised again by result(), to all who ask
                future.set_exception(error)
        return future.result()

    def _fetch(self, url: str) -> Page:
        """Get what is at a URL, and have it parsed if it is a page of the site."""
        if not self.is_internal(url):
            try:
                return Page(self._request("HEAD", url)[0])
            except BrokenLinkError:
                pass  # many servers only know GET
        final_url, html = self._request("GET", url)
        if not html:
            return Page(final_url)
        # The pool takes the current action along: the child process logs below this link.
        return self._parsers.submit(parse, final_url, html).result()

    def _request(self, method: str, url: str) -> tuple[str, str]:
        """Ask for a URL; return where that ended, and the text if it is a page of the site."""
        request = Request(url, method=method, headers={"User-Agent": "linkcheck"})  # noqa: S310 - parse() only lets http through
        try:
            with urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310 - as above
                kind = answer.headers.get_content_type()
                log_message("linkcheck:answer", status=answer.status, content_type=kind)
                if method == "HEAD" or kind != "text/html" or not self.is_internal(answer.url):
                    return answer.url, ""
                charset = answer.headers.get_content_charset("utf-8")
                return answer.url, answer.read(MAX_BYTES).decode(charset, errors="replace")
        except (HTTPException, LookupError, OSError, ValueError) as error:
            raise BrokenLinkError(self._explain(error)) from error

    def _explain(self, error: Exception) -> str:
        """Say in a few words why a request failed."""
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(error, HTTPError):
            error.close()
            return "redirect loop" if error.code < 400 else f"{error.code} {error.reason}"
        if isinstance(cause, TimeoutError):
            return f"no answer within {self._timeout_s:g} s"
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        return str(getattr(cause, "strerror", None) or cause)


def origin(url: str) -> str:
    """Return the scheme and the host of a URL: what makes two URLs belong to one site."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


# ---- in the main thread ------------------------------------------------------------------------


@dataclass
class Report:
    """What was found."""

    pages: int = 0
    links: int = 0
    broken: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # page: (link, why)


def check_site(
    start: str, checker: Checker, threads: ThreadPoolExecutor, max_pages: int
) -> Report:
    """Visit the pages of a site, nearest first.

    Raises:
        BrokenLinkError: If there is nothing at the start.
    """
    with start_task(action_type="linkcheck:site", url=start) as task:
        first = checker.look_up(start)
        checker.origin = origin(first.url)
        todo, seen = deque([first]), {first.url}
        report = Report()
        while todo and report.pages < max_pages:
            for page in check_page(todo.popleft(), checker, threads, report):
                if page.links and page.url not in seen and checker.is_internal(page.url):
                    seen.add(page.url)
                    todo.append(page)
        task.add_success_fields(pages=report.pages, links=report.links)
        if todo:
            log_message("linkcheck:not_visited", pages=len(todo), max_pages=max_pages)
    return report


def check_page(
    page: Page, checker: Checker, threads: ThreadPoolExecutor, report: Report
) -> list[Page]:
    """Follow all links of a page at once; return where the good ones lead."""
    found = []
    with start_action(action_type="linkcheck:page", url=page.url) as action:
        # The pool takes the current action along, so each check is logged below this page.
        checks = {link: threads.submit(checker.check, link) for link in page.links}
        broken = []
        for link, check in checks.items():
            error = check.exception()
            if error is None:
                found.append(check.result())
            else:
                broken.append((link, str(error)))
        action.add_success_fields(links=len(checks), broken=len(broken))
    report.pages += 1
    report.links += len(checks)
    if broken:
        report.broken[page.url] = broken
    return found


def describe(report: Report, start: str, seconds: float) -> str:
    """Write the report for a person."""
    broken = sum(map(len, report.broken.values()))
    lines = [
        f"{start}: {report.pages} pages, {report.links} links, "
        f"{broken or 'none'} of them broken, in {seconds:.1f} s"
    ]
    for page, links in report.broken.items():
        lines += ["", f"On {page}"]
        lines += [f"  {link}  {why}" for link, why in links]
    return "\n".join(lines)


# ---- what is checked ---------------------------------------------------------------------------

DEMO_PAGES = {
    "/": """<h1>A small site</h1>
        <a href="guide.html">Guide</a> <a href="reference.html">Reference</a>
        <a href="contact.html">Contact</a> <a href="download.html">Download</a>""",
    "/guide.html": """<h1 id="start">Guide</h1>
        <a href="/">Home</a> <a href="reference.html#options">Options</a>
        <a href="reference.html#colours">Colours</a> <a href="install/windows.html">Windows</a>""",
    "/reference.html": """<h1>Reference</h1> <h2 id="options">Options</h2>
        <a href="old-guide.html#start">Guide</a> <a href="circle.html">Index</a>
        <a href="search.html">Search</a>""",
    "/contact.html": """<h1>Contact</h1> <a href="{refused}">Forum</a> <a href="/">Home</a>""",
}
DEMO_REDIRECTS = {"/old-guide.html": "/guide.html", "/circle.html": "/circle.html"}


class QuietHandler(BaseHTTPRequestHandler):
    """Does not print a line per request."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - `http.server`'s name
        """Say nothing; `http.server` calls this."""


class Folder(QuietHandler, SimpleHTTPRequestHandler):
    """A folder of files."""


class DemoSite(QuietHandler):
    """The small site with broken links."""

    def __init__(self, *args: Any, refused: str) -> None:
        self.refused = refused
        super().__init__(*args)

    def do_GET(self) -> None:
        """Answer a request; `http.server` calls this."""
        if self.path == "/search.html":
            time.sleep(10)  # longer than anybody waits
        elif self.path in DEMO_REDIRECTS:
            self.send_response(302)
            self.send_header("Location", DEMO_REDIRECTS[self.path])
            self.end_headers()
        elif self.path in DEMO_PAGES:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(DEMO_PAGES[self.path].format(refused=self.refused).encode())
        else:
            self.send_error(404)


@contextmanager
def served(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve a site on this machine within a block, which is given its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


@contextmanager
def site_at(place: str) -> Iterator[str]:
    """Make a site available within a block, which is given its URL.

    Args:
        place: A URL, a folder, or nothing for the small site with broken links.
    """
    if place.startswith(("http:", "https:")):
        yield clean(place)
    elif place:
        with served(partial(Folder, directory=place)) as url:
            yield url
    else:
        # Nobody can connect to a port that is taken, but not listened at.
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            refused = f"http://127.0.0.1:{closed.getsockname()[1]}/"
            with served(partial(DemoSite, refused=refused)) as url:
                yield url


# ---- the command -------------------------------------------------------------------------------


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(",")[0] + ".")
    parser.add_argument("site", nargs="?", default="", help="a URL or a folder; default: a demo")
    parser.add_argument("--log", default="linkcheck.log", help="where to log (%(default)s)")
    parser.add_argument("--max-pages", type=int, default=200, help="visit no more (%(default)s)")
    parser.add_argument("--timeout", type=float, default=3.0, help="in seconds (%(default)s)")
    arguments = parser.parse_args()
    site = arguments.site
    if site and not site.startswith(("http:", "https:")) and not Path(site).is_dir():
        parser.exit(2, f"linkcheck: the site must be a URL or a folder, got {site!r}\n")
    return arguments


def main() -> int:
    """Run the command and return its exit status."""
    arguments = read_arguments()
    try:
        Path(arguments.log).unlink(missing_ok=True)
        to_file(arguments.log)
    except OSError as error:
        print(f"linkcheck: cannot log to {arguments.log}: {error.strerror}", file=sys.stderr)
        return 2
    started = time.monotonic()
    # A process that is spawned starts from nothing, so it needs its own destination. One that is
    # forked would have inherited ours, but a fork of a process with threads may hang.
    parsers = ProcessPoolExecutor(
        1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=set_up_child,
        initargs=(arguments.log,),
    )
    with site_at(arguments.site) as start, parsers, ThreadPoolExecutor(8) as threads:
        checker = Checker(parsers, arguments.timeout)
        try:
            report = check_site(start, checker, threads, arguments.max_pages)
        except BrokenLinkError as error:
            print(f"linkcheck: {start}: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 130
    print(describe(report, start, time.monotonic() - started))
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
