"""Bad input through a real broker: a clear answer to its sender, a letter for people, and the worker goes on."""

from __future__ import annotations

import gzip
import json
import re
import struct
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 2**20
THEN = datetime(2026, 1, 1, tzinfo=UTC)
# the imperatives in which we write remedies, and the words in which pydantic says what it takes
REMEDY = r"\b(add|check|compress|give|join|leave|name|put|remove|say|send|split|use|write|need|read)s?\b|expected|should (be|have)"
HI = {"role": "user", "content": "Hi"}
GOOD = {"model": "m", "messages": [HI]}
OUTSIDE = {"id": "v", "data": "text", "role": "note", "requires_grad": True}


def job(**fields: Any) -> dict[str, Any]:
    return GOOD | fields


def says(*content: Any, role: str = "user", **fields: Any) -> dict[str, Any]:
    return job(messages=[{"role": role, "content": list(content)}], **fields)


def variable(id: str, data: Any = "text", **fields: Any) -> dict[str, Any]:
    return {"id": id, "data": data, "role": f"role of {id}", "requires_grad": True, **fields}


def operation(id: str, reads: list[str], writes: list[str], **fields: Any) -> dict[str, Any]:
    return {
        "id": id,
        "op": "chat_completion",
        "endpoint": "openai",
        "model": "m",
        "messages": [{"role": "user", "content": reads}],
        "outputs": writes,
        **fields,
    }


def written(id: str, by: str, data: Any = "text") -> dict[str, Any]:
    return variable(id, data, producer=by)


def graph(variables: list[Any], *operations: Any, **fields: Any) -> dict[str, Any]:
    return {"schema_version": 1, "variables": variables, "operations": list(operations), **fields}


SIMPLE = graph([variable("a"), written("b", "op")], operation("op", ["a"], ["b"]))
SAID = {"variable": "b", "text": "Use capital letters."}


def feedback(on: Any = SIMPLE, *items: Any, **fields: Any) -> dict[str, Any]:
    return {"graph": on, "feedback": list(items) or [SAID], **fields}


def with_graph(variables: list[Any], *operations: Any) -> dict[str, Any]:
    return feedback(graph(variables, *operations))


def deep(levels: int) -> bytes:
    return b'{"model": "m", "messages": ' + b"[" * levels + b"]" * levels + b"}"


def bomb() -> bytes:
    return gzip.compress(bytes(64 * MIB + 1), compresslevel=1)


@dataclass(frozen=True)
class Bad:
    """A request that is wrong, and what its sender is told: the code, the path, words of problem and remedy.

    `filed` tells that it could not be decoded, so that a copy goes to the dead queue.
    """

    name: str
    body: Any
    code: str
    path: str
    says: str
    role: str = "forward"
    filed: bool = True
    properties: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.role}-{self.name.replace(' ', '-')}"

    @property
    def content(self) -> bytes:
        body = self.body() if isinstance(self.body, Callable) else self.body
        return body if isinstance(body, bytes) else json.dumps(body).encode()


INVALID = "invalid_message"
UNSUPPORTED = "unsupported_schema_version"
TOO_LARGE = "payload_too_large"
CONFLICT = "graph_conflict"


