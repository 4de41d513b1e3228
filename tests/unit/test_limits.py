"""What one request may have: counted before it is validated, and told so that one can act on it."""

import gzip
import json

import pytest

from backtalk.runtime.intake import Intake
from backtalk.runtime.opened import identify
from backtalk.runtime.settings import Settings
from backtalk.transport.envelope import Delivery, Envelope
from backtalk.wire.codec import MAX_BODY_BYTES, MAX_WIRE_BYTES
from backtalk.wire.errors import Refused, TooLarge
from backtalk.wire.jobs import MAX_CHOICES
from backtalk.wire.kinds import BACKWARD, FORWARD
from backtalk.wire.limits import CONTRACT, Limits
from backtalk.wire.messages import MAX_BATCH

MIB = 2**20
HI = {"role": "user", "content": "Hi"}
STRICT = Limits(
    wire_bytes=2_000_000, body_bytes=3_000_000, variables=5, operations=3, batch=4, tools=2, choices=2
)


def job(**fields):
    return {"model": "m", "messages": [HI]} | fields


def said(*graphs, **fields):
    return {
        "graph": list(graphs) if len(graphs) > 1 else graphs[0],
        "feedback": [{"variable": "v0", "text": "x"}],
    } | fields


def graph(variables=1, operations=0):
    return {
        "variables": [{"id": f"v{at}", "data": "a", "role": "r"} for at in range(variables)],
        "operations": [
            {"id": f"o{at}", "op": "sum", "inputs": ["v0"], "outputs": [f"v{at + 1}"]}
            for at in range(operations)
        ],
    }


def read(body, *, limits=STRICT, room=1024 * MIB, **properties):
    """Take a body in as a worker does, and return the request and the room that it takes."""
    kind = BACKWARD if isinstance(body, dict) and "graph" in body else FORWARD
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    intake = Intake(kind, limits, room)
    opened = identify(
        Delivery(Envelope(content, message_id="1", **properties), "queue", redelivered=False, ack=None)
    )
    try:
        return intake.request(opened), intake.room
    except Refused:
        # what was refused holds no room, and the next may look
        assert intake.room.open
        assert intake.room._used == 0
        raise


@pytest.mark.parametrize(
    ("body", "path", "setting"),
    [
        (job(messages=[HI] * 6), "messages", "VARIABLES"),
        (job(messages=[{"role": "user", "content": ["a"] * 5}]), "messages", "VARIABLES"),
        (job(inputs={f"i{at}": "x" for at in range(5)}), "messages", "VARIABLES"),
        (job(inputs={"a/b": ["x"] * 5}), "inputs/a~1b", "BATCH"),
        (job(inputs={"a": {"data": ["x"] * 5}}), "inputs/a", "BATCH"),
        (job(messages=[{"role": "user", "content": [{"data": ["x"] * 5}]}]), "messages/0/content/0", "BATCH"),
        (job(tools=[{}] * 3), "tools", "TOOLS"),
        (job(n=3), "n", "CHOICES"),
        (said(graph(6)), "graph/variables", "VARIABLES"),
        (said(graph(3), graph(3)), "graph/variables", "VARIABLES"),
        (said(graph(5, 4)), "graph/operations", "OPERATIONS"),
        (said(*[graph(0)] * 4), "graph", "OPERATIONS"),
        (said(graph(), feedback=[{"variable": "v0", "text": "x"}] * 6), "feedback", "VARIABLES"),
        (said(graph(), wrt=["v0"] * 6), "wrt", "VARIABLES"),
    ],
    ids=[
        "messages",
        "texts of a message",
        "inputs",
        "a batch of texts",
        "a batch in an input",
        "a batch in a message",
        "tools",
        "choices",
        "variables",
        "variables of two graphs",
        "operations",
        "fragments",
        "criticisms",
        "wanted",
    ],
)
def test_more_than_the_limit_is_refused_and_names_field_and_setting(body, path, setting):
    """The sender learns what to send less of, and the operator what to raise."""
    with pytest.raises(Refused) as refused:
        read(body)
    error = refused.value.error
    assert (error.code, error.details["path"]) == ("invalid_message", path)
    assert f"BACKTALK_MAX_{setting}" in error.message
    assert error.details["found"] == error.details["limit"] + 1


