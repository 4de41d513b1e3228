"""Bytes to models and back: every kind of bad body has a code and a path, and no value is ever echoed."""

import gc
import gzip
import json

import pytest

from backtalk.wire import codec
from backtalk.wire.codec import MAX_BODY_BYTES, MAX_WIRE_BYTES, decode, encode, pack, parse, unpack
from backtalk.wire.errors import Code, Refused
from backtalk.wire.feedback import Feedback
from backtalk.wire.graph import Graph
from backtalk.wire.jobs import CompletionJob, CompletionResult

CANARY = "canary-9d17"
MESSAGES = [{"role": "user", "content": "Hello"}]
GRAPH = {"variables": [{"id": "a", "data": "x", "role": "r"}]}


def job(**fields):
    return json.dumps({"model": "m", "messages": MESSAGES, **fields}).encode()


def feedback(**fields):
    return json.dumps({"graph": GRAPH, "feedback": [{"variable": "a", "text": "t"}], **fields}).encode()


def shown(value):
    """Name a case after the end of its body, where the cases differ."""
    return repr(value[-60:]) if isinstance(value, bytes) else getattr(value, "__name__", str(value))


def refusal(body, model):
    with pytest.raises(Refused) as caught:
        decode(body, model)
    return caught.value.error


@pytest.mark.parametrize(
    ("body", "path", "told"),
    [
        (b"", "body", "not valid JSON"),
        (b"hello", "body", "not valid JSON"),
        (b"{", "body", "not valid JSON"),
        (b'{"model": "m"} trailing', "body", "not valid JSON"),
        (b'{"model": "\xff\xfe"}', "body", "UTF-8"),
        ('{"model": "m"}'.encode("utf-16"), "body", "UTF-8"),
        (b'{"model": "\\ud800"}', "body", "UTF-8"),
        (b"[]", "body", "array"),
        (b'"text"', "body", "string"),
        (b"5", "body", "number"),
        (b"5.5", "body", "number"),
        (b"true", "body", "boolean"),
        (b"null", "body", "null"),
        (b"[" * 10_000 + b"]" * 10_000, "body", "recursion"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "body", "recursion"),
        (job(temperature=float("nan")), "body", "not valid JSON"),
        (job(temperature=float("inf")), "body", "not valid JSON"),
        (job(temperature=float("-inf")), "body", "not valid JSON"),
        (job()[:-1] + b',"temperature":1e999}', "temperature", "too large"),
        (job()[:-1] + b',"deep":[{"x":[0,-1E+0999]}]}', "deep/0/x/1", "too large"),
        (job()[:-1] + b',"x":' + b"9" * 310 + b".5}", "x", "too large"),
        (job()[:-1] + b',"x":' + b"9" * 10_000 + b"}", "body", "out of range"),
    ],
    ids=shown,
)
def test_a_body_that_is_no_finite_json_object_is_refused(body, path, told):
    """One parse refuses what is not an object in UTF-8, and NaN and infinities wherever they stand."""
    error = refusal(body, CompletionJob)
    assert (error.code, error.details["path"]) == (Code.INVALID_MESSAGE, path)
    assert error.message.startswith(f"{path}: ")
    assert told in error.message
    assert not error.retryable