def undecodable(role: str, good: dict[str, Any], type: str) -> list[Bad]:
    """What is wrong with a body before its fields are looked at: the same for both workers."""
    whole = json.dumps(good).encode()
    extra = whole[:-1]
    version, name = {"schema_version": 2}, type.rpartition(".")[0]
    gzipped = {"content_encoding": "gzip"}
    rows = [
        ("not JSON", b"{not json", INVALID, "body", "not valid JSON"),
        ("cut JSON", extra, INVALID, "body", "not valid JSON"),
        ("not UTF-8", extra + b', "x": "\xff"}', INVALID, "body", "UTF-8"),
        ("UTF-16", whole.decode().encode("utf-16"), INVALID, "body", "UTF-8"),
        ("0 bytes", b"", INVALID, "body", "not valid JSON"),
        ("a JSON array", b"[]", INVALID, "body", "array; send an object"),
        ("a JSON null", b"null", INVALID, "body", "null; send an object"),
        ("a JSON text", b'"text"', INVALID, "body", "string; send an object"),
        ("10,000 levels", deep(10_000), INVALID, "body", "recursion|deep"),
        ("NaN", extra + b', "x": NaN}', INVALID, "body", "NaN|not valid JSON"),
        ("minus infinity", extra + b', "x": -Infinity}', INVALID, "body", "not valid JSON"),
        (
            "unknown schema version",
            good | {"backtalk": version},
            UNSUPPORTED,
            "backtalk/schema_version",
            "version 1",
        ),
        (
            "schema version as text",
            good | {"backtalk": {"schema_version": "1"}},
            INVALID,
            "backtalk/schema_version",
            "integer",
        ),
        ("unknown option", good | {"backtalk": {"retries": 3}}, INVALID, "backtalk/retries", "leave it out"),
        ("options as a list", good | {"backtalk": []}, INVALID, "backtalk", "expected an object"),
        (
            "deadline in words",
            good | {"backtalk": {"deadline": "tomorrow"}},
            INVALID,
            "backtalk/deadline",
            "datetime|RFC 3339",
        ),
        (
            "deadline as a number",
            good | {"backtalk": {"deadline": 1_900_000_000}},
            INVALID,
            "backtalk/deadline",
            "RFC 3339",
        ),
        (
            "deadline without a zone",
            good | {"backtalk": {"deadline": "2026-01-31T12:00:00"}},
            INVALID,
            "backtalk/deadline",
            "timezone|zone",
        ),
        ("oversized", bytes(8 * MIB + 1), TOO_LARGE, "body", "gzipped, or split"),
    ]
    typed = [
        ("unknown type", {"type": "no.such.type"}, INVALID, "type", f"send '{type}', or leave it out"),
        ("type of an answer", {"type": "gradients.v1"}, INVALID, "type", type),
        ("type of a later version", {"type": f"{name}.v2"}, UNSUPPORTED, "type", f"reads v1 .{type}."),
        (
            "unknown encoding",
            {"content_encoding": "br"},
            INVALID,
            "content_encoding",
            "use gzip, or leave it out",
        ),
        ("gzip only by name", gzipped, INVALID, "body", "not gzip"),
    ]
    packed = [
        ("gzip bomb", bomb, TOO_LARGE, "body", "unpacks to more than .* split"),
        ("cut gzip", gzip.compress(whole)[:-9], INVALID, "body", "complete gzip stream"),
        ("gzip with a tail", gzip.compress(whole) + b"tail", INVALID, "body", "complete gzip stream"),
    ]
    return [
        *(Bad(*row, role=role) for row in rows),
        *(Bad(name, good, *told, role=role, properties=properties) for name, properties, *told in typed),
        *(Bad(*row, role=role, properties=gzipped) for row in packed),
    ]