@pytest.mark.parametrize(
    "body",
    [
        job(messages=[{"role": "user", "content": ["a", "b", {"data": ["x"] * 4}, "{i}"]}], n=2),
        job(tools=[{"type": "function", "function": {"name": f"f{at}"}} for at in range(2)]),
        said(graph(5)),
    ],
    ids=["texts, batch and choices", "tools", "variables"],
)
def test_as_much_as_the_limit_is_taken(body):
    """A limit is the most that is allowed, not the least that is refused."""
    request, room = read(body | ({"inputs": {}} if "model" in body else {}))
    assert request.id == "1"
    assert room._used > 0


@pytest.mark.parametrize(
    "body",
    [
        said(graph(), **{f"unknown{at}": 1 for at in range(300)}),
        said(graph() | {f"unknown{at}": 1 for at in range(300)}),
        said({"variables": [{f"unknown{at}": 1 for at in range(300)}]}),
        said({"operations": [{f"unknown{at}": 1 for at in range(300)}]}),
        said(graph(), policy={f"unknown{at}": 1 for at in range(300)}),
        job(backtalk={f"unknown{at}": 1 for at in range(300)}),
        job(messages=[{"role": "user", "content": [{"data": 1} | {f"unknown{at}": 1 for at in range(300)}]}]),
    ],
    ids=["feedback", "graph", "variable", "operation", "policy", "options", "Variable"],
)
def test_unknown_fields_are_not_told_one_by_one(body):
    """A finding costs a kilobyte, and a body has room for millions of them."""
    with pytest.raises(Refused, match=r"30[0-9] fields; leave out"):
        read(body)


@pytest.mark.parametrize(
    "body",
    [
        said({"operations": [{"id": "o", "op": "sum", "inputs": [7] * 90_000, "outputs": ["v"]}]}),
        said(graph(), feedback=[{"variable": "v0", "text": [7] * 90_000}]),
        said(graph(), feedback=[{"variable": "v0", "text": "x", "score": ["x"] * 90_000}]),
    ],
    ids=["inputs", "texts", "scores"],
)
def test_of_a_long_list_the_first_wrong_entry_is_told(body):
    """The others are not looked at."""
    with pytest.raises(Refused) as refused:
        read(body, limits=CONTRACT)
    assert len(refused.value.error.details["problems"]) <= 2


@pytest.mark.parametrize(
    "body", [job(messages=7, inputs=7, tools=7, n="7", backtalk=7), said(7, feedback=7, wrt=7)]
)
def test_what_has_a_wrong_type_is_left_to_the_validation(body):
    """Counting looks at anything."""
    with pytest.raises(Refused, match="expected"):
        read(body)


def test_bytes_are_limited_as_sent_and_unpacked():
    """A worker may take less than the contract allows; both are `payload_too_large`."""
    long = json.dumps(job(x="x" * 2_500_000)).encode()
    with pytest.raises(TooLarge, match="more than 2000000; send it gzipped"):
        read(long)
    packed = gzip.compress(long)
    assert read(packed, content_encoding="gzip")
    with pytest.raises(TooLarge, match="unpacks to more than 2400000"):
        read(packed, content_encoding="gzip", limits=Limits(body_bytes=2_400_000))


def test_a_bomb_is_refused_before_it_is_unpacked():
    """What it says of its own length is enough."""
    bomb = gzip.compress(bytes(40 * MIB), 1)
    with pytest.raises(TooLarge, match="BACKTALK_MAX_BYTES_AT_ONCE"):
        read(bomb, content_encoding="gzip", limits=CONTRACT, room=32 * MIB)