@pytest.mark.parametrize(
    "number",
    [b"1e308", b"-1.7e308", b"1e-999", b"0e999", b"123e45", b'"1e999"', b"1" * 300, b'"' + b"1" * 300 + b'"'],
    ids=shown,
)
def test_numbers_that_are_finite_pass_however_they_look(number):
    """Only what really is infinite is refused."""
    assert decode(job()[:-1] + b',"x":' + number + b"}", CompletionJob).arguments.keys() == {"x"}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"{}", "model"),
        (b'{"model": "m"}', "messages"),
        (job(model=5), "model"),
        (job(model=""), "model"),
        (job(messages=[]), "messages"),
        (job(messages={}), "messages"),
        (job(messages=["hi"]), "messages/0"),
        (job(messages=[*MESSAGES, {"role": "boss", "content": "x"}]), "messages/1/role"),
        (job(messages=[{"content": "x"}]), "messages/0/role"),
        (job(messages=[{"role": "user"}]), "messages/0/content"),
        (job(messages=[{"role": "user", "content": None}]), "messages/0/content"),
        (job(messages=[{"role": "user", "content": 5}]), "messages/0/content"),
        (job(messages=[{"role": "user", "content": []}]), "messages/0/content"),
        (job(messages=[{"role": "user", "content": ["x", 5]}]), "messages/0/content/1"),
        (job(messages=[{"role": "user", "content": [{"text": "x"}]}]), "messages/0/content/0"),
        (job(messages=[{"role": "user", "content": [{"data": {}}]}]), "messages/0/content/0/data"),
        (job(messages=[{"role": "user", "content": [{"data": "x", "odd": 1}]}]), "messages/0/content/0/odd"),
        (
            job(messages=[{"role": "user", "content": [{"data": "x", "producer": "p"}]}]),
            "messages/0/content/0/id",
        ),
        (job(inputs=[]), "inputs"),
        (job(inputs={"x": 5}), "inputs/x"),
        (job(inputs={"x": None}), "inputs/x"),
        (job(inputs={"x": []}), "inputs/x"),
        (job(inputs={"x": ["a", 5]}), "inputs/x/1"),
        (job(inputs={"x": ["a"] * 257}), "inputs/x"),
        (job(inputs={"text": 5}), "inputs/text"),
        (job(inputs={"a/b~c": 5}), "inputs/a~1b~0c"),
        (job(inputs={"list": ["a", 5]}), "inputs/list/1"),
        (job(inputs={"variable": {"data": None}}), "inputs/variable/data"),
        (job(tools={}), "tools"),
        (job(n=0), "n"),
        (job(n="2"), "n"),
        (job(n=129), "n"),
        (job(stream="yes"), "stream"),
        (job(tool_templates=[]), "tool_templates"),
        (job(tool_templates={"odd": {}}), "tool_templates/odd"),
        (job(tool_templates={"position": "left"}), "tool_templates/position"),
        (job(tool_templates={"function_list": "x"}), "tool_templates/function_list"),
        (job(tool_templates={"force_call": {"prefix": 5}}), "tool_templates/force_call/prefix"),
        (job(tool_templates={"force_call": {"suffix": {}}}), "tool_templates/force_call/suffix/data"),
        (job(tools=["f"]), "tools/0"),
        (job(tools=[{"type": "function"}]), "tools/0/function"),
        (job(tools=[{"function": {"name": ""}}]), "tools/0/function/name"),
        (job(tools=[{"function": {"name": "f", "parameters": []}}]), "tools/0/function/parameters"),
        (job(tool_choice="required"), "tool_choice"),
        (job(backtalk={"tool_mode": "both"}), "backtalk/tool_mode"),
        (job(backtalk={"tool_mode": "native"}, tool_templates={}), "tool_templates"),
        (job(backtalk={"tool_retries": 11}), "backtalk/tool_retries"),
        (job(backtalk={"tool_retries": True}), "backtalk/tool_retries"),
        (job(backtalk={"tool_retries": 1}, stream=True), "backtalk/tool_retries"),
        (job(backtalk=5), "backtalk"),
        (job(backtalk={"odd": 1}), "backtalk/odd"),
        (job(backtalk={"record": "sometimes"}), "backtalk/record"),
        (job(backtalk={"deadline": "tomorrow"}), "backtalk/deadline"),
        (job(backtalk={"deadline": 5}), "backtalk/deadline"),
        (job(backtalk={"deadline": "2026-01-31T12:00:00"}), "backtalk/deadline"),
        (job(backtalk={"metadata": []}), "backtalk/metadata"),
        (job(backtalk={"schema_version": "1"}), "backtalk/schema_version"),
    ],
    ids=shown,
)
def test_a_job_with_a_wrong_field_is_refused_with_its_path(body, path):
    """The message names the field, so that the sender need not search."""
    error = refusal(body, CompletionJob)
    assert (error.code, error.details["path"]) == (Code.INVALID_MESSAGE, path)
    assert error.message.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"{}", "graph"),
        (feedback(graph=5), "graph"),
        (feedback(graph={"odd": 1}), "graph/odd"),
        (feedback(graph={"variables": GRAPH["variables"] * 2}), "graph/variables/1/id"),
        (feedback(graph=[]), "graph"),
        (feedback(graph=[GRAPH, {"odd": 1}]), "graph/1/odd"),
        (feedback(graph=[{"variables": GRAPH["variables"] * 2}]), "graph/0/variables/1/id"),
        (feedback(graph=[{"variables": [{"id": "a", "data": {}, "role": "r"}]}]), "graph/0/variables/0/data"),
        (feedback(feedback=[]), "feedback"),
        (feedback(feedback=[{"variable": "a"}]), "feedback/0/text"),
        (feedback(feedback=[{"text": "x"}]), "feedback/0/variable"),
        (feedback(feedback=[{"variable": 5, "text": "x"}]), "feedback/0/variable"),
        (feedback(feedback=[{"variable": "a", "text": 5}]), "feedback/0/text"),
        (feedback(feedback=[{"variable": "a", "text": []}]), "feedback/0/text"),
        (feedback(feedback=[{"variable": "a", "text": ["x", None]}]), "feedback/0/text/1"),
        (feedback(feedback=[{"variable": "a", "text": "x", "odd": 1}]), "feedback/0/odd"),
        (feedback(feedback=[{"variable": "a", "text": "x", "score": "high"}]), "feedback/0/score"),
        (feedback(wrt="a"), "wrt"),
        (feedback(wrt=[5]), "wrt/0"),
        (feedback(model=""), "model"),
        (feedback(odd=1), "odd"),
        (feedback(arguments={"n": 2}), "arguments"),
        (feedback(backtalk={"record": "auto"}), "backtalk/record"),
    ],
    ids=shown,
)
def test_feedback_with_a_wrong_field_is_refused_with_its_path(body, path):
    """Feedback forbids unknown fields, and every problem has its path."""
    error = refusal(body, Feedback)
    assert (error.code, error.details["path"]) == (Code.INVALID_MESSAGE, path)
    assert error.message.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("body", "model", "path"),
    [
        (job(backtalk={"schema_version": 2}), CompletionJob, "backtalk/schema_version"),
        (job(backtalk={"schema_version": 0}), CompletionJob, "backtalk/schema_version"),
        (job(backtalk={"schema_version": 2, "new": 1}), CompletionJob, "backtalk/schema_version"),
        (
            job(backtalk={"schema_version": 2}, messages=[{"role": "new"}]),
            CompletionJob,
            "backtalk/schema_version",
        ),
        (feedback(backtalk={"schema_version": 3}), Feedback, "backtalk/schema_version"),
        (feedback(graph=[{"schema_version": 2}]), Feedback, "graph/0/schema_version"),
        (b'{"schema_version": 2, "edges": []}', Graph, "schema_version"),
    ],
    ids=shown,
)
def test_an_unknown_schema_version_is_told_as_such(body, model, path):
    """Whatever else a later version brings, the answer is that this worker does not read it."""
    error = refusal(body, model)
    assert (error.code, error.details["path"]) == (Code.UNSUPPORTED_SCHEMA_VERSION, path)
    assert "reads version 1" in error.message