FORWARD = [
    Bad(
        "1e999 in an extra field",
        b'{"seed": 1e999, ' + json.dumps(GOOD).encode()[1:],
        INVALID,
        "seed",
        "finite",
    ),
    Bad(
        "1e999 deep in an extra field",
        b'{"x": {"y": [1, -2e+400]}, ' + json.dumps(GOOD).encode()[1:],
        INVALID,
        "x/y/1",
        "finite",
    ),
    Bad("missing messages", {"model": "m"}, INVALID, "messages", "is missing; add it"),
    Bad("no messages", job(messages=[]), INVALID, "messages", "at least 1"),
    Bad("messages as text", job(messages="Hi"), INVALID, "messages", "expected a list"),
    Bad("missing model", {"messages": [HI]}, INVALID, "model", "is missing; add it"),
    Bad("model as a number", job(model=7), INVALID, "model", "string"),
    Bad("empty model", job(model=""), INVALID, "model", "at least 1"),
    Bad("unknown role", job(messages=[HI | {"role": "robot"}]), INVALID, "messages/0/role", "'user'"),
    Bad("missing role", job(messages=[HI, {"content": "Hi"}]), INVALID, "messages/1/role", "add it"),
    Bad("content as a number", job(messages=[HI | {"content": 7}]), INVALID, "messages/0/content", "list"),
    Bad("no content", job(messages=[HI | {"content": None}]), INVALID, "messages/0/content", "missing"),
    Bad("empty content", says(), INVALID, "messages/0/content", "at least 1"),
    Bad("content item as a number", says("Hi", 7), INVALID, "messages/0/content/1", "a string, a Variable"),
    Bad(
        "unknown field of a Variable",
        says({"data": "x", "dta": 1}),
        INVALID,
        "messages/0/content/0/dta",
        "leave",
    ),
    Bad(
        "wrong flag of a Variable",
        says({"data": "x", "requires_grad": "yes"}),
        INVALID,
        "messages/0/content/0/requires_grad",
        "boolean",
    ),
    Bad(
        "data of a wrong type",
        says({"data": {"a": 1}}),
        INVALID,
        "messages/0/content/0/data",
        "expected text",
    ),
    Bad("inputs as a list", job(inputs=["x"]), INVALID, "inputs", "expected an object"),
    Bad("input as a number", says("{tone}", inputs={"tone": 7}), INVALID, "inputs/tone", "expected a string"),
    Bad(
        "input called text as a number",
        says("{text}", inputs={"text": 7}),
        INVALID,
        "inputs/text",
        "expected a string",
    ),
    Bad("empty batch", says("{tone}", inputs={"tone": []}), INVALID, "inputs/tone", "at least 1"),
    Bad("batch of 257 items", says("{tone}", inputs={"tone": ["x"] * 257}), INVALID, "inputs/tone", "256"),
    Bad("no choices", job(n=0), INVALID, "n", "greater than or equal to 1"),
    Bad("choices as text", job(n="2"), INVALID, "n", "integer"),
    Bad("tools as an object", job(tools={}), INVALID, "tools", "expected a list"),
    Bad(
        "streamed and asked again",
        job(stream=True, backtalk={"tool_retries": 1}),
        INVALID,
        "backtalk/tool_retries",
        "leave it out",
    ),
    Bad("unknown record mode", job(backtalk={"record": "maybe"}), INVALID, "backtalk/record", "'always'"),
    # decoded, so no letter for people: what contradicts itself is answered only
    Bad(
        "an input no message uses",
        says("Hi", inputs={"tone": "x"}),
        INVALID,
        "inputs/tone",
        "leave the input out",
        filed=False,
    ),
    Bad(
        "unequal batch lengths",
        says("{a}{b}", inputs={"a": ["1", "2"], "b": ["1", "2", "3"]}),
        INVALID,
        "inputs/a",
        "same length",
        filed=False,
    ),
    Bad(
        "unequal batch lengths of a message and an input",
        says({"data": ["1", "2"]}, "{b}", inputs={"b": ["1"]}),
        INVALID,
        "messages/0/content/0",
        "same length",
        filed=False,
    ),
    Bad(
        "a batch inside a list",
        says("{a}", inputs={"a": [{"data": ["1"]}]}),
        INVALID,
        "inputs/a/0",
        "use one list",
        filed=False,
    ),
    Bad(
        "a Variable batch of 257 items",
        says({"data": ["x"] * 257}),
        INVALID,
        "messages/0/content/0",
        "256",
        filed=False,
    ),
    Bad(
        "an id with two values",
        says(OUTSIDE, OUTSIDE | {"data": "other"}),
        CONFLICT,
        "messages/0/content/1",
        "new id",
        filed=False,
    ),
    Bad(
        "unknown endpoint",
        job(backtalk={"endpoint": "nowhere"}),
        INVALID,
        "backtalk/endpoint",
        "BACKTALK_ENDPOINTS",
        filed=False,
    ),
]

A, B = variable("a"), written("b", "op")
OP = operation("op", ["a"], ["b"])
BATCH = graph([variable("a", ["1", "2"]), written("b", "op", ["x", "y"])], OP)
CIRCLE = [written("b", "one"), written("c", "two")]
FRAGMENT = graph([variable("b", producer="op"), written("c", "two")], operation("two", ["b"], ["c"]))

