"""Prometheus itself reads the rules, scrapes a broker and both workers, and has data for every panel."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aio_pika
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractConnection
from pydantic_core import to_json

from backtalk import Client
from backtalk.local.broker import PrivateBroker, free_ports
from backtalk.local.processes import running
from backtalk.local.simulated_model import SimulatedModel

beside_the_server = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus"
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/backtalk.json").read_text("utf-8"))
ALERTS = re.findall(r"alert: (\w+)", (RULES / "alerts.yml").read_text("utf-8"))
PANELS = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]
# an endpoint that thinks and remembers
THOUGHT = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    },
}


def program(name: str) -> str:
    """Return the path of a program of Debian's package `prometheus`; without it nothing here means anything."""
    if shutil.which(name) is None:
        subprocess.run([ROOT / "scripts/apt-install", "prometheus"], check=True)
    found = shutil.which(name)
    assert found, f"{name} is missing: install the package prometheus"
    return found


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")],
    ids=["configuration", "alerts"],
)
def test_promtool_is_content(arguments):
    """Each alert fires where it should, and nowhere else."""
    told = subprocess.run(
        [program("promtool"), *arguments], cwd=RULES, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr


def test_promtool_notices_an_alert_that_does_not_fire(tmp_path):
    """What it says of ours means something."""
    for name in ("alerts.yml", "alerts_test.yml"):
        shutil.copy(RULES / name, tmp_path)
    rules = tmp_path / "alerts.yml"
    rules.write_text(
        rules.read_text("utf-8").replace("backtalk_consumer_up == 0", "backtalk_consumer_up == 7")
    )
    command = [program("promtool"), "test", "rules", "alerts_test.yml"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert "BacktalkConsumerDown" in told.stdout + told.stderr


class Prometheus:
    """A server that scrapes every second."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path: str, **query: str) -> Any:
        url = f"{self._url}/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            told = json.load(response)
        assert told["status"] == "success"
        return told["data"]

    def query(self, expression: str) -> list[Any]:
        return self.get("query", query=expression)["result"]

    async def until(self, expression: str) -> None:
        """Wait until an expression has a result."""
        async with asyncio.timeout(40):
            while not await asyncio.to_thread(self.query, expression):
                await asyncio.sleep(0.2)


def configured(broker: int, workers: list[int]) -> str:
    """Return the configuration of compose.yaml, with the addresses of this machine."""
    text = (RULES / "prometheus.yml").read_text("utf-8")
    found = json.dumps([f"127.0.0.1:{port}" for port in workers])
    text = re.sub(
        r"dns_sd_configs:\n(?: {6,}.*\n)+", f"static_configs:\n      - targets: {found}\n", text, count=1
    )
    text = text.replace("rabbitmq:15692", f"127.0.0.1:{broker}").replace(": 15s", ": 1s")
    return text.replace("alerts.yml", str(RULES / "alerts.yml"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prometheus(tmp_path_factory) -> AsyncIterator[Prometheus]:
    """A broker, both workers and a Prometheus, after some jobs that went well and some that did not."""
    folder = tmp_path_factory.mktemp("prometheus")
    port, broker_port, *worker_ports = free_ports(4)
    (folder / "prometheus.yml").write_text(configured(broker_port, worker_ports))
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    async with AsyncExitStack() as opened:
        enter = opened.enter_async_context
        broker = await enter(PrivateBroker(metrics_port=broker_port))
        model = await enter(SimulatedModel())
        env = {
            **os.environ,
            "BACKTALK_AMQP_URL": broker.url,
            "BACKTALK_NAMESPACE": "backtalk",
            "OPENAI_BASE_URL": model.base_url,
            "OPENAI_API_KEY": "none",
        }
        for role, at in zip(("forward", "backward"), worker_ports, strict=True):
            own = {**env, "BACKTALK_HEALTH_PORT": str(at)}
            worker = [sys.executable, "-m", f"{role}_worker"]
            await enter(running(worker, env=own, log=folder / f"{role}.log", ready='"event":"ready"'))
        ready = "Server is ready to receive web requests"
        await enter(running(command, env=os.environ, log=folder / "prometheus.log", ready=ready))
        prometheus = Prometheus(port)
        # a rate does not see what was counted before the first look
        await prometheus.until('count(backtalk_consumer_up == 1) == 2 and on() up{job="rabbitmq-queues"}')
        async with Client(broker.url) as client:
            await worked(client, model, await enter(await aio_pika.connect(broker.url)))
        await prometheus.until("backtalk_retries_total and on() rabbitmq_detailed_queue_messages")
        yield prometheus


async def worked(client: Client, model: SimulatedModel, connection: AbstractConnection) -> None:
    """Send what goes well, what nobody can read, and what has to be tried again, for a few seconds."""
    model.rule(match="think", body=to_json(THOUGHT).decode())
    model.rule(match="broken", status=500)
    said = [{"role": "user", "content": "broken"}]
    channel = await connection.channel()
    late = asyncio.ensure_future(client.complete(model="m", messages=said))
    for _ in range(6):
        told = [{"role": "user", "content": text} for text in ("think", "hello")]
        junk = aio_pika.Message(b"junk", timestamp=datetime.now(UTC))
        await channel.default_exchange.publish(junk, "backtalk.forward")
        await asyncio.gather(*(client.complete(model="m", messages=[one]) for one in told))
        await asyncio.sleep(0.7)
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)


@beside_the_server
@pytest.mark.parametrize("expression", PANELS)
async def test_every_panel_has_data(prometheus, expression):
    """As Grafana would ask for it."""
    asked = expression.replace("$queue", ".+").replace("$__rate_interval", "1m")
    assert await asyncio.to_thread(prometheus.query, asked), asked


@beside_the_server
async def test_the_rules_are_loaded_and_can_be_evaluated(prometheus):
    """None of them fails, and of a pair that is well none fires."""
    groups = await asyncio.to_thread(prometheus.get, "rules")
    (group,) = groups["groups"]
    assert [rule["name"] for rule in group["rules"]] == ALERTS
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    assert {rule["name"] for rule in group["rules"] if rule["state"] == "firing"} == set()
    assert "error expanding" not in json.dumps(groups)


@beside_the_server
async def test_all_targets_answer(prometheus):
    told = await asyncio.to_thread(prometheus.get, "targets")
    assert {(one["labels"]["job"], one["health"]) for one in told["activeTargets"]} == {
        ("backtalk", "up"),
        ("rabbitmq", "up"),
        ("rabbitmq-queues", "up"),
    }
