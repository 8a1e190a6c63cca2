"""Tests of tools/: the environments, the command that runs the tests, Wine, and the demo."""

import os
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools"
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"

posix_only = pytest.mark.skipif(os.name == "nt", reason="a shell script is no program on Windows")


def load(name: str) -> ModuleType:
    """Import a tool, which is a program and not part of a package."""
    spec = spec_from_file_location(f"tools_{name}", TOOLS / f"{name}.py")
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", autouse=True)
def _tools_on_path():
    """Let the tools find each other as they do when they are started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)
        yield


@pytest.fixture
def environment():
    """Return the module _environment, fresh, so that a test may change it."""
    return load("_environment")


@pytest.fixture
def tester():
    """Return the module test."""
    return load("test")


@pytest.fixture
def broken_python(tmp_path):
    """Make a folder with a python3.12 that only fails, as a pyenv shim does."""
    folder = tmp_path / "shims"
    folder.mkdir()
    shim = folder / "python3.12"
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    return shim


class TestInterpreters:
    """What is a Python that can be used."""

    def test_supported_versions_begin_with_the_oldest_one_that_pip_accepts(self, environment):
        """The classifiers and python_requires say the same."""
        requires = f"python_requires = >={environment.supported_versions()[0]}\n"
        assert requires in (ROOT / "setup.cfg").read_text("utf-8")

    def test_running_one_works(self, environment):
        """The Python that runs the tests is recognized, with its version."""
        assert environment.this_interpreter().version == RUNNING

    def test_program_that_is_not_there_is_none(self, environment, tmp_path):
        """A missing program is no error, it is just no Python."""
        assert environment.probe(tmp_path / "python3.12") is None

    @posix_only
    def test_program_that_fails_is_none(self, environment, broken_python):
        """A pyenv shim of a version that is not installed is no Python."""
        assert environment.probe(broken_python) is None

    def test_too_old_python_is_told_what_it_takes(self, environment, monkeypatch):
        """The message has both versions."""
        monkeypatch.setattr(sys, "version_info", (3, 9, 1))
        with pytest.raises(environment.SetUpError, match=r"^needs Python 3\.10 or later, this is"):
            environment.this_interpreter()

    @posix_only
    def test_failing_shim_hides_no_real_one(self, environment, broken_python, monkeypatch):
        """Every folder of the PATH is looked into, not only the first that has the name."""
        real = broken_python.parent.parent / "real"
        real.mkdir()
        (real / "python3.12").symlink_to(sys.executable)
        monkeypatch.setenv("PATH", f"{broken_python.parent}{os.pathsep}{real}")
        monkeypatch.setenv("PYENV_ROOT", str(real))
        assert [str(broken_python), str(real / "python3.12")] == environment._candidates("3.12")


class TestChoose:
    """With which Pythons the tests run."""

    def test_only_the_running_one_at_home(self, tester):
        """A developer waits for one run."""
        assert [each.version for each in tester.choose([], is_ci=False)] == [RUNNING]

    def test_running_one_is_among_those_of_ci(self, tester, monkeypatch, tmp_path):
        """However few there are, the one that runs it is tested; the others are named."""
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
        assert [each.version for each in tester.choose([], is_ci=True)] == [RUNNING]

    def test_missing_ones_are_named(self, tester, monkeypatch, tmp_path, capsys):
        """What is not tested is said."""
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
        tester.choose([], is_ci=True)
        others = ", ".join(v for v in tester.supported_versions() if v != RUNNING)
        expected = f"Not on this machine, so not tested: Python {others}\n"
        assert expected == capsys.readouterr().out

    def test_one_that_was_asked_for_must_be_there(self, tester):
        """A wish that cannot be fulfilled is an error, never a shorter run."""
        with pytest.raises(tester.SetUpError, match=r"^found no working Python 3\.99\. Install"):
            tester.choose(["3.99"], is_ci=True)


@pytest.fixture
def report(tmp_path):
    """Let pytest run one test each that passes, fails, breaks, and skips for two reasons."""
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_passes(): pass\n"
        "def test_fails(): assert False\n"
        "@pytest.fixture\n"
        "def broken(): raise OSError\n"
        "def test_breaks(broken): pass\n"
        "def test_skips(): pytest.skip('needs Windows')\n"
        "def test_misses(): pytest.importorskip('no_such_package')\n"
    )
    path = tmp_path / "report.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junitxml={path}",
    ]
    subprocess.run([*command, tmp_path], cwd=tmp_path, capture_output=True, check=False)
    return path


class TestTally:
    """What counts as passed."""

    def test_bare_run_may_miss_packages(self, tester, report):
        """Without extras, a test that needs one is skipped."""
        tally = tester.Tally()
        tally.read_report(report, "bare", complete=False)
        assert (tally.passed, tally.failed, tally.skipped) == (1, 2, 2)
        assert tally.failures == ["bare: test_it.test_fails", "bare: test_it.test_breaks"]

    def test_complete_run_may_not(self, tester, report):
        """With every extra there, a test that misses a package has failed: it tested nothing."""
        tally = tester.Tally()
        tally.read_report(report, "full", complete=True)
        assert (tally.passed, tally.failed, tally.skipped) == (1, 3, 1)
        assert [text.split(" skipped")[0] for text in tally.complaints] == ["full: test_misses"]


class FakeInstaller:
    """Stands for venv and pip, which take long and need a network."""

    def __init__(self, environment, monkeypatch, root):
        self.installed = []
        self._environment = environment
        for name in ("setup.cfg", "pyproject.toml"):
            (root / name).write_bytes((ROOT / name).read_bytes())
        monkeypatch.setattr(environment, "ROOT", root)
        monkeypatch.setattr(environment, "_make", self._make)
        monkeypatch.setattr(environment, "_install", self._install)

    def _make(self, folder, interpreter):
        python = self._environment.script(folder, "python")
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text("")

    def _install(self, python, wishes, log):
        self.installed.append(wishes)


class TestPrepare:
    """When an environment is made, and when it is used again."""

    @pytest.fixture
    def fake(self, environment, monkeypatch, tmp_path):
        """Return what records the installations."""
        return FakeInstaller(environment, monkeypatch, tmp_path)

    @pytest.fixture
    def prepare(self, environment, fake, tmp_path):
        """Return a function that prepares one environment."""
        running = environment.this_interpreter()
        return lambda *more: environment.prepare(tmp_path / "env", running, *more)

    def test_second_time_it_is_used_again(self, prepare, fake, tmp_path):
        """Nothing is installed if nothing has changed: no network is needed then."""
        prepare("cli")
        prepare("cli")
        assert [["-e", f"{tmp_path}[cli]"]] == fake.installed

    def test_change_of_the_dependencies_makes_it_anew(self, prepare, fake, tmp_path):
        """Whoever pulls a commit with a new dependency gets it."""
        prepare("cli")
        with (tmp_path / "setup.cfg").open("a") as file:
            file.write("\n")
        prepare("cli")
        assert len(fake.installed) == 2

    def test_other_extras_make_it_anew(self, prepare, fake):
        """An environment is what its name says, whatever it was before."""
        prepare("cli")
        prepare("cli,docs")
        assert len(fake.installed) == 2

    def test_interrupted_one_is_made_anew(self, prepare, fake, environment, monkeypatch):
        """What pip did not finish is not used."""

        def interrupt(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(environment, "_install", interrupt)
            with pytest.raises(KeyboardInterrupt):
                prepare("cli")
        prepare("cli")
        assert len(fake.installed) == 1

    def test_kept_one_that_is_broken_is_left_alone(self, environment, fake, tmp_path):
        """A folder .venv may be the user's: it is never removed."""
        folder = tmp_path / "env"
        folder.mkdir()
        (folder / "precious").write_text("")
        with pytest.raises(environment.SetUpError, match=r"holds no working Python\. Remove"):
            environment.prepare(folder, environment.this_interpreter(), keep=True)
        assert (folder / "precious").exists()

    def test_no_network_is_said_in_one_line(self, environment, tmp_path, monkeypatch):
        """Who has no network is told that, and not what pip thinks of it."""
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("PIP_RETRIES", "1")
        with pytest.raises(environment.SetUpError, match="no connection to the package index"):
            environment.prepare(tmp_path / "env", environment.this_interpreter())


