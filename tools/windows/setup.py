"""Assemble Windows Pythons that run under Wine: `python3 tools/windows/setup.py`.

For Debian and its kin on x86-64, as root if Wine or the compiler has to be installed. Everything
else goes into one folder, which may be removed at any time. A second run only does what is left
to do. What works, what does not, and why is in README.md beside this file.
"""

from __future__ import annotations

import argparse
import filecmp
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable
from configparser import ConfigParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where _environment is

from _environment import ROOT, Interpreter, SetUpError, find_interpreters, this_interpreter
from _wine import ASSEMBLED, RECORDER, WindowsPython, start_server, wine_environment

HERE = Path(__file__).resolve().parent
SOURCES = ("setup.py", "etwrec.c", "python_launcher.c", "python.manifest")
VERSIONS = ("3.11", "3.13")
COMPILER = "x86_64-w64-mingw32-gcc"
RESOURCE_COMPILER = "x86_64-w64-mingw32-windres"
DEBIAN_PACKAGES = ("wine", "wine64", "gcc-mingw-w64-x86-64-win32")
# Its wheels hold the files of python.org's Windows Python, as a game that is shipped needs them.
PANDA3D = "panda3d==1.10.16"
# The last release with a wheel for each Python: later ones have one for several, see README.md.
PYZMQ = "pyzmq==26.4.0"
# What the tests need, of the packages that setup.cfg names, where they are for Windows; and
# colorama, which pytest and click need there: pip looks at the requirements as on this system.
PACKAGES = (
    "boltons",
    "click",
    "colorama",
    "eliot",
    "hypothesis",
    "jsonschema",
    "msgspec",
    "opentelemetry-exporter-otlp-proto-common",
    "opentelemetry-sdk",
    "orjson",
    "pyetw",
    "pyrsistent",
    "pytest",
    "PyYAML",
    PYZMQ,
    "rich",
    "simpleeval",
    "traceloggingdynamic",
    "tzdata",
    "zstandard",
)
# Parts of the standard library that tests do without, or that belong to the other system.
NO_LIBRARY = (
    "__pycache__",
    "config-3*",
    "ensurepip",
    "idlelib",
    "lib-dynload",
    "lib2to3",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
)
# Of panda3d's wheel: tkinter's libraries, what Wine has itself, and a module whose first call
# ends the process (`platform` calls it from 3.12 on, and does without if there is none).
NO_LIBRARIES = ("api-ms-*", "tcl*", "tk*", "_tkinter*", "_wmi*", "*cp313t*")


