"""Why an encrypted connection did not come about, where waiting cannot help: one side does not trust the other."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from backtalk.transport.rabbitmq.address import Address

_ASK_SECONDS: Final = 2.0
_DEFAULT_PORT: Final = 5671
_HOSTNAME_MISMATCH: Final = 62
_IP_ADDRESS_MISMATCH: Final = 64
_EXPIRED: Final = 10
_REFUSED: Final = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")


async def distrust(error: BaseException, address: Address) -> str | None:
    """Return what must be changed before a connection can come about, or None where waiting may help."""
    if address.tls is None:
        return None
    found = next((one for one in _causes(error) if isinstance(one, ssl.SSLError)), None)
    if found is None and any(isinstance(one, ConnectionResetError) for one in _causes(error)):
        found = await _asked(address.url, address.tls)
    return _told(found) if found else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


async def _asked(url: str, tls: ssl.SSLContext) -> ssl.SSLError | None:
    """Return the alert of a broker that reset a connection.

    In TLS 1.3 a client's certificate is refused when the client takes the handshake for done. What it has written by
    then makes the socket forget the alert, so this one writes nothing.
    """
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port or _DEFAULT_PORT, ssl=tls
            )
            try:
                await reader.read(1)
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except ssl.SSLError as error:
        return error
    except (OSError, TimeoutError):
        pass
    return None


def _told(error: ssl.SSLError) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the broker's certificate is not trusted: {error.verify_message.rstrip('.')}; {_remedy(error)}"
        )
    reason = error.reason or ""
    said = reason.rpartition("ALERT_")[2].lower().replace("_", " ")
    if reason == "WRONG_VERSION_NUMBER":
        return "the broker's port does not speak TLS; take its port for TLS (5671 by default), or amqp://"
    if "PROTOCOL_VERSION" in reason:
        return f"the broker speaks no TLS that is safe enough ({said}); let it speak TLS 1.2 or 1.3"
    if any(word in reason for word in _REFUSED):
        return (
            f"the broker refused our certificate ({said}); "
            "name one that it trusts, and its key, with ?certfile=…&keyfile=…"
        )
    return None


def _remedy(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in (_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH):
        return "take a name of the broker that its certificate holds"
    if error.verify_code == _EXPIRED:
        return "renew it, and look at the clocks of both machines"
    return "name the CA that signed it with ?cafile=…"