@posix_only
class TestRun:
    """What becomes of a run of pytest."""

    @pytest.fixture
    def run(self, tester, monkeypatch, tmp_path):
        """Return a function that has pytest run some tests."""
        monkeypatch.setattr(tester, "ROOT", tmp_path)

        def run(tests):
            (tmp_path / "test_it.py").write_text(f"import os, pathlib, time, pytest\n{tests}")
            command = [sys.executable, "-m", "pytest", "-q"]
            folder = tmp_path / "reports"
            return tester._Run("it", command, folder, parallel=False, complete=False).run()

        return run

    def test_unsteady(self, run):
        """What fails once and passes by itself is no failure, but is told; what fails twice is."""
        tally = run(
            "def test_passes(): pass\n"
            "def test_at_times():\n"
            "    before = pathlib.Path('before')\n"
            "    was_there = before.exists()\n"
            "    before.touch()\n"
            "    assert was_there\n"
        )
        assert (tally.passed, tally.failed) == (2, 0)
        assert tally.unsteady == ["it: test_it.test_at_times"]
        tally = run("def test_never(): assert 0\n")
        assert (tally.passed, tally.failed, tally.unsteady) == (0, 1, [])

    def test_ended_early(self, run):
        """A run that did not come to its end has failed, however little failed until then."""
        tally = run(
            "def test_fails(): assert pathlib.Path('before').exists()\n"
            "def test_ends():\n"
            "    pathlib.Path('before').touch()\n"
            "    raise KeyboardInterrupt\n"
        )
        assert tally.unsteady == []
        assert tally.complaints == ["it: pytest ended with status 2"]

    def test_too_many(self, run, tester):
        """Where much fails, nothing is tried again."""
        number = tester.MOST_TRIED_AGAIN + 1
        tally = run(
            f"@pytest.mark.parametrize('number', range({number}))\n"
            "def test_at_times(number):\n"
            "    before = pathlib.Path(f'before{number}')\n"
            "    was_there = before.exists()\n"
            "    before.touch()\n"
            "    assert was_there\n"
        )
        assert (tally.passed, tally.failed, tally.unsteady) == (0, number, [])

    def test_does_not_end(self, run, tester, monkeypatch, tmp_path):
        """What takes too long is ended with all that it started, and is a failure."""
        monkeypatch.setattr(tester, "LONGEST_RUN_S", 5)
        tally = run(
            "def test_endless():\n"
            "    import subprocess\n"
            "    child = subprocess.Popen(['sleep', '600'])\n"
            "    pathlib.Path('child').write_text(str(child.pid))\n"
            "    child.wait()\n"
        )
        assert tally.complaints == ["it: ended by force after 5 s"]
        assert (tally.passed, tally.failed) == (0, 1)
        child = Path("/proc", (tmp_path / "child").read_text(), "stat")
        deadline = time.monotonic() + 30
        # A dead one may wait for the system's first process to take note.
        while child.exists() and child.read_text().split()[2] != "Z":
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def test_stands_still(self, tester, pytestconfig):
        """A test that stands still is ended long before its run is, and says where it stood."""
        assert pytestconfig.getini("faulthandler_exit_on_timeout")
        assert 0 < pytestconfig.getini("faulthandler_timeout") < tester.LONGEST_RUN_S / 5


