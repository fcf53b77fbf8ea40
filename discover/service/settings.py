"""What a server may do, and for whom; checked before anything listens."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from dataclasses import dataclass

from discover.catalogue import KNOWN_MODELS
from discover.errors import InputError, ModelError
from discover.planted.settings import PREFIX, parse_name

TOKEN = "DISCOVER_TOKEN"
"""The environment variable that has the token."""

TOKEN_LENGTH = 16
"""So long a token must be at least: too long to be guessed."""

PLANTED = {"layers": 16, "heads": 16, "d_model": 2048, "d_head": 128, "d_mlp": 8192, "decoys": 200}
"""The largest planted model that may be submitted where not any model may be."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Settings:
    """What a server allows.

    `token`: what every request must show, or None (this machine alone is listened to). `models`:
    names that may be submitted besides those of `discover models`; `any_model`: hub names and paths
    on the worker's machine too. `hosts`: the names that the server goes by; one of them must be a
    request's Host, or, with `any_address`, an address. `root_path`: the prefix under which a proxy
    shows the server. `max_body`: bytes of a request. `max_queued`: runs that may wait at once.
    `poll`: seconds between two looks at the database for a stream.

    Raises:
        InputError: the token is too short, or the prefix is none.
    """

    token: str | None = None
    models: tuple[str, ...] = ()
    any_model: bool = False
    hosts: tuple[str, ...] = LOOPBACK
    any_address: bool = False
    root_path: str = ""
    max_body: int = 8 * 2**20
    max_queued: int = 1000
    poll: float = 0.5

    def __post_init__(self) -> None:
        if self.token is not None:
            check_token(self.token)
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", self.root_path):
            raise InputError(
                f"{self.root_path!r} is no prefix; write for example /discover, or nothing"
            )
        if re.match(r"/(api|static)(/|$)", self.root_path):
            raise InputError(
                f"{self.root_path!r} cannot be the prefix: the server's own addresses begin so; "
                "write for example /discover"
            )
        if self.max_queued < 1:
            raise InputError(f"at least 1 run must be able to wait, got {self.max_queued}")

    def check_model(self, name: str) -> None:
        """Refuse a model that may not be submitted here.

        Raises:
            NotAllowedError: it is on no list.
            ModelError: it is a planted model with impossible settings.
        """
        if self.any_model or name in self.models:
            return
        if name in {known.name for known in KNOWN_MODELS}:
            return
        if name.startswith(PREFIX):
            check_planted(name)
            return
        raise NotAllowedError(
            f"the model {name[:80]!r} may not be used on this server; choose one of its models, or "
            "ask whoever runs it to start it with --allow-model or --allow-any-model"
        )


class NotAllowedError(ModelError):
    """A model that this server does not let anyone use."""


def check_planted(name: str) -> None:
    """Refuse a planted model larger than `PLANTED`.

    Raises:
        NotAllowedError: it is.
        ModelError: it is none.
    """
    asked = parse_name(name)
    for key, most in PLANTED.items():
        if getattr(asked, key) > most:
            raise NotAllowedError(
                f"{key} of a planted model may be at most {most} on this server, got "
                f"{getattr(asked, key)}"
            )


def check_token(token: str) -> None:
    """Refuse a token that is too short, or that no HTTP header can hold.

    Raises:
        InputError: it is.
    """
    if not re.fullmatch(rf"[!-~]{{{TOKEN_LENGTH},}}", token):
        raise InputError(
            f"{TOKEN} must be at least {TOKEN_LENGTH} characters of plain ASCII without spaces; "
            'make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )


def token_for(host: str) -> str | None:
    """The token of the environment; None where it has none and only this machine is listened to.

    Raises:
        InputError: anyone could reach the address, and there is no token, or a weak one.
    """
    token = os.environ.get(TOKEN) or None
    if token is not None:
        check_token(token)
    elif not is_loopback(host):
        raise InputError(
            f"whoever can reach {host} could use this server: set {TOKEN} to a secret first "
            '(python -c "import secrets; print(secrets.token_urlsafe(32))"), or listen on '
            "127.0.0.1"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def names_of(host: str, further: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """The names that a server on this address goes by, and whether by any address too.

    DNS rebinding needs a name; so where others may come in, an address as such is harmless.
    """
    names = [*LOOPBACK, host.lower(), *(name.lower() for name in further)]
    local = is_loopback(host)
    if not local:
        names += [socket.gethostname().lower(), socket.getfqdn().lower()]
    return tuple(dict.fromkeys(names)), not local