def test_a_refusal_lists_several_problems_and_counts_the_rest():
    """A sender can mend all of a message at once, and a hopeless one gets no endless answer."""
    error = refusal(job(inputs={f"i{at}": at for at in range(9)}), CompletionJob)
    assert [problem["path"] for problem in error.details["problems"]] == [f"inputs/i{at}" for at in range(5)]
    assert "(and 8 more)" in error.message


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model": "' + CANARY.encode() + b"\xff" + b'"}', CompletionJob),
        (b'{"model": ' + CANARY.encode() + b"}", CompletionJob),
        (job(messages=[{"role": CANARY, "content": CANARY}]), CompletionJob),
        (job(messages=[{"role": "user", "content": [{"data": [CANARY, {}]}]}]), CompletionJob),
        (job(messages=[{"role": "user", "content": [{"data": CANARY, "odd": CANARY}]}]), CompletionJob),
        (job(inputs={"x": [CANARY, 5]}), CompletionJob),
        (job(n=CANARY), CompletionJob),
        (job(stream=CANARY), CompletionJob),
        (job(tools=[CANARY]), CompletionJob),
        (job(backtalk={"deadline": CANARY, "record": CANARY, "schema_version": CANARY}), CompletionJob),
        (job(backtalk=CANARY), CompletionJob),
        (feedback(feedback=[{"variable": "a", "text": [CANARY, 5]}]), Feedback),
        (feedback(feedback=[{"variable": [CANARY], "text": CANARY, "score": CANARY}]), Feedback),
        (feedback(graph=[{"operations": [{"op": CANARY, "model": CANARY}]}]), Feedback),
        (feedback(graph=[{"variables": [{"id": "a", "data": CANARY, "role": "r"}] * 2}]), Feedback),
        (feedback(arguments={"n": CANARY}), Feedback),
    ],
    ids=shown,
)
def test_no_value_of_a_message_appears_in_the_refusal(body, model):
    """The values may be secret, and the refusal goes to logs and to the dead queue."""
    assert CANARY not in refusal(body, model).model_dump_json()