@posix_only
class TestWine:
    """What is said and done before a Windows Python is there."""

    @pytest.fixture
    def setup(self, monkeypatch):
        """Return the module setup of tools/windows."""
        monkeypatch.syspath_prepend(TOOLS / "windows")
        return load("windows/setup")

    @pytest.fixture
    def run_wine(self, tester, monkeypatch, tmp_path):
        """Return a function that runs test.py's stage, with a program in place of the tools."""

        def run_wine(program):
            (tmp_path / "setup.py").write_text(program)
            monkeypatch.setattr(tester, "WINE", tmp_path)
            tally = tester.Tally()
            return tester.assemble_windows(tally), tally.complaints

        return run_wine

    def test_ci_asks_for_it(self):
        """Whatever is left out elsewhere, CI tries a Windows Python."""
        assert "tools/test.py --wine" in (ROOT / ".ci" / "run").read_text("utf-8")

    def test_failure_is_a_failure(self, run_wine):
        """A Wine that cannot be had fails the run."""
        assert run_wine("raise SystemExit('no Wine')") == (
            None,
            ["Windows Pythons could not be assembled."],
        )

    def test_where_it_is(self, run_wine, tester):
        """Else it is known where the Pythons are, and nothing has failed."""
        assert run_wine("") == (tester.ENVIRONMENTS / "windows", [])

    @pytest.mark.parametrize(("fails", "expected"), [(0, (2, 0)), (1, (2, 0)), (2, (1, 1))])
    def test_once_more(self, tester, monkeypatch, tmp_path, fails, expected):
        """What fails under Wine is tried once more, and has failed only if it fails again."""
        for name in ("ROOT", "WINE"):
            monkeypatch.setattr(tester, name, tmp_path)
        (tmp_path / "windows").mkdir()
        # In the place of pytest: of two tests one fails, as often as it is told to.
        (tmp_path / "wpy.py").write_text(f"""
import pathlib, sys
runs = pathlib.Path("runs")
number = len(runs.read_text()) if runs.exists() else 0
runs.write_text("x" * (number + 1))
assert (number > 0) == ("--last-failed" in sys.argv)
bad = "<testcase name='b'>" + "<failure/>" * (number < {fails}) + "</testcase>"
good = "<testcase name='a'/>" * (number == 0)
report = next(word for word in sys.argv if word.startswith("--junitxml="))
pathlib.Path(report.partition("=")[2]).write_text(f"<testsuite>{{good}}{{bad}}</testsuite>")
sys.exit(number < {fails})
""")
        tally = tester.Tally()
        tester.run_under_wine(tally, tmp_path / "windows", "3.11", [])
        assert expected == (tally.passed, tally.failed)

    def test_what_is_left_out_is_there(self, tester):
        """No name in the list is one of a file that is gone."""
        names = tester.NOT_UNDER_WINE
        assert [] == [n for n in names if not (ROOT / "tests" / f"test_{n}.py").exists()]

    def test_other_systems(self, setup, monkeypatch, tmp_path):
        """It says in one line what it needs."""
        monkeypatch.setattr(sys, "platform", "darwin")
        with pytest.raises(setup.SetUpError, match=r"^needs Linux on x86-64, this is darwin on"):
            setup.install_debian_packages(tmp_path / "log")

    def test_nobody_in_particular(self, setup, monkeypatch, tmp_path):
        """Who may install nothing is told what to have installed."""
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        with pytest.raises(setup.SetUpError, match=r"There: apt-get install .* wine wine64 gcc"):
            setup.install_debian_packages(tmp_path / "log")

    def test_no_python_of_that_version(self, setup, tmp_path):
        """A Windows Python needs one of this system beside it."""
        with pytest.raises(setup.SetUpError, match=r"^needs a Python 3\.99 for this system"):
            setup.set_up(tmp_path, ["3.99"])

    def test_program_that_fails(self, setup, tmp_path):
        """The last line that it wrote is part of the message."""
        fail = (sys.executable, "-c", "raise SystemExit('no\\nluck\\n')")
        with pytest.raises(setup.SetUpError, match=r"ended with 1, saying: luck \(see .*log\)$"):
            setup.run(*fail, log=tmp_path / "log")

    def test_versions_of_packages(self, setup):
        """They are those of setup.cfg, also of what only Windows needs."""
        found = {line.split()[0]: line for line in setup.requirements()}
        assert found.keys() == set(setup.PACKAGES)
        assert found["traceloggingdynamic"] == "traceloggingdynamic == 1.0.1"
        assert ";" not in found["tzdata"]

    def test_stamp(self, setup, tmp_path):
        """What was assembled of the same parts is used again; after a change it is not."""
        stamp = tmp_path / "stamp"
        stamp.write_text(setup.fingerprint("3.11"))
        found = [setup.is_done(stamp, setup.fingerprint(version)) for version in ("3.11", "3.13")]
        assert found == [True, False]
        assert not setup.is_done(tmp_path / "none", setup.fingerprint("3.11"))

    def test_patch_levels(self, setup, tmp_path):
        """The method that the DLL calls becomes a class method, once."""
        metadata = tmp_path / "importlib" / "metadata" / "__init__.py"
        metadata.parent.mkdir(parents=True)
        metadata.write_text("class A:\n    def invalidate_caches(cls):\n        return cls\n")
        setup._match_patch_levels(tmp_path)
        setup._match_patch_levels(tmp_path)
        names = {}
        exec(metadata.read_text(), names)
        assert names["A"].invalidate_caches() is names["A"]
        assert metadata.read_text().count("@classmethod") == 1

    def test_copies_become_links(self, setup, tmp_path, monkeypatch):
        """Only what is the same as the original."""
        originals, system32 = tmp_path / "x" / "wine" / "x86_64-windows", tmp_path / "system32"
        originals.mkdir(parents=True)
        (system32 / "drivers").mkdir(parents=True)
        for folder, content in ((originals, "same"), (system32, "same")):
            (folder / "a.dll").write_text(content)
        (originals / "b.dll").write_text("one")
        (system32 / "b.dll").write_text("two")
        setup._link_copies(system32, tmp_path)
        assert [(system32 / name).is_symlink() for name in ("a.dll", "b.dll")] == [True, False]

    def test_nothing_assembled(self, setup, tmp_path):
        """Who starts a Windows Python that is not there is told how to get it."""
        command = [sys.executable, TOOLS / "windows" / "wpy.py", "--root", tmp_path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.endswith("Assemble it: python3 tools/windows/setup.py\n")


class TestDemo:
    """What a newcomer sees."""

    @pytest.fixture
    def demo(self, monkeypatch, tmp_path):
        """Return the module demo, for which the environment of the tests is the one it makes."""
        pytest.importorskip("click")
        module = load("demo")
        python = Path(sys.executable)
        monkeypatch.setattr(module, "prepare", lambda *_, **__: python)
        monkeypatch.setattr(module, "script", lambda _folder, name: python.with_name(name))
        monkeypatch.setattr(sys, "argv", ["demo.py"])
        monkeypatch.chdir(tmp_path)
        return module

    def test_tree_of_the_log_is_drawn(self, demo, capfd):
        """First comes a summary, then the tree, with failures marked and, in a pipe, no colour."""
        assert demo.main() == 0
        output = capfd.readouterr().out
        summary, tree = output.split("eliot-etw tree linkcheck.log\n")
        assert "13 links, 6 of them broken" in summary
        assert tree.count("✗ linkcheck:link") == 6
        assert "\x1b" not in output

    def test_second_run_works(self, demo, monkeypatch, tmp_path, capfd):
        """The log is of the last run only; here one for a folder that is given."""
        (tmp_path / "index.html").write_text("")
        monkeypatch.setattr(sys, "argv", ["demo.py", str(tmp_path)])
        assert (demo.main(), demo.main()) == (0, 0)
        assert capfd.readouterr().out.count("linkcheck:site") == 2

    def test_program_that_cannot_work_ends_it(self, demo, monkeypatch, capfd):
        """No tree is drawn of a log that is not there."""
        monkeypatch.setattr(sys, "argv", ["demo.py", "no-such-folder"])
        assert demo.main() == 2
        assert "tree" not in capfd.readouterr().out
