"""The metrics of workers, fetched and read. A worker that gives none is told with the reason, and waited for by nobody."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit

from backtalk.operate.fetching import fetch

PORT: Final = 8081
SECONDS: Final = 2.0
_AT_ONCE: Final = 32
# whatever is added up of less than this stays finite
_MOST: Final = 2.0**63

# the name of a series with its labels in the order of their names
Series: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
Samples: TypeAlias = Mapping[Series, float]


class NoWorkerAddress(ValueError):
    """Raised for what is no address of a worker; the message holds no credentials."""


@dataclass(frozen=True, slots=True)
class Scraped:
    """What one worker said, or the `problem` that it gave nothing of use."""

    worker: str
    samples: Samples
    problem: str | None = None


def address(told: str) -> SplitResult:
    """Return the URL of a worker's metrics, from as little as its host name. Raises NoWorkerAddress."""
    try:
        parts = urlsplit(told if "://" in told else f"http://{told}")
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        good = False
    if not good or parts.username is not None or parts.password is not None:
        raise NoWorkerAddress(
            "the address of a worker should be http://host:8081, without user and password: "
            f"{told.rpartition('@')[2]!r}"
        )
    if parts.port is None and "://" not in told:
        parts = parts._replace(netloc=f"{parts.netloc}:{PORT}")
    return parts._replace(path=parts.path.rstrip("/") or "/metrics")


async def scrape(workers: Iterable[SplitResult]) -> tuple[Scraped, ...]:
    """Ask all workers at once; a host name that stands for several addresses means all of them."""
    loop = asyncio.get_running_loop()
    # not the loop's own threads, of which a small machine has few: many workers may be silent at once
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="scrape")
    try:
        places = [
            place
            for found in await asyncio.gather(*(loop.run_in_executor(pool, _places, one) for one in workers))
            for place in found
        ]
        return tuple(
            await asyncio.gather(
                *(loop.run_in_executor(pool, _ask, *place) for place in dict.fromkeys(places))
            )
        )
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _places(parts: SplitResult) -> tuple[tuple[str, str], ...]:
    """Return the name and the URL of each worker that an address stands for."""
    found: list[str] = []
    # over TLS the certificate is for the name
    if parts.scheme == "http" and parts.hostname:
        with suppress(OSError, UnicodeError):
            found = _addresses(parts.hostname)
    if len(found) < 2:
        return ((parts.netloc, parts.geturl()),)
    each = (f"[{host}]" if ":" in host else host for host in found)
    port = "" if parts.port is None else f":{parts.port}"
    return tuple((f"{parts.netloc} {host}", parts._replace(netloc=f"{host}{port}").geturl()) for host in each)


def _addresses(host: str) -> list[str]:
    """Return the addresses of a host, of one kind: with IPv4 and IPv6 each worker would be there twice."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    four = {str(one[4][0]) for one in found if one[0] == socket.AF_INET}
    return sorted(four or {str(one[4][0]) for one in found})


def _ask(worker: str, url: str) -> Scraped:
    try:
        body = fetch(url, seconds=SECONDS, proxies=False)
        return Scraped(worker, dict(parse(body.decode("utf-8", "replace"))))
    except HTTPError as error:
        with error:
            return Scraped(worker, {}, _refusal(error.code))
    except (URLError, HTTPException, OSError) as error:
        return Scraped(worker, {}, f"does not answer: {_why(error)}")
    except ValueError:
        return Scraped(worker, {}, "what it answers are no metrics")


def _why(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__)


def _refusal(status: int) -> str:
    hint = ": is it a worker, and one that serves metrics?" if status == 404 else ""
    return f"answers {status}{hint}"


def parse(text: str) -> Iterator[tuple[Series, float]]:
    """Yield what Prometheus text tells of Backtalk, as far as it makes sense. Raises ValueError for what is none."""
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415  the light install lacks it

    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                value = float(sample.value)
                # a bound that is no number is found here, and not by who reckons with it
                float(sample.labels.get("le", 0))
                if sample.name.startswith("backtalk_") and abs(value) < _MOST:
                    yield (sample.name, tuple(sorted(sample.labels.items()))), value
    # the parser trips in many ways over what it cannot read
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise ValueError("these are no metrics") from error
