"""TLS to a broker whose only port speaks nothing else and demands a certificate of everybody."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
import pytest_asyncio
import trustme

from backtalk.client import BadAddress, BrokerUnreachable, Client
from backtalk.local.broker import PrivateBroker
from backtalk.transport.rabbitmq import check, connect, declare
from backtalk.transport.topology import Names, topology

pytestmark = pytest.mark.asyncio(loop_scope="module")

# refused at once, or waited for as long as this
PATIENCE = 20.0
AT_ONCE = 5.0


@dataclass(frozen=True)
class Secured:
    """A broker with TLS, and the files of those who may talk to it, and of those who may not."""

    bare: str
    files: Path

    def url(self, *, host: str = "127.0.0.1", scheme: str = "amqps", **files: str) -> str:
        """Return the URL for a caller that has these files."""
        options = urlencode({option: str(self.files / name) for option, name in files.items()})
        url = self.bare.replace("127.0.0.1", host).replace("amqps", scheme)
        return f"{url}?{options}" if options else url

    @property
    def good(self) -> str:
        return self.url(cafile="ca.pem", certfile="client.pem", keyfile="client.key")


def issue(ca: trustme.CA, files: Path, who: str, name: str, **options: dt.datetime) -> None:
    """Write a certificate and its key."""
    issued = ca.issue_cert(who, **options)
    issued.cert_chain_pems[0].write_to_path(files / f"{name}.pem")
    issued.private_key_pem.write_to_path(files / f"{name}.key")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Return a folder with two certificate authorities and what they signed."""
    files = tmp_path_factory.mktemp("certificates")
    ca, stranger = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(files / "ca.pem")
    stranger.cert_pem.write_to_path(files / "stranger-ca.pem")
    issue(ca, files, "127.0.0.1", "broker")
    issue(ca, files, "worker", "client")
    issue(stranger, files, "worker", "stranger")
    issue(ca, files, "worker", "late", not_after=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    return files


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secured(files: Path) -> AsyncIterator[Secured]:
    """Return a node that takes TLS alone, and only from those who have a certificate."""
    lines = (
        f"ssl_options.cacertfile = {files}/ca.pem",
        f"ssl_options.certfile = {files}/broker.pem",
        f"ssl_options.keyfile = {files}/broker.key",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = true",
    )
    async with PrivateBroker(tls=lines) as broker:
        yield Secured(broker.url, files)


async def refusal(url: str, *, patience: float = PATIENCE) -> str:
    """Return what a caller is told, at once, by the connection that does not come about."""
    started = time.monotonic()
    with pytest.raises(BrokerUnreachable) as caught:
        async with connect(url, name="test", patience=patience):
            pass
    assert time.monotonic() - started < AT_ONCE
    assert "guest" not in str(caught.value)
    return str(caught.value)


async def test_both_workers_and_a_client_do_a_job_over_mutual_tls(secured, stage_at) -> None:
    """Every connection of a round trip is encrypted: there is no other port."""
    prompt = {"data": "Hello", "role": "prompt", "requires_grad": True}
    async with stage_at(secured.good) as stage:
        await stage.worker("forward")
        await stage.worker("backward")
        client = await stage.client()
        result = await client.complete(model="m", messages=[{"role": "user", "content": [prompt]}])
        gradients = await client.feedback(result.graph, {result.output: "Too short."})
    assert (result.status, gradients.status) == ("completed", "completed")


async def test_what_is_spoken_is_tls_1_2_at_least_with_the_host_checked(secured) -> None:
    """The context of the connection says so."""
    async with connect(secured.good, name="test", patience=PATIENCE) as broker:
        tls = broker._consuming.transport.connection.ssl_context
        assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert tls.minimum_version == ssl.TLSVersion.TLSv1_2


async def test_a_broker_that_another_authority_signed_is_not_trusted(secured) -> None:
    """It is told at once: it will not be signed again while one waits."""
    told = await refusal(secured.url(cafile="stranger-ca.pem", certfile="client.pem", keyfile="client.key"))
    assert "the broker's certificate is not trusted" in told
    assert "?cafile=" in told


async def test_without_an_authority_those_of_the_system_count(secured) -> None:
    """Nobody is trusted just because no authority was named."""
    told = await refusal(secured.url(certfile="client.pem", keyfile="client.key"))
    assert "the broker's certificate is not trusted" in told


async def test_a_certificate_for_another_host_is_not_trusted(secured) -> None:
    """Whoever holds any certificate of the authority could answer otherwise."""
    files = {"cafile": "ca.pem", "certfile": "client.pem", "keyfile": "client.key"}
    told = await refusal(secured.url(host="localhost", **files))
    assert "not valid for 'localhost'" in told
    assert "take a name of the broker that its certificate holds" in told


@pytest.mark.parametrize(
    ("who", "reason"),
    [(None, "certificate required"), ("stranger", "unknown ca"), ("late", "certificate expired")],
)
async def test_a_caller_whose_certificate_does_not_fit_is_refused_at_once(secured, who, reason) -> None:
    """The broker's own words are told, although TLS 1.3 sends them after the handshake."""
    files = {"certfile": f"{who}.pem", "keyfile": f"{who}.key"} if who else {}
    told = await refusal(secured.url(cafile="ca.pem", **files))
    assert f"the broker refused our certificate ({reason})" in told
    assert "certfile" in told


async def test_the_declaration_and_the_check_of_the_topology_are_refused_alike(secured) -> None:
    """They open connections of their own, through the same door."""
    for work in (declare, check):
        with pytest.raises(BrokerUnreachable, match="the broker refused our certificate"):
            await work(secured.url(cafile="ca.pem"), topology(Names("tls")), patience=PATIENCE)


async def test_a_client_is_refused_as_a_worker_is(secured) -> None:
    """An address that cannot work is told when the client connects, a certificate that does not fit too."""
    with pytest.raises(BrokerUnreachable, match="certificate required"):
        async with Client(secured.url(cafile="ca.pem")):
            pass
    with pytest.raises(BadAddress, match="cannot be read"):
        async with Client(secured.url(cafile="no-such.pem")):
            pass


async def test_a_caller_without_tls_is_not_served(secured) -> None:
    """The message ends the waiting with the likely reason."""
    told = await refusal(secured.url(scheme="amqp"), patience=0.2)
    assert "amqps://" in told


async def test_tls_on_a_port_without_it_is_told_at_once(broker) -> None:
    """A wrong port is a slip that waiting does not mend."""
    told = await refusal(broker.url.replace("amqp://", "amqps://"))
    assert "does not speak TLS" in told


async def test_a_port_that_closes_every_connection_is_waited_for() -> None:
    """A broker that is just starting must not be taken for one that refuses us."""
    tries = 0

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BrokerUnreachable, match=r"no broker answered within 0.3 s"):
            async with connect(f"amqps://guest:guest@127.0.0.1:{port}/", name="test", patience=0.3):
                pass
    assert tries > 1


async def test_a_connection_over_tls_comes_back_by_itself(secured) -> None:
    """The certificates serve for as long as the process lives."""
    async with connect(secured.good, name="test", patience=PATIENCE) as broker:
        connection = broker._publishing
        back = asyncio.Event()
        connection.reconnect_callbacks.add(lambda *_: back.set())
        await connection.transport.connection.close(ConnectionError("cut"))
        async with asyncio.timeout(PATIENCE):
            await back.wait()
        assert broker.connected
