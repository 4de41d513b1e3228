"""The wheel installs and runs in clean environments: the client alone, and with the workers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLIENT = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)[0]
OF_WORKERS = ("aiohttp", "jinja2", "openai", "pydantic_settings", "redis", "structlog", "uvloop")

# new environments are made from what the index has
pytestmark = pytest.mark.timeout(600)


def run(*command, cwd, **options) -> str:
    """Run a command outside the checkout, so that nothing of it is imported by chance."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def install(wheel, tmp_path_factory):
    """Return a function that installs the wheel into a new environment and returns the folder of its commands."""

    def installed(extra: str) -> Path:
        venv = tmp_path_factory.mktemp("venv")
        run(sys.executable, "-m", "venv", venv, cwd=venv)
        pip = (venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*pip, "-c", ROOT / "constraints.txt", f"{wheel}{extra}", cwd=venv)
        return venv / "bin"

    return installed


@pytest.fixture(scope="module")
def client(install) -> Path:
    return install("")


@pytest.fixture(scope="module")
def workers(install) -> Path:
    return install("[workers]")


def test_the_client_alone_brings_nothing_of_the_workers(client, tmp_path) -> None:
    listed = run(client / "python", "-m", "pip", "list", "--format=freeze", cwd=tmp_path)
    names = {line.split("==")[0].lower().replace("-", "_") for line in listed.splitlines()}
    assert {"backtalk", "aio_pika", "pydantic"} <= names
    assert names.isdisjoint(OF_WORKERS)


def test_what_a_worker_needs_is_told_where_it_is_missing(client, tmp_path) -> None:
    done = subprocess.run(
        [client / "forward-worker"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "backtalk[workers]" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_client_of_one_environment_talks_to_the_workers_of_another(client, workers, tmp_path) -> None:
    """The README's program, run from the light wheel, is answered by a pair that runs from the full one."""
    local = subprocess.Popen(
        [workers / "backtalk", "local"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        url = _broker_of(local)
        said = run(
            client / "python",
            "-c",
            CLIENT,
            cwd=tmp_path,
            env={"BACKTALK_AMQP_URL": url, "PATH": "/usr/bin:/bin"},
        )
    finally:
        local.terminate()
        local.communicate(timeout=60)
    assert "Ciao" in said
    assert "capital letters" in said


def _broker_of(local: subprocess.Popen[str]) -> str:
    assert local.stdout is not None
    for line in local.stdout:
        if found := re.search(r"BACKTALK_AMQP_URL=(\S+)", line):
            return found[1]
    raise AssertionError("backtalk local ended before it was ready")
