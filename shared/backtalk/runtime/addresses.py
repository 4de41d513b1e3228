"""The URLs that settings hold: which of them can be used, and how they are told without what is secret in them."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, urlsplit

_REDIS_OPTIONS: Final = ("db", "password", "ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile")


def names_an_endpoint(url: str) -> bool:
    """Tell whether a URL is the bare address of an HTTP server.

    A user and password in it would go out in the place of the key, and a query would swallow the path of every call.
    Both are where secrets are put, and a secret has a variable or a file of its own.
    """
    try:
        parts = urlsplit(url)
        bare = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return (
        bare and parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"[?#@\s]", url)
    )


def names_a_redis(url: str) -> bool:
    """Tell whether the client can make something of a URL; what it does not know would break it later."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        return False
    if not all(name in _REDIS_OPTIONS for name in options) or not options.get("db", "0").isdecimal():
        return False
    if parts.scheme == "unix":
        return bool(parts.path)
    database = parts.path.removeprefix("/") or "0"
    return (
        parts.scheme in ("redis", "rediss") and bool(parts.hostname) and port_is_good and database.isdecimal()
    )


def without_password(url: str) -> str:
    """Return a URL whose password and query, where secrets may be, are masked; also one that is misspelt."""
    head, at, rest = url.rpartition("@")
    place = re.split(r"[?#]", rest)[0]
    if not at:
        return place
    scheme, colon, login = head.rpartition("://")
    user = re.split(r"[:/?#]", login)[0]
    return f"{scheme}{colon}{user}:***@{place}"