BACKWARD = [
    Bad("a cycle", with_graph(CIRCLE, operation("one", ["c"], ["b"]), operation("two", ["b"], ["c"])), INVALID, "graph/operations/0/messages/0/content/0", "cycle"),
    Bad("an operation that reads its own output", with_graph([written("b", "op")], operation("op", ["b"], ["b"])), INVALID, "graph/operations/0/messages/0/content/0", "cycle"),
    Bad("operations in the wrong order", with_graph([A, B, written("c", "two")], operation("two", ["b"], ["c"]), OP), INVALID, "graph/operations/0/messages/0/content/0", "order"),
    Bad("a dangling id", with_graph([A, B], operation("op", ["a", "ghost"], ["b"])), INVALID, "graph/operations/0/messages/0/content/1", "'ghost'"),
    Bad("a dangling input", with_graph([A, B], operation("op", ["a"], ["b"], inputs={"x/y": "ghost"})), INVALID, "graph/operations/0/inputs/x~1y", "'ghost'"),
    Bad("a dangling output", with_graph([A, B], operation("op", ["a"], ["b", "ghost"])), INVALID, "graph/operations/0/outputs", "'ghost'"),
    Bad("a duplicated variable", with_graph([A, B, A | {"data": "other"}], OP), INVALID, "graph/variables/2/id", "stands twice"),
    Bad("a duplicated operation", with_graph([A, B], OP, OP), INVALID, "graph/operations/1/id", "stands twice"),
    Bad("an output written twice", with_graph([A, B], OP, operation("two", ["a"], ["b"])), INVALID, "graph/operations/1/outputs", "already written"),
    Bad("an output of another producer", with_graph([A, written("b", "other")], OP), INVALID, "graph/operations/0/outputs", "'other'"),
    Bad("a producer that does not write", with_graph([A, B, written("c", "op")], OP), INVALID, "graph/variables/2/producer", "add it to the operation's outputs"),
    Bad("a part that is not there", with_graph([A, B], operation("op", ["a", {"part": "0" * 64}], ["b"])), INVALID, "graph/operations/0/messages", "add it"),
    Bad("unequal batch lengths", with_graph([variable("a", ["1", "2"]), variable("c", ["1"]), B], operation("op", ["a", "c"], ["b"])), INVALID, "graph/operations/0", "one length"),
    Bad("an unknown operation", with_graph([A, B], OP | {"op": "mystery"}), INVALID, "graph/operations/0/op", "chat_completion"),
    Bad("a graph of another version", feedback(SIMPLE | {"schema_version": 2}), UNSUPPORTED, "graph/schema_version", "version 1"),
    Bad("the second graph of another version", feedback([SIMPLE, SIMPLE | {"schema_version": 2}]), UNSUPPORTED, "graph/1/schema_version", "version 1"),
    Bad("an unknown field of a graph", feedback(SIMPLE | {"edges": []}), INVALID, "graph/edges", "leave it out"),
    Bad("no graph", {"feedback": [SAID]}, INVALID, "graph", "is missing; add it"),
    Bad("an empty list of graphs", feedback([]), INVALID, "graph", "at least 1"),
    Bad("no feedback", {"graph": SIMPLE}, INVALID, "feedback", "is missing; add it"),
    Bad("an empty list of feedback", {"graph": SIMPLE, "feedback": []}, INVALID, "feedback", "at least 1"),
    Bad("feedback without a text", feedback(SIMPLE, {"variable": "b"}), INVALID, "feedback/0/text", "is missing; add it"),
    Bad("feedback with a number", feedback(SIMPLE, SAID | {"text": 7}), INVALID, "feedback/0/text", "expected text"),
    Bad("an unknown field", feedback(wtr=["a"]), INVALID, "wtr", "leave it out"),
    Bad("an argument that is not free", feedback(arguments={"model": "x"}), INVALID, "arguments", "leave it out"),
    Bad("1e999 as a score", b'{"feedback": [{"variable": "b", "text": "x", "score": 1e999}], "graph": {}}', INVALID, "feedback/0/score", "finite"),
    # decoded, so no letter for people: what contradicts itself is answered only
    Bad("a missing producer on the way", feedback(FRAGMENT, {"variable": "c", "text": "x"}), "incomplete_graph", "graph", "join the fragment", filed=False),
    Bad("text null", feedback(SIMPLE, SAID | {"text": None}), INVALID, "feedback/0/text", "say what should change", filed=False),
    Bad("feedback on an unknown variable", feedback(SIMPLE, SAID, SAID | {"variable": "ghost"}), INVALID, "feedback/1/variable", "name one that is", filed=False),
    Bad("text lists of the wrong length", feedback(BATCH, SAID | {"text": ["x"]}), INVALID, "feedback/0/text", "one text for each item", filed=False),
    Bad("a text list for no batch", feedback(SIMPLE, SAID | {"text": ["x"]}), INVALID, "feedback/0/text", "single one", filed=False),
    Bad("an unknown wrt", feedback(wrt=["a", "ghost"]), INVALID, "wrt/1", "name one that is", filed=False),
    Bad("fragments in conflict", feedback([SIMPLE, graph([A | {"data": "other"}])]), CONFLICT, "graph", "new id", filed=False),
    Bad("fragments with two writers", feedback([SIMPLE, graph([A, written("b", "two")], operation("two", ["a"], ["b"]))]), CONFLICT, "graph", "'b'", filed=False),
    Bad("fragments that form a cycle", feedback([graph(CIRCLE, operation("one", ["c"], ["b"])), graph(CIRCLE, operation("two", ["b"], ["c"]))]), CONFLICT, "graph", "cycle", filed=False),
    Bad("unknown endpoint", feedback(backtalk={"endpoint": "nowhere"}), INVALID, "backtalk/endpoint", "BACKTALK_ENDPOINTS", filed=False),
]  # fmt: skip

