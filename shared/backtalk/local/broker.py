"""A private RabbitMQ node: its own ports, data and cookie under a temporary folder, gone afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Final, Self

from backtalk.local.processes import listens, spawn, stop

INSTALL: Final = (
    "RabbitMQ is not installed here. Install it (Debian and Ubuntu: sudo apt-get install rabbitmq-server; "
    "macOS: brew install rabbitmq), or name a broker that runs: "
    "export BACKTALK_AMQP_URL=amqp://user:password@host/"
)
# Debian's wrappers under /usr/sbin switch the user; these scripts run as whoever calls them
_PLACES: Final = ("/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin", "/usr/local/sbin", "/opt/rabbitmq/sbin")
_START_SECONDS: Final = 60.0
_CONTROL_SECONDS: Final = 60.0


class BrokerFailed(RuntimeError):
    """Raised when RabbitMQ is missing or does not start; the message says what to do."""


class PrivateBroker:
    """A RabbitMQ node of one's own: `async with PrivateBroker() as broker: broker.url`.

    With `tls`, the lines `ssl_options.…` of a configuration file, its AMQP port speaks TLS and nothing else.
    With `management`, RabbitMQ's HTTP API is at `broker.management_url`, which is None without.
    With a `metrics_port` it tells its own metrics there, as Prometheus reads them.
    A `quiet` one has room for thousands of idle queues, and figures of queues that are up to a minute old.
    """

    def __init__(
        self,
        *,
        tls: Sequence[str] = (),
        management: bool = False,
        metrics_port: int | None = None,
        quiet: bool = False,
    ) -> None:
        self._tls = tls
        self._management = management
        self._metrics_port = metrics_port
        self._quiet = quiet
        self._open = AsyncExitStack()
        self._port = self._http_port = 0
        self._environment: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"{'amqps' if self._tls else 'amqp'}://guest:guest@127.0.0.1:{self._port}/"

    @property
    def management_url(self) -> str | None:
        return f"http://guest:guest@127.0.0.1:{self._http_port}" if self._management else None

    async def __aenter__(self) -> Self:
        server = _program("rabbitmq-server")
        self._port, self._http_port, distribution, epmd = free_ports(4)
        async with AsyncExitStack() as opened:
            folder = Path(opened.enter_context(_temporary()))
            self._environment = _environment(folder, self._port, distribution, epmd)
            _configure(folder, self._port, self._tls)
            if self._management:
                _plug(folder, "management", self._http_port)
            if self._metrics_port is not None:
                _plug(folder, "prometheus", self._metrics_port)
            if self._quiet:
                _quiet(folder)
            # started by ourselves, since the one that Erlang starts on demand would outlive the node
            mapper = await spawn(["epmd", "-port", str(epmd), "-address", "127.0.0.1"], env=self._environment)
            opened.push_async_callback(stop, mapper)
            log = folder / "log" / "console"
            node = await spawn([str(server)], env=self._environment, log=log)
            opened.push_async_callback(stop, node)
            await self._ready(node, log)
            self._open = opened.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._open.aclose()

    async def control(self, *arguments: str) -> str:
        """Run rabbitmqctl against this node and return what it printed; raises BrokerFailed, also where it hangs."""
        process = await asyncio.create_subprocess_exec(
            str(_program("rabbitmqctl")),
            "--quiet",
            *arguments,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), _CONTROL_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            output = f"no answer within {_CONTROL_SECONDS:g} s".encode()
        if process.returncode:
            raise BrokerFailed(f"rabbitmqctl {' '.join(arguments)} failed: {output.decode(errors='replace')}")
        return output.decode()

    async def _ready(self, node: asyncio.subprocess.Process, log: Path) -> None:
        ports = (self._port, self._http_port) if self._management else (self._port,)
        if all([await listens(node, port, patience=_START_SECONDS) for port in ports]):
            return
        told = log.read_text("utf-8", "replace")[-2000:]
        raise BrokerFailed(f"RabbitMQ did not start within {_START_SECONDS:g} s. It said:\n{told}")


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nobody listens on."""
    with ExitStack() as sockets:
        taken = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


def _program(name: str) -> Path:
    for place in _PLACES:
        if (path := Path(place) / name).is_file():
            return path
    if found := shutil.which(name):
        return Path(found)
    raise BrokerFailed(INSTALL)


def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="backtalk-rabbitmq-", ignore_cleanup_errors=True)


def _environment(folder: Path, port: int, distribution: int, epmd: int) -> dict[str, str]:
    own = {
        "HOME": folder / "home",
        "ERL_EPMD_PORT": epmd,
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_NODENAME": f"backtalk-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": port,
        "RABBITMQ_DIST_PORT": distribution,
        "RABBITMQ_MNESIA_BASE": folder / "data",
        "RABBITMQ_LOG_BASE": folder / "log",
        "RABBITMQ_SCHEMA_DIR": folder / "schema",
        "RABBITMQ_GENERATED_CONFIG_DIR": folder / "generated",
        "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "enabled_plugins",
        "RABBITMQ_CONFIG_FILE": folder / "rabbitmq.conf",
        "RABBITMQ_ADVANCED_CONFIG_FILE": folder / "advanced.config",
        # schedulers that wait busily would take the processor from the workers
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
    }
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))
    }
    return inherited | {name: str(value) for name, value in own.items()}


def _configure(folder: Path, port: int, tls: Sequence[str]) -> None:
    for name in ("home", "data", "log", "schema", "generated"):
        (folder / name).mkdir()
    (folder / "enabled_plugins").write_text("[].\n")
    listener = f"127.0.0.1:{port}"
    listeners = ("listeners.tcp = none", f"listeners.ssl.1 = {listener}", *tls)
    (folder / "rabbitmq.conf").write_text(
        "\n".join(listeners if tls else (f"listeners.tcp.1 = {listener}",)) + "\n"
        "log.console = false\n"
        "log.file.level = warning\n"
        "disk_free_limit.absolute = 50MB\n"
        "vm_memory_high_watermark.absolute = 2GB\n"
        "max_message_size = 16777216\n"
        "consumer_timeout = 7200000\n"
    )


def _plug(folder: Path, name: str, port: int) -> None:
    """Have one more plugin, which listens on a port."""
    plugins = folder / "enabled_plugins"
    plugins.write_text(plugins.read_text().replace("]", f",rabbitmq_{name}]").replace("[,", "["))
    with (folder / "rabbitmq.conf").open("a") as configuration:
        configuration.write(f"{name}.tcp.ip = 127.0.0.1\n{name}.tcp.port = {port}\n")


def _quiet(folder: Path) -> None:
    """Have idle queues say less often that they are there: thousands of them take a quarter of a processor."""
    (folder / "advanced.config").write_text("[{rabbit, [{quorum_tick_interval, 60000}]}].\n")
