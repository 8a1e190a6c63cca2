"""A NATS server whose users are known by keys, as operators of several accounts have them.

Source:
    NATS's documentation of JWT authentication; ADR-14 has the parts of a ``.creds`` file.
"""

import base64
import json
import os
import time

import nkeys

_UNLIMITED = dict.fromkeys(
    ("subs", "data", "payload", "imports", "exports", "conn", "leaf", "streams", "consumer"), -1
)


class Party:
    """Somebody who has a key, and can say something of others that nobody else could have said."""

    def __init__(self, kind):
        self.seed = nkeys.encode_seed(os.urandom(32), kind)
        self._keys = nkeys.from_seed(self.seed)
        self.name = self._keys.public_key.decode()

    def say_of(self, other, kind, **claims):
        """Make a JWT."""
        body = {
            "jti": "test",
            "iat": int(time.time()),
            "iss": self.name,
            "sub": other.name,
            "name": kind,
            "nats": {"version": 2, "type": kind, **claims},
        }
        text = b".".join(map(_encoded, ({"typ": "JWT", "alg": "ed25519-nkey"}, body)))
        return b".".join((text, _base64(self._keys.sign(text)))).decode()


class Operator:
    """Runs servers that have one account, and makes users of it.

    Attributes:
        settings: What is in the configuration of such a server.
    """

    def __init__(self):
        operator = Party(nkeys.PREFIX_BYTE_OPERATOR)
        system = Party(nkeys.PREFIX_BYTE_ACCOUNT)
        self._account = Party(nkeys.PREFIX_BYTE_ACCOUNT)
        limits = {**_UNLIMITED, "wildcards": True}
        stored = {**limits, "mem_storage": -1, "disk_storage": -1}
        self.settings = "\n".join(
            [
                f'operator: "{operator.say_of(operator, "operator")}"',
                f"system_account: {system.name}",
                "resolver: MEMORY",
                "resolver_preload {",
                f'  {system.name}: "{operator.say_of(system, "account", limits=limits)}"',
                f'  {self._account.name}: "'
                f'{operator.say_of(self._account, "account", limits=stored)}"',
                "}",
            ]
        )

    def credentials(self, path, **claims):
        """Write the credentials of a new user; return the path, and the seed that is in there."""
        user = Party(nkeys.PREFIX_BYTE_USER)
        jwt = self._account.say_of(user, "user", subs=-1, data=-1, payload=-1, **claims)
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n"
            "------END USER NKEY SEED------\n"
        )
        return str(path), user.seed.decode()


def _encoded(value):
    return _base64(json.dumps(value).encode())


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")