TABLE = [
    *undecodable("forward", GOOD, "completion.job.v1"),
    *undecodable("backward", feedback(), "feedback.v1"),
    *FORWARD,
    *(Bad(**{**vars(bad), "role": "backward"}) for bad in BACKWARD),
]
GOODS = {"forward": GOOD, "backward": feedback()}
ANSWERS = {"forward": "completion.result.v1", "backward": "gradients.v1"}


@pytest.mark.parametrize("bad", TABLE, ids=str)
async def test_bad_input_is_answered_with_field_and_remedy_and_the_worker_goes_on(pair, bad):
    """The sender learns the code, the field and the remedy; people get the letter if it could not be decoded."""
    reply_to, content = await pair.mailbox(), bad.content
    asked = {
        "message_id": str(bad),
        "correlation_id": "of the sender",
        "reply_to": reply_to,
        **bad.properties,
    }
    calls = pair.model.total
    await pair.send(content, role=bad.role, **asked)
    answer = await pair.take(reply_to)
    assert answer.message.type == ANSWERS[bad.role]
    assert answer.message.correlation_id == "of the sender"
    assert (answer.json["id"], answer.json["status"]) == (str(bad), "failed")
    assert (answer.error["code"], answer.error["retryable"]) == (bad.code, False)
    assert answer.error["message"].startswith(f"{bad.path}: ")
    assert answer.error["details"].get("path", bad.path) == bad.path
    assert re.search(bad.says, answer.error["message"])
    assert re.search(REMEDY, answer.error["message"])
    good = await pair.ask(GOODS[bad.role], role=bad.role)
    assert good.json["status"] == "completed"
    assert pair.model.total == calls + 1
    dead = pair.names.dead(bad.role)
    if not bad.filed:
        assert await pair.depth(dead) == 0
        return
    letter = await pair.take(dead)
    assert letter.headers["x-backtalk-reason"] == bad.code
    assert letter.headers["x-backtalk-reason-text"] == answer.error["message"][:500]
    assert letter.message.body == content
    kept = {"message_id", "correlation_id", "reply_to", "type", "content_encoding"}
    assert {name: getattr(letter.message, name) for name in kept} == dict.fromkeys(kept) | asked