def test_a_field_of_a_job_that_is_not_known_is_an_argument():
    """Any OpenAI body is a job: its top level goes to the endpoint untouched."""
    arguments = {
        "temperature": 0.5,
        "seed": 7,
        "response_format": {"type": "json_object"},
        "metadata": {"a": None},
    }
    assert decode(job(**arguments), CompletionJob).arguments == arguments


def test_an_answer_of_a_later_version_can_be_read():
    """Readers of answers ignore fields they do not know."""
    body = b'{"id": "1", "status": "completed", "schema_version": 1, "later": {"x": 1}}'
    assert decode(body, CompletionResult) == CompletionResult(id="1", status="completed")


def test_the_deepest_metadata_that_is_accepted_can_be_returned():
    """What one end of the worker lets in must not break the other end."""
    deep = json.loads("[" * 190 + "]" * 190)
    metadata = decode(job(backtalk={"metadata": {"deep": deep}}), CompletionJob).backtalk.metadata
    answer = CompletionResult(id="1", status="completed", metadata=metadata)
    assert decode(encode(answer), CompletionResult) == answer


def test_what_is_parsed_is_an_ordinary_dict():
    """Other readers of bodies share the one parse."""
    assert parse('{"ä": [1, 1.0, true, null, "é"]}'.encode()) == {"ä": [1, 1.0, True, None, "é"]}


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was_after_a_large_decode(enabled):
    """Decoding may pause the garbage collector but neither forgets it nor switches it on."""
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        decode(job(x="y" * 300_000), CompletionJob)
        refusal(job(x="y" * 300_000, n=0), CompletionJob)
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


# ---- packing


@pytest.mark.parametrize("encoding", [None, "", "identity", "utf-8"])
def test_a_plain_body_is_itself(encoding):
    """An encoding that says nothing changes nothing."""
    assert unpack(b"{}", encoding) == b"{}"


def test_a_gzipped_body_is_unpacked():
    """Senders may compress."""
    assert unpack(gzip.compress(b"{}"), "gzip") == b"{}"


