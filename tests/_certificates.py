"""Certificates for the servers of the tests, made by openssl."""

import os
import shutil
import subprocess
import sys

import pytest


def make(folder, name="server", who="IP:127.0.0.1"):
    """Make a certificate that is signed by itself, and its key.

    Args:
        folder: Where to put the files.
        name: What they are called, without ``.pem`` and ``.key``.
        who: Whose certificate it is, as an alternative name of the subject.

    Returns:
        The paths of the certificate and of its key, as text.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        why = "there is no openssl, which makes certificates. On Debian: apt-get install openssl"
        if sys.platform == "linux" and os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    certificate, key = (f"{folder}/{name}.{kind}" for kind in ("pem", "key"))
    command = (
        f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        f"-subj /CN=localhost -addext subjectAltName={who} -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True, timeout=60)
    return certificate, key
