"""The AsyncAPI document in the hands of others: AsyncAPI's own parser, its renderer, and a browser."""

from __future__ import annotations

import html
import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from fixtures.tools import ROOT, npm_install, tool

# what is missing is installed first
pytestmark = pytest.mark.timeout(600)

TEXT = (ROOT / "docs" / "asyncapi.yaml").read_text("utf-8")
PARSER = "@asyncapi/parser@3.6.3"
# 0 is an error and 1 a warning; 2 tells that there is a newer version of AsyncAPI
WARNING = 1
PROGRAM = """
import { Parser } from '@asyncapi/parser';
import { readFileSync } from 'node:fs';
const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], 'utf8'));
const told = diagnostics.map(({ severity, code, path, message }) => ({ severity, code, path, message }));
const channels = document ? document.channels().all().map((channel) => channel.id()) : null;
const replies = document ? document.operations().all().filter((one) => one.reply()).map((one) => one.id()) : null;
console.log(JSON.stringify({ told, channels, replies }));
"""


@pytest.fixture(scope="module")
def parse(tmp_path_factory):
    """Return a function that has the parser read a document, and returns what it finds."""
    folder = tmp_path_factory.mktemp("parser")
    node = npm_install(folder, PARSER)
    program = folder / "parse.mjs"
    program.write_text(PROGRAM, "utf-8")

    def parse(text: str):
        file = folder / "asyncapi.yaml"
        file.write_text(text, "utf-8")
        done = subprocess.run([node, program, file], capture_output=True, text=True, check=True, timeout=60)
        found = json.loads(done.stdout)
        wrong = [one for one in found["told"] if one["severity"] <= WARNING]
        return wrong, found["channels"], found["replies"]

    return parse


def test_asyncapis_own_parser_finds_nothing_wrong(parse):
    """It does not look into examples of this version of AsyncAPI: tests/unit/test_asyncapi.py does."""
    wrong, channels, replies = parse(TEXT)
    assert wrong == []
    assert set(channels) == set(yaml.safe_load(TEXT)["channels"])
    assert set(replies) == {
        "completeJob",
        "completeJobByExchange",
        "giveGradients",
        "giveGradientsByExchange",
    }


def with_another_action(document):
    """An operation sends or receives."""
    document["operations"]["completeJob"]["action"] = "ask"


def without_replies(document):
    """Break a reference: answers go there."""
    del document["channels"]["replies"]


def with_address(document):
    """Contradict AMQP's binding: a queue has no exchange."""
    document["channels"]["forward"]["bindings"]["amqp"]["exchange"] = {"name": "x"}


@pytest.mark.parametrize("spoil", [with_another_action, without_replies, with_address])
def test_the_parser_finds_what_is_wrong(parse, spoil):
    """So that its silence above says something."""
    document = yaml.safe_load(TEXT)
    spoil(document)
    wrong, _, _ = parse(yaml.safe_dump(document, sort_keys=False))
    assert wrong


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> str:
    """Return what a browser without a network makes of the page."""
    folder = tmp_path_factory.mktemp("page")
    # the script asks for it as well, but does not install it
    tool("npm", package="npm")
    done = subprocess.run(
        [ROOT / "scripts" / "asyncapi-html", folder], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == folder / "asyncapi.html"
    browser = tool("chromium", "chromium-browser", "google-chrome", package="chromium")
    command = [
        browser,
        "--headless",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}",
        "--virtual-time-budget=20000",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        "--dump-dom",
        (folder / "asyncapi.html").as_uri(),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout
    # the page holds the document itself; only what was drawn counts
    return shown[shown.index('<div id="asyncapi">') : shown.index("<script>")]


def test_a_browser_shows_every_channel_that_has_an_operation(seen):
    """Callers find where to send, and where letters go."""
    document = yaml.safe_load(TEXT)
    used = {one["channel"]["$ref"].rpartition("/")[2] for one in document["operations"].values()}
    addresses = [document["channels"][name]["address"] for name in used]
    assert {"backtalk.forward", "backtalk.backward", "backtalk.control"} <= set(addresses)
    assert [address for address in addresses if f">{address}<" not in seen] == []


def test_a_browser_shows_an_example(seen):
    """Golden messages are what a caller copies."""
    assert "Translate 'Hello' to {language}." in html.unescape(seen)


def test_a_browser_finds_no_error(seen):
    """The renderer parses the document once more, and would show what it cannot draw."""
    assert "Error:" not in seen
    assert "There are errors" not in seen