@pytest.mark.parametrize(
    "body",
    [
        job(x=[[[]] * 100] * 2_000),
        job(messages=[{"role": "user", "content": [""] * 10_000}]),
        job(messages=[{"role": "user", "content": "a" * 200_000 + "{i}"}], inputs={"i": ["x"] * 256}),
        job(messages=[{"role": "user", "content": "{i}" * 900}], inputs={"i": "x" * 30_000}),
        said(
            graph()
            | {
                "variables": [
                    {"id": "v0", "data": ["a"] * 400, "role": "r", "requires_grad": True},
                    {"id": "v1", "data": ["a"] * 400, "role": "r", "producer": "o"},
                ],
                "operations": [{"id": "o", "op": "sum", "inputs": ["v0"] * 100, "outputs": ["v1"]}],
            },
            feedback=[{"variable": "v1", "text": "x"}],
        ),
    ],
    ids=["values", "texts", "prompts of a batch", "filled prompts", "gradients"],
)
def test_what_takes_more_memory_than_there_is_in_all_is_refused(body):
    """However short it is, it is known before it is done; the remedy names the setting."""
    with pytest.raises(TooLarge, match=r"takes \d+ bytes of memory.*BACKTALK_MAX_BYTES_AT_ONCE"):
        read(body, limits=CONTRACT, room=16 * MIB)
    assert read(body, limits=CONTRACT)


def test_commas_within_texts_are_no_values():
    """Where it would be refused for its commas, they are counted exactly."""
    prose = "so, so, " * 40_000
    assert read(job(messages=[{"role": "user", "content": prose}]), limits=CONTRACT, room=16 * MIB)


@pytest.mark.parametrize(
    "body",
    [
        said(
            graph(1)
            | {
                "variables": [
                    {"id": "v0", "data": "a", "role": "r", "requires_grad": True},
                    *(
                        {"id": f"v{at + 1}", "data": "a", "role": "r", "producer": f"o{at}"}
                        for at in range(10_000)
                    ),
                ],
                "operations": [
                    {"id": f"o{at}", "op": "sum", "inputs": [f"v{at}"], "outputs": [f"v{at + 1}"]}
                    for at in range(10_000)
                ],
            },
            feedback=[{"variable": "v10000", "text": "Be brief. " * 20}],
        ),
        job(
            messages=[{"role": "user", "content": "a" * 5_000 + "{i}"}],
            inputs={"i": ["x" * 1_000] * 256},
            n=4,
        ),
        job(messages=[{"role": "user", "content": "a" * 6_000_000}]),
    ],
    ids=["a chain of 10,000 operations", "a full batch", "six megabytes"],
)
def test_the_defaults_refuse_nothing_that_people_send(body):
    """They are bounds for attacks."""
    assert read(body, limits=CONTRACT)


def test_the_contract_is_said_once():
    """Senders and workers mean the same maxima."""
    assert (CONTRACT.wire_bytes, CONTRACT.body_bytes) == (MAX_WIRE_BYTES, MAX_BODY_BYTES)
    assert (CONTRACT.batch, CONTRACT.choices) == (MAX_BATCH, MAX_CHOICES)


def test_the_settings_are_the_contract_unless_they_are_tightened(monkeypatch):
    """Each limit has a variable of its own."""
    assert Settings().limits() == CONTRACT
    names = ("WIRE_BYTES", "BODY_BYTES", "VARIABLES", "OPERATIONS", "BATCH", "TOOLS", "CHOICES")
    for at, name in enumerate(names, 1):
        monkeypatch.setenv(f"BACKTALK_MAX_{name}", str(at))
    assert Settings().limits() == Limits(1, 2, 3, 4, 5, 6, 7)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WIRE_BYTES", 8 * MIB + 1),
        ("BODY_BYTES", 64 * MIB + 1),
        ("BATCH", 257),
        ("CHOICES", 129),
        ("TOOLS", 0),
    ],
)
def test_a_limit_beyond_the_contract_is_a_bad_setting(monkeypatch, name, value):
    """Senders would be told otherwise by their own library."""
    monkeypatch.setenv(f"BACKTALK_MAX_{name}", str(value))
    with pytest.raises(ValueError, match=f"max_{name.lower()}"):
        Settings()


def test_the_bound_on_memory_follows_from_the_settings():
    """More messages, larger ones or more room make it larger."""
    usual = Settings()
    assert Settings(concurrency=65).memory_bound() - usual.memory_bound() == 2 * 16 * MIB
    assert Settings(max_bytes_at_once=2**31).memory_bound() - usual.memory_bound() == 2 * 2**30
    assert usual.memory_bound(MIB) < usual.memory_bound(16 * MIB)