def run(*command: str | Path, log: Path, environment: dict[str, str] | None = None) -> None:
    """Run a command, whose output goes to a file: it is of interest only if it fails.

    Raises:
        SetUpError: If it failed; with the last line that it wrote.
    """
    with log.open("a", encoding="utf-8", errors="replace") as output:
        status = subprocess.run(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            check=False,
        ).returncode
    if status:
        lines = log.read_text("utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "nothing")
        msg = f"{command[0]} ended with {status}, saying: {last} (see {log})"
        raise SetUpError(msg)


def install_debian_packages(log: Path) -> None:
    """Install Wine and a compiler for Windows, unless they are there.

    Raises:
        SetUpError: If they are not, and cannot be installed here.
    """
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        msg = f"needs Linux on x86-64, this is {sys.platform} on {platform.machine()}."
        raise SetUpError(msg)
    programs = ("wine", "wineserver", COMPILER, RESOURCE_COMPILER)
    missing = [program for program in programs if not shutil.which(program)]
    if not missing:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        msg = (
            f"needs {', '.join(missing)}, and installs them as root on Debian only. "
            f"There: apt-get install --no-install-recommends {' '.join(DEBIAN_PACKAGES)}"
        )
        raise SetUpError(msg)
    print("Installing Wine and a compiler; this takes a moment.", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", log=log, environment=environment)
    install = ("apt-get", "install", "--yes", "--no-install-recommends")
    run(*install, *DEBIAN_PACKAGES, log=log, environment=environment)


def fingerprint(*also: object) -> str:
    """Digest what decides what is assembled; stamps hold it, so that a change is noticed."""
    digest = hashlib.sha256(repr((also, requirements())).encode())
    for name in SOURCES:
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()


def is_done(stamp: Path, wanted: str) -> bool:
    """Say whether it was assembled, and of the same parts."""
    return stamp.exists() and stamp.read_text("utf-8") == wanted


def make_prefix(root: Path, log: Path) -> None:
    """Make Wine's drive C and registry, and compile the recorder.

    Raises:
        SetUpError: If a program failed.
    """
    stamp, wanted = root / "stamp", fingerprint()
    if is_done(stamp, wanted):
        return
    prefix = root / "prefix"
    shutil.rmtree(prefix, ignore_errors=True)
    environment = wine_environment(root)
    # It ends with an error where there is no screen, having done all that we need.
    subprocess.run(
        ["wineboot", "--init"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        check=False,
    )
    key = (r"HKCU\Software\Wine", "/v", "Version", "/d", "win10", "/f")
    run("wine", "reg", "add", *key, log=log, environment=environment)
    run("wineserver", "--wait", log=log, environment=environment)
    _link_copies(prefix / "drive_c" / "windows" / "system32")
    as_dll = ("-O2", "-shared", "-s", "-static-libgcc")
    run(COMPILER, *as_dll, HERE / "etwrec.c", "-o", root / RECORDER, log=log)
    stamp.write_text(wanted, "utf-8")


def _link_copies(system32: Path, libraries: Path = Path("/usr/lib")) -> None:
    """Make links of what Wine has copied: 80 MB instead of 690."""
    originals = next(libraries.glob("*/wine/x86_64-windows"), None)
    if originals is None:
        return
    for copy in [*system32.iterdir(), *(system32 / "drivers").iterdir()]:
        original = originals / copy.name
        is_file = copy.is_file() and not copy.is_symlink() and original.is_file()
        if is_file and filecmp.cmp(copy, original, shallow=False):
            copy.unlink()
            copy.symlink_to(original)


def assemble(python: WindowsPython, host: Interpreter, pip: Path, log: Path) -> None:
    """Put together one Windows Python, with the packages that the tests need.

    Args:
        python: Which one, and where.
        host: A Python of the same version for this system: it has the standard library, and
            compiles it.
        pip: A Python that has pip.
        log: Where to write what the programs say.

    Raises:
        SetUpError: If a program failed.
    """
    stamp, wanted = python.folder / "stamp", fingerprint(host)
    if is_done(stamp, wanted):
        return
    print(f"Assembling a Windows Python {python.version}.", flush=True)
    shutil.rmtree(python.folder, ignore_errors=True)
    library = python.folder / "Lib"
    shutil.copytree(
        Path(host.base) / "lib" / f"python{python.version}",
        library,
        ignore=shutil.ignore_patterns(*NO_LIBRARY),
    )
    _match_patch_levels(library)
    download = python.folder / "download"
    for_windows = _pip_options(python.version)
    run(pip, "-m", "pip", "download", *for_windows, "--no-deps", "-d", download, PANDA3D, log=log)
    _unpack(next(download.glob("*.whl")), python.folder)
    shutil.rmtree(download)
    _compile_launcher(python, log)
    into = ("--no-compile", "--target", library / "site-packages")
    run(pip, "-m", "pip", "install", *for_windows, *into, *requirements(), log=log)
    # Unchecked, because each look at a source's time costs Wine as much as a small import.
    unchecked = ("--invalidation-mode", "unchecked-hash")
    subprocess.run(
        [host.program, "-m", "compileall", "-q", "-j", "0", *unchecked, library],
        stdout=subprocess.DEVNULL,  # some packages hold files for a newer Python
        stderr=subprocess.DEVNULL,
        check=False,
    )
    check(python)
    stamp.write_text(wanted, "utf-8")


def _match_patch_levels(library: Path) -> None:
    """Change what differs between the library's patch level and that of the DLL.

    The DLL of 3.11.9 calls a class method that was none before 3.11.8.
    """
    metadata = library / "importlib" / "metadata" / "__init__.py"
    lines = metadata.read_text("utf-8").split("\n")
    for number, line in enumerate(lines):
        if "def invalidate_caches(cls)" in line and "@classmethod" not in lines[number - 1]:
            lines[number] = f"    @classmethod\n{line}"
    metadata.write_text("\n".join(lines), "utf-8")


def _pip_options(version: str) -> list[str]:
    """Have pip take what is for Windows, whatever system it runs on."""
    return [
        "--disable-pip-version-check",
        "--only-binary=:all:",
        "--platform=win_amd64",
        "--implementation=cp",
        f"--python-version={version}",
    ]


def _unpack(wheel: Path, folder: Path) -> None:
    """Take Python's own files out of panda3d's wheel."""
    modules = folder / "DLLs"
    modules.mkdir()
    with zipfile.ZipFile(wheel) as files:
        for name in files.namelist():
            file = Path(name)
            if file.parent.name != "deploy_libs" or any(map(file.match, NO_LIBRARIES)):
                continue
            is_core = file.suffix == ".dll" and file.match("[pPvV][yYcC]*")
            target = folder if is_core else modules
            if file.suffix in {".dll", ".pyd"}:
                (target / file.name).write_bytes(files.read(name))


def _compile_launcher(python: WindowsPython, log: Path) -> None:
    """Compile python.exe, with the manifest that says for which Windows it is."""
    resource, compiled = python.folder / "python.rc", python.folder / "python.o"
    resource.write_text(f'1 24 "{HERE / "python.manifest"}"\n', "utf-8")
    run(RESOURCE_COMPILER, resource, "-O", "coff", "-o", compiled, log=log)
    dll = f'-DPYTHON_DLL=L"python{python.version.replace(".", "")}.dll"'
    sources = (HERE / "python_launcher.c", compiled)
    run(
        COMPILER,
        "-O2",
        "-municode",
        "-s",
        dll,
        *sources,
        "-o",
        python.folder / "python.exe",
        log=log,
    )


def requirements() -> list[str]:
    """Return the requirements for pip, with the versions that setup.cfg wants."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    wanted = config["options"]["install_requires"].splitlines()
    for extra in config["options.extras_require"].values():
        wanted += extra.splitlines()
    # Without the part after the semicolon: pip would look whether this system is Windows.
    lines = [line.partition(";")[0].strip() for line in wanted if line]
    versions = {line.split()[0]: line for line in lines}
    return [versions.get(name, name) for name in PACKAGES]


def check(python: WindowsPython) -> None:
    """Start it, and have it import the package and call the ETW API.

    Raises:
        SetUpError: If it cannot.
    """
    record = python.folder / "check.jsonl"
    program = (
        "import sys, eliot_etw, orjson, ssl, traceloggingdynamic as t; t._example(); "
        "print(sys.platform, *sys.version_info[:2])"
    )
    answer = subprocess.run(
        python.command("-c", program),
        env=python.environment(record),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.stdout.split() != ["win32", *python.version.split(".")]:
        lines = (answer.stdout + answer.stderr).splitlines() or ["nothing"]
        msg = f"the Windows Python {python.version} does not work; it says: {lines[-1]}"
        raise SetUpError(msg)
    if not record.exists() or "EventWriteTransfer" not in record.read_text("utf-8"):
        msg = f"the recorder recorded nothing of the Windows Python {python.version}."
        raise SetUpError(msg)


def set_up(root: Path, versions: Iterable[str]) -> list[WindowsPython]:
    """Assemble what is not there yet, and return the Pythons.

    Args:
        root: Where to.
        versions: Which, as ``X.Y``. Each needs a Python of that version for this system, too.

    Raises:
        SetUpError: If it cannot be done here; with the reason, in one line.
    """
    hosts = {each.version: each for each in find_interpreters(this_interpreter())}
    pythons = [WindowsPython(root, version) for version in versions]
    missing = [each.version for each in pythons if each.version not in hosts]
    if missing:
        msg = f"needs a Python {', '.join(missing)} for this system, for its standard library."
        raise SetUpError(msg)
    root.mkdir(parents=True, exist_ok=True)
    log = root / "setup.log"
    log.unlink(missing_ok=True)
    install_debian_packages(log)
    make_prefix(root, log)
    start_server(root)
    pip = root / "pip" / "bin" / "python"
    if not pip.exists():
        run(sys.executable, "-m", "venv", root / "pip", log=log)
    for python in pythons:
        assemble(python, hosts[python.version], pip, log)
    return pythons


def _read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path, nargs="?", default=ASSEMBLED, help="%(default)s")
    parser.add_argument(
        "--python",
        action="append",
        metavar="X.Y",
        help=f"which (may be repeated); default: {' and '.join(VERSIONS)}",
    )
    return parser.parse_args()


def main() -> int:
    """Do it all, and say what is there."""
    options = _read_arguments()
    started = time.monotonic()
    for python in set_up(options.root.resolve(), options.python or VERSIONS):
        print(f"Windows Python {python.version}: {python.folder}")
    print(f"{time.monotonic() - started:.0f} s. Start one: python3 tools/windows/wpy.py -- -c ...")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetUpError as error:
        sys.exit(f"setup.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