@pytest.mark.parametrize(
    ("body", "encoding", "path"),
    [
        (b"{}", "br", "content_encoding"),
        (b"{}", "GZIP!", "content_encoding"),
        (b"{}", "gzip", "body"),
        (b"", "gzip", "body"),
        (gzip.compress(b"{}" * 1000)[:-9], "gzip", "body"),
        (gzip.compress(b"{}" * 1000)[:12], "gzip", "body"),
        (gzip.compress(b"{}") + b"garbage", "gzip", "body"),
        (gzip.compress(b"{}") + gzip.compress(b"{}"), "gzip", "body"),
        (gzip.compress(b"{}")[:-8] + b"\0" * 8, "gzip", "body"),
    ],
    ids=[
        "unknown encoding",
        "odd encoding",
        "not gzip",
        "nothing",
        "cut in the checksum",
        "cut in the data",
        "trailing garbage",
        "two streams",
        "wrong checksum",
    ],
)
def test_a_body_that_cannot_be_unpacked_is_refused(body, encoding, path):
    """Whatever is no single whole stream of a known encoding is the sender's to mend."""
    with pytest.raises(Refused) as caught:
        unpack(body, encoding)
    assert (caught.value.error.code, caught.value.error.details["path"]) == (Code.INVALID_MESSAGE, path)


def test_a_gzip_bomb_is_refused_before_it_is_unpacked_whole():
    """A small body that unpacks to more than the cap is too large."""
    bomb = gzip.compress(b"\0" * (MAX_BODY_BYTES + 1), compresslevel=1)
    assert len(bomb) < MAX_WIRE_BYTES
    with pytest.raises(Refused) as caught:
        unpack(bomb, "gzip")
    assert caught.value.error.code == Code.PAYLOAD_TOO_LARGE


def test_a_body_of_exactly_the_cap_unpacks():
    """The cap itself is allowed."""
    assert len(unpack(gzip.compress(b"\0" * MAX_BODY_BYTES, compresslevel=1), "gzip")) == MAX_BODY_BYTES


@pytest.mark.parametrize("encoding", [None, "gzip", "br"])
def test_a_body_larger_than_the_wire_allows_is_refused(encoding):
    """The size is known before anything is unpacked."""
    assert len(unpack(b" " * MAX_WIRE_BYTES, None)) == MAX_WIRE_BYTES
    with pytest.raises(Refused) as caught:
        unpack(b" " * (MAX_WIRE_BYTES + 1), encoding)
    assert caught.value.error.code == Code.PAYLOAD_TOO_LARGE


@pytest.mark.parametrize(
    ("size", "compress", "encoding"),
    [
        (codec.GZIP_ABOVE, True, None),
        (codec.GZIP_ABOVE + 1, True, "gzip"),
        (codec.GZIP_ABOVE + 1, False, None),
        (0, True, None),
    ],
)
def test_only_large_bodies_are_compressed_and_only_when_wanted(size, compress, encoding):
    """What is packed comes back, and small bodies are sent as they are."""
    body = b"x" * size
    packed, told = pack(body, compress=compress)
    assert told == encoding
    assert unpack(packed, told) == body


def test_packing_the_same_body_gives_the_same_bytes():
    """A repeat of an answer is byte for byte the same."""
    body = b"x" * 100_000
    assert pack(body, compress=True) == pack(body, compress=True)


@pytest.mark.parametrize(
    ("body", "compress"),
    [(b" " * (MAX_WIRE_BYTES + 1), False), (b" " * (MAX_BODY_BYTES + 1), True)],
    ids=["too large for the wire", "too large unpacked"],
)
def test_a_body_that_the_other_side_would_refuse_is_not_packed(body, compress):
    """Size is checked before anything is sent."""
    with pytest.raises(Refused) as caught:
        pack(body, compress=compress)
    assert caught.value.error.code == Code.PAYLOAD_TOO_LARGE