@pytest.mark.parametrize("role", ["forward", "backward"])
@pytest.mark.parametrize(
    "queue", ["forward", "backward.dead", "forward.retry.5s", "results.unrouted", "no-such"]
)
async def test_a_reply_address_among_our_own_queues_is_refused(pair, role, queue):
    """The refusal goes to where unclaimed answers are kept, with the address that was asked for."""
    reply_to = f"{pair.names.namespace}.{queue}"
    await pair.send(GOODS[role], role=role, message_id="mine", correlation_id="c", reply_to=reply_to)
    answer = await pair.take(pair.names.kept_results)
    assert answer.headers["x-reply-to"] == reply_to
    assert answer.message.routing_key == f"{role}.failed"
    assert (answer.json["id"], answer.message.correlation_id) == ("mine", "c")
    assert answer.error["code"] == "invalid_message"
    assert answer.error["message"].startswith("reply_to: ")
    assert pair.names.replies("<name>") in answer.error["message"]
    letter = await pair.take(pair.names.dead(role))
    assert (letter.id, letter.headers["x-backtalk-reason"]) == ("mine", "invalid_message")
    assert (await pair.ask(GOODS[role], role=role)).json["status"] == "completed"


async def test_a_reply_address_for_clients_is_taken(pair):
    """The reply queues of the namespace are the one part of it that answers may go to."""
    queue = await pair.mailbox(pair.names.replies("somebody"))
    await pair.send(GOOD, reply_to=queue)
    assert (await pair.take(queue)).json["status"] == "completed"


@pytest.mark.parametrize(
    "headers",
    [
        {"x-backtalk-attempt": "many"},
        {"x-backtalk-attempt": -1},
        {"x-backtalk-accept-encoding": 7},
        {"x-backtalk-reason": {"nested": [1, None]}},
        {"x-death": "nonsense", "x-delivery-count": 99},
        {"CC": ["elsewhere"], "BCC": []},
    ],
    ids=str,
)
async def test_odd_headers_do_no_harm(pair, headers):
    """A header of the sender's own invention is no reason to fail."""
    answer = await pair.ask(GOOD, headers=headers)
    assert answer.json["status"] == "completed"
    assert answer.headers["x-backtalk-attempt"] == 0


def nested(levels: int):
    """Return a header table so deep; AMQP allows it, and few libraries read it."""
    table: dict = {}
    for _ in range(levels):
        table = {"a": table}
    return table


async def test_headers_too_deep_to_read_do_not_stop_the_worker(stage):
    """They count as none, whatever the library that reads them makes of them."""
    await stage.worker()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        await stage.send(GOOD, message_id="deep", headers={"deep": nested(700)})
    finally:
        sys.setrecursionlimit(limit)
    assert (await stage.ask(GOOD, patience=10)).json["status"] == "completed"


@pytest.mark.parametrize(
    ("properties", "alter"),
    [
        ({"timestamp": THEN}, (struct.pack(">Q", int(THEN.timestamp())), struct.pack(">Q", time.time_ns()))),
        ({"type": "AAAA"}, (b"AAAA", b"\xff\xfe\xfd\xfc")),
        ({"headers": {"AAAA": 1}}, (b"AAAA", b"\xff\xfe\xfd\xfc")),
    ],
    ids=["a timestamp in nanoseconds", "a type that is no UTF-8", "a header name that is no UTF-8"],
)
async def test_properties_that_are_no_text_or_time_do_not_stop_the_worker(stage, properties, alter):
    """Whatever a sender's library puts into the properties, the messages after it are answered."""
    await stage.worker()
    await stage.send_bare(GOOD, alter=alter, **properties)
    assert (await stage.ask(GOOD, patience=4)).json["status"] == "completed"


@pytest.mark.parametrize(("role", "type"), ANSWERS.items())
async def test_a_message_that_breaks_the_worker_is_answered_and_filed(stage, role, type):
    """A fault of ours is said to be one; people get the letter, and the next message is done."""

    async def handle(request, *, model, emit):
        raise ZeroDivisionError(request.id)

    await stage.worker(role, handle=handle)
    for id in ("one", "two"):
        body = {**GOODS[role], "backtalk": {"metadata": {"a": 1}}}
        answer = await stage.ask(body, role=role, message_id=id, correlation_id="c")
        assert (answer.json["id"], answer.json["status"], answer.message.type) == (id, "failed", type)
        assert (answer.error["code"], answer.error["retryable"]) == ("internal", True)
        assert (answer.message.correlation_id, answer.json["metadata"]) == ("c", {"a": 1})
        assert "ZeroDivisionError" not in answer.content.decode()
        letter = await stage.take(stage.names.dead(role))
        assert (letter.id, letter.json, letter.headers["x-backtalk-reason"]) == (id, body, "internal")
