"""The samples in other languages and with other frameworks, against the stack of `backtalk local`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pika
import pytest

from backtalk.local.processes import running

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
# a registry may be slow
INSTALL_SECONDS = 300


def call(*command, cwd=ROOT, env=None, patience=60):
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )


def tool(name, package=None):
    """Return where a program is, installed if need be; none is a failure."""
    if shutil.which(name) is None:
        done = call(ROOT / "scripts/apt-install", package or name, patience=INSTALL_SECONDS)
        assert done.returncode == 0, done.stderr
    return shutil.which(name) or pytest.fail(f"{name} is missing, and {package or name} did not bring it")


@pytest.fixture(scope="module")
def local(beside, tmp_path_factory):
    """Run `backtalk local` for the tests of this module; return the variables that it says to export, and its model."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("BACKTALK_", "OPENAI_"))}
    # a port for both workers is one too few
    env["BACKTALK_HEALTH_PORT"] = "8081"
    log = tmp_path_factory.mktemp("local") / "log"
    command = (Path(sys.executable).with_name("backtalk"), "local")
    stack = running([str(part) for part in command], env=env, log=log, ready="Ctrl-C")
    beside(stack.__aenter__())
    try:
        told = log.read_text("utf-8")
        model = re.search(r"^model: (\S+)/v1 \(simulated\)$", told, re.MULTILINE)
        assert model is not None, told
        yield dict(re.findall(r"^export (\w+)=(\S+)$", told, re.MULTILINE)), model[1]
    finally:
        beside(stack.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Install and build the sample for Node.js from its lock file, in a folder of its own, and return that."""
    npm = tool("npm")
    copy = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "docs/schemas", copy / "docs/schemas")
    left = shutil.ignore_patterns("node_modules", "dist", "wire")
    folder = Path(shutil.copytree(EXAMPLES / "nodejs", copy / "examples/nodejs", ignore=left))
    for step in (("ci",), ("run", "build")):
        done = call(npm, *step, cwd=folder, patience=INSTALL_SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def addresses(local):
    return local[0]


@pytest.fixture
def refusing(local):
    """Let the model refuse the next requests that hold a word, until the end of the test."""

    def rule(*rules):
        request = Request(f"{local[1]}/control/rules", data=json.dumps(rules).encode(), method="POST")
        with urlopen(request, timeout=10) as response:
            assert json.load(response) == {"rules": len(rules)}

    yield lambda word: rule({"match": word, "status": 400})
    rule()


def curl():
    tool("curl")
    tool("jq")
    return [EXAMPLES / "curl/sample.sh"]


@pytest.fixture(params=["curl", "faststream", "nodejs"])
def sample(request):
    """The command that runs one of the samples."""
    if request.param == "nodejs":
        return [tool("node", "nodejs"), request.getfixturevalue("node") / "dist/main.js"]
    return curl() if request.param == "curl" else [sys.executable, EXAMPLES / "faststream/service.py"]


def marked(output, mark):
    return [line.removeprefix(f"{mark}: ") for line in output.splitlines() if line.startswith(f"{mark}: ")]


@pytest.mark.timeout(2 * INSTALL_SECONDS)
def test_a_sample_prints_the_response_and_the_gradient(addresses, sample) -> None:
    """Each goes all the way, from a job to the gradient of its prompt, by the addresses that are exported."""
    done = call(*sample, env=addresses)
    assert done.returncode == 0, done.stdout + done.stderr
    responses, gradients = marked(done.stdout, "response"), marked(done.stdout, "gradient")
    assert responses[0] == "Ciao"
    assert len(responses) == len(gradients)
    assert all("capital letters" in gradient for gradient in gradients)


@pytest.mark.timeout(2 * INSTALL_SECONDS)
@pytest.mark.parametrize(("word", "printed"), [("Translate", 0), ("capital letters", 1)])
def test_a_sample_says_what_failed(addresses, refusing, sample, word, printed) -> None:
    """A job, or feedback, that the endpoint refused ends a sample with the error of the answer."""
    refusing(word)
    done = call(*sample, env=addresses)
    assert done.returncode == 1
    assert bool(marked(done.stdout, "response")) == bool(printed)
    assert marked(done.stdout, "gradient") == []
    assert "failed" in done.stderr.splitlines()[-1]
    assert "answered 400" in done.stderr.splitlines()[-1]


@pytest.mark.timeout(2 * INSTALL_SECONDS)
def test_a_sample_gives_up_where_nobody_answers(addresses, sample) -> None:
    """Without workers every sample ends soon, and says why: no queue, no answer, no broker."""
    missing = call(*sample, env={**addresses, "BACKTALK_NAMESPACE": "nobody"}, patience=20)
    assert missing.returncode == 1
    assert "nobody.forward" in missing.stderr.splitlines()[-1]

    with pika.BlockingConnection(pika.URLParameters(addresses["BACKTALK_AMQP_URL"])) as connection:
        connection.channel().queue_declare("idle.forward", exclusive=True)
        told = {"BACKTALK_NAMESPACE": "idle", "SAMPLE_SECONDS": "1"}
        silent = call(*sample, env={**addresses, **told}, patience=20)
    assert silent.returncode == 1
    assert "within 1 s" in silent.stderr.splitlines()[-1]

    closed = {
        "BACKTALK_AMQP_URL": "amqp://guest:secret@127.0.0.1:1/",
        "BACKTALK_MANAGEMENT_URL": "http://guest:secret@127.0.0.1:1",
    }
    alone = call(*sample, env=closed, patience=20)
    assert alone.returncode == 1
    assert re.search(r"BACKTALK_(AMQP|MANAGEMENT)_URL", alone.stderr.splitlines()[-1])
    assert "secret@127" not in alone.stdout + alone.stderr


@pytest.mark.timeout(2 * INSTALL_SECONDS)
def test_the_types_of_the_nodejs_sample_know_the_schemas(node) -> None:
    """What contradicts docs/schemas does not compile."""
    wrong = node / "src/wrong.ts"
    wrong.write_text(
        'import type { Feedback } from "./wire/feedback.v1.js";\n'
        'export const told: Feedback = { graph: {}, feedback: [{ variabel: "v", text: "t" }] };\n'
    )
    try:
        done = call(tool("npm"), "exec", "--", "tsc", "--noEmit", cwd=node)
    finally:
        wrong.unlink()
    assert done.returncode != 0
    assert "'variabel' does not exist" in done.stdout


def test_what_is_exported_is_enough_to_watch_both_workers(addresses) -> None:
    """`backtalk top` needs no options beside `backtalk local`."""
    done = call(
        Path(sys.executable).with_name("backtalk"), "top", "--json", "--interval", "0.1", env=addresses
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [(one["role"], one["problem"]) for one in told["workers"]] == [
        ("forward", None),
        ("backward", None),
    ]
    assert told["notes"] == []
