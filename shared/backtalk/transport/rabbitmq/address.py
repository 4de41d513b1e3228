"""The URL of a broker, read once: where it is, how it is known to be the right one, and how often it shows life.

    amqps://user:password@host:5671/vhost?cafile=/run/secrets/ca.pem&certfile=/run/secrets/client.pem&keyfile=…

What does not fit raises BadAddress, whose message may be printed: no part of the URL stands in it but names of files.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from backtalk.transport.envelope import BadAddress

HEARTBEAT_SECONDS: Final = 30
LONGEST_HEARTBEAT_SECONDS: Final = 3600
_TLS: Final = ("cafile", "certfile", "keyfile")
_OPTIONS: Final = ("heartbeat", *_TLS)
_FORM: Final = "should be amqp://user:password@host:port/vhost, with special characters as %xx"


@dataclass(frozen=True, slots=True)
class Address:
    """What to connect to, without the options; a `tls` context where the connection is to be encrypted."""

    url: str = field(repr=False)
    tls: ssl.SSLContext | None
    heartbeat: int


def read_address(url: str) -> Address:
    """Read a URL and the files that it names; raises BadAddress."""
    parts = _parts(url)
    options = _options(parts.query)
    files = {name: path for name, path in options.items() if name in _TLS}
    if files and parts.scheme != "amqps":
        raise BadAddress(
            f"{', '.join(files)}: only an amqps:// URL is encrypted; amqp:// needs no certificates"
        )
    return Address(
        parts._replace(query="").geturl(),
        _context(files) if parts.scheme == "amqps" else None,
        _heartbeat(options.get("heartbeat")),
    )


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("amqp", "amqps") and parts.hostname and (parts.port or True)
    except ValueError:
        good = False
    # a # in a password would cut the URL short
    if not good or "#" in url:
        raise BadAddress(_FORM)
    return parts


def _options(query: str) -> Mapping[str, str]:
    """Return the options of a URL. Those unknown are not named: a ? in a password would make one of its rest."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        pairs = [("", "")]
    options = dict(pairs)
    if "no_verify_ssl" in options:
        raise BadAddress(
            "no_verify_ssl is refused: whoever answers in the broker's place would get the password; "
            "name the CA that signed the broker's certificate with cafile"
        )
    if len(options) != len(pairs) or not all(name in _OPTIONS and value for name, value in pairs):
        raise BadAddress(
            f"has options that mean nothing here: known are {', '.join(_OPTIONS)}, each once and with a value; "
            "a ? in a password is written %3F"
        )
    return options


def _heartbeat(told: str | None) -> int:
    if told is None:
        return HEARTBEAT_SECONDS
    if not (told.isascii() and told.isdecimal() and 1 <= int(told) <= LONGEST_HEARTBEAT_SECONDS):
        raise BadAddress(f"heartbeat: should be whole seconds from 1 to {LONGEST_HEARTBEAT_SECONDS}")
    return int(told)


def _context(files: Mapping[str, str]) -> ssl.SSLContext:
    """Return a context that demands a certificate which fits the host; without `cafile` the system's CAs sign it."""
    if "keyfile" in files and "certfile" not in files:
        raise BadAddress("keyfile: a key is of no use without its certificate; name that with certfile")
    for name, path in files.items():
        _see(name, path)
    ca, certificate = files.get("cafile"), files.get("certfile")
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
    except ssl.SSLError as error:
        raise BadAddress(f"cafile: {ca} holds no certificate in PEM form") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        _identify(context, certificate, files.get("keyfile"))
    return context


def _identify(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    try:
        # without a password OpenSSL would ask for one on the terminal, and wait
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise BadAddress(
            f"certfile, keyfile: {certificate} and {key or 'the key in it'} are no certificate and its key, "
            "in PEM form and without a passphrase"
        ) from error


def _see(name: str, path: str) -> None:
    """Open a file once: what ssl raises does not tell which file it could not read."""
    try:
        with open(path, "rb"):  # noqa: PTH123  a path with a null byte is told like any other
            pass
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else "no name of a file"
        raise BadAddress(f"{name}: {path} cannot be read ({told})") from error
