"""What a call says: checked before anything is sent, and taken apart into jobs that name every value once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtalk import Variable, connect
from backtalk import cognitive as cog
from backtalk.autodiff import close
from backtalk.autodiff.batches import Batch, Part, joined
from backtalk.autodiff.jobs import drafted
from backtalk.functional import achat_completion, chat_completion, lm_judge_evaluator
from backtalk.models.openai import OpenAI
from backtalk.optim import TGD
from backtalk.wire.codec import validate
from backtalk.wire.errors import Code, Error, Refused
from backtalk.wire.graph import Graph
from backtalk.wire.jobs import CompletionResult
from backtalk.wire.kinds import Request
from forward_worker.complete import complete

CLIENT = OpenAI(model="gpt-4o")
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.fixture(autouse=True)
def nowhere():
    """There is no broker here: whatever is sent fails, and nothing may be begun."""
    session = connect("amqp://guest:guest@127.0.0.1:9/", patience=0.1)
    yield
    begun = session._line is not None
    close()
    assert not begun, "something was to be sent"


def text(data="Hello", **more):
    return Variable(data, **{"role": "question", **more})


def user(*content):
    return {"role": "user", "content": list(content or (text(),))}


def draft(*messages, inputs=None, **arguments):
    return drafted(CLIENT, list(messages or (user(),)), inputs or {}, arguments)


def job(*messages, inputs=None, **arguments):
    """Return the one job of a call, as JSON."""
    made = draft(*messages, inputs=inputs, **arguments).job(Part())
    return made.model_dump(mode="json")


# ---- C2: messages (P27)


@pytest.mark.parametrize(
    ("messages", "error", "told"),
    [
        ([{"content": [text()]}], ValueError, r"messages\[0\] has no role; its keys are \['content'\]"),
        ([{"role": "user"}], ValueError, r"messages\[0\] has no content; its keys are \['role'\]"),
        ([{"text": "x"}], ValueError, r"has no role and no content; its keys are \['text'\]"),
        ([{"role": 1, "content": [text()]}], TypeError, r"messages\[0\]: role must be a str, not int"),
        ([{"role": None, "content": [text()]}], TypeError, "role must be a str, not NoneType"),
        ([{"role": "user", "content": "Hello"}], TypeError, "content must be a list of Variables, not str"),
        ([{"role": "user", "content": text()}], TypeError, "content must be a list .* not Variable"),
        ([{"role": "user", "content": None}], TypeError, "content must be a list .* not NoneType"),
        ([user("Hello")], TypeError, "content holds str; wrap texts in Variable"),
        ([user(text(), 1, "Hello", 2.5)], TypeError, "content holds float, int, str"),
        ([user({"text": "no type"})], TypeError, "content holds dict"),
        ([user([text()])], TypeError, "content holds list"),
        ([{"role": "user", "content": []}], ValueError, "content is empty"),
        ([user(), {"role": "user", "content": "Hi"}], TypeError, r"messages\[1\]: content must be a list"),
        (["Hello"], TypeError, r"messages\[0\] must be a dict with role and content, not str"),
        (user(), TypeError, "messages must be a list of dicts, not dict"),
        ("Hello", TypeError, "messages must be a list of dicts, not str"),
        (None, TypeError, "messages must be a list of dicts, not NoneType"),
        ([], ValueError, "messages is empty"),
    ],
)
@pytest.mark.parametrize("call", [chat_completion, cog.ChatCompletion()], ids=["function", "module"])
def test_c2_what_is_wrong_with_a_message_is_told_before_anything_is_sent(call, messages, error, told):
    """The error names the message, the keys it has or the types it found, and the remedy."""
    with pytest.raises(error, match=told):
        call(CLIENT, messages)


async def test_c2_awaited_calls_are_checked_as_well():
    """The same errors, and as early."""
    with pytest.raises(ValueError, match="has no role"):
        await achat_completion(CLIENT, [{"content": [text()]}])


def test_c2_a_role_that_openai_does_not_know_is_refused_here():
    """A job that no worker would take is not sent."""
    with pytest.raises(Refused, match="messages/0/role"):
        chat_completion(CLIENT, [{"role": "narrator", "content": [text()]}])


def test_c2_an_assistant_may_have_said_nothing():
    """Between calls of tools there may be no text."""
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    said = job(user(), {"role": "assistant", "content": None, "tool_calls": calls})["messages"][1]
    assert (said["content"], said["tool_calls"]) == (None, calls)


# ---- C3, C13: what goes into a job


def test_c3_a_message_holds_several_variables_in_order():
    """Each stands in the job with its id, role and wish for a gradient."""
    task, form = text("Task.", role="task", requires_grad=True), text(" As JSON.", role="format")
    content = job(user(task, form))["messages"][0]["content"]
    assert [(one["id"], one["data"], one["role"]) for one in content] == [
        (task.id, "Task.", "task"),
        (form.id, " As JSON.", "format"),
    ]
    assert [one["requires_grad"] for one in content] == [True, False]


def test_parts_that_are_no_text_stand_between_texts_as_openai_writes_them():
    """An image is sent as it was given."""
    content = job(user(text("Look: "), IMAGE, text(" What is it?")))["messages"][0]["content"]
    assert content[1] == IMAGE
    assert [one.get("data") for one in content] == ["Look: ", None, " What is it?"]


def test_c13_arguments_pass_through():
    """Whatever an endpoint takes; those of a call win over those of the client."""
    client = OpenAI(model="gpt-4o", temperature=0.7, seed=1)
    told = {"temperature": 0, "response_format": {"type": "json_object"}, "parallel_tool_calls": False}
    body = drafted(client, [user()], {}, told).job(Part()).model_dump(mode="json")
    assert {name: body[name] for name in ("temperature", "seed", *told)} == {"seed": 1, **told}
    assert (body["model"], body["backtalk"]["endpoint"]) == ("gpt-4o", "openai")


def test_a_call_names_its_model_or_its_client_does():
    """The call's wins; where neither does, that is told here."""
    assert job(model="gpt-5")["model"] == "gpt-5"
    with pytest.raises(ValueError, match="no model is named"):
        chat_completion(OpenAI(), [user()])


def test_descriptions_of_tools_may_be_variables():
    """In the function and in its parameters; they are read by the call like any other."""
    about, city = text("Tells the weather.", requires_grad=True), text("A city.", requires_grad=True)
    tool = {
        "type": "function",
        "function": {
            "name": "weather",
            "description": about,
            "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": city}}},
        },
    }
    made = draft(user(), tools=[tool])
    assert tuple(read.handle for read in made.begun.reads)[1:] == (about, city)
    function = made.job(Part()).model_dump(mode="json")["tools"][0]["function"]
    assert function["description"]["id"] == about.id
    assert function["parameters"]["properties"]["city"]["description"]["id"] == city.id
    assert tool["function"]["description"] is about


def test_words_around_tools_may_be_variables():
    """They learn as well."""
    prefix = text("You may call:", requires_grad=True)
    templates = {"function_list": {"prefix": prefix, "suffix": "."}}
    tool = {"type": "function", "function": {"name": "f"}}
    made = draft(user(), tools=[tool], tool_templates=templates)
    assert prefix in [read.handle for read in made.begun.reads]


# ---- C4, C5: inputs (P28)


@pytest.mark.parametrize(
    ("given", "length"),
    [
        ("Rome", None),
        (3, None),
        (text("Rome"), None),
        (["Rome", "Bonn"], 2),
        (("Rome", "Bonn"), 2),
        (text(["Rome", "Bonn"]), 2),
        ([text("Rome"), text("Bonn")], 2),
        ([text("Rome"), "Bonn", 3], 3),
        (["Rome"], 1),
    ],
)
def test_c4_an_input_is_a_text_a_variable_or_a_list_of_these(given, length):
    """Any list makes a batch, also one of one item; a number is a text."""
    assert draft(user(text("Where is {city}?")), inputs={"city": given}).length == length


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        (None, TypeError, r"inputs\['city'\] must be a text, a Variable, or a list of these, not NoneType"),
        ({"a": 1}, TypeError, "not dict"),
        (["Rome", None], TypeError, "not NoneType"),
        ([["Rome"]], TypeError, "not list"),
        ([], ValueError, r"inputs\['city'\] is an empty list"),
        ([text(["a", "b"])], ValueError, "give one list Variable instead"),
    ],
)
def test_c4_other_inputs_are_refused_by_name(given, error, told):
    """Before anything is sent."""
    with pytest.raises(error, match=told):
        chat_completion(CLIENT, [user(text("Where is {city}?"))], {"city": given})


def test_c5_lists_of_a_batch_have_one_length():
    """The error names each with its length, wherever it stands."""
    with pytest.raises(ValueError, match=r"inputs\['city'\] has 2, 'question' has 3"):
        chat_completion(CLIENT, [user(text(["{city}"] * 3))], {"city": ["Rome", "Bonn"]})
    with pytest.raises(ValueError, match=r"inputs\['a'\] has 2, inputs\['b'\] has 1"):
        chat_completion(CLIENT, [user(text("{a}{b}"))], {"a": ["1", "2"], "b": ["3"]})


def test_c5_a_list_in_a_message_makes_a_batch():
    """Scalars beside it serve every item."""
    made = draft(user(text("Be brief."), text(["a", "b"])), inputs={})
    assert (made.length, [one.data for one in made.lists]) == (2, [("a", "b")])


def test_a_variable_that_stands_twice_is_read_once():
    """It is one value."""
    twice = text()
    made = draft(user(twice, text("and"), twice), inputs={})
    assert [one.data for one in (read.handle for read in made.begun.reads)] == ["Hello", "and"]


# ---- C12, M4: arguments (P29)


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"n": 2}, ValueError, "n > 1"),
        ({"n": "2"}, ValueError, "n > 1"),
        ({"n": 0}, ValueError, "n > 1"),
        ({"stream": True}, ValueError, "stream"),
        ({"metadata": {"a": object()}}, TypeError, "completion_args.metadata.a: object"),
        ({"logit_bias": {1: 2}}, TypeError, "completion_args.logit_bias: key 1 is int"),
        ({"items_per_job": 0}, ValueError, "items_per_job is 0; it must be a number from 1 to 256"),
        ({"items_per_job": 257}, ValueError, "items_per_job is 257; it must be a number from 1 to 256"),
        ({"items_per_job": 2.5}, ValueError, "items_per_job is 2.5; it must be a number from 1 to 256"),
        ({"items_per_job": None}, ValueError, "items_per_job is None; it must be a number from 1 to 256"),
        ({"backtalk": {"endpoint": "x"}}, ValueError, "endpoint cannot be set .* the model client names"),
        ({"backtalk": {"record": "never"}}, ValueError, r"record cannot be set .* no_grad\(\) decides"),
        ({"backtalk": {"record": "always", "priority": 1}}, ValueError, "backtalk: record cannot be set"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, Refused, "tools/0"),
    ],
)
@pytest.mark.parametrize("call", [chat_completion, cog.ChatCompletion()], ids=["function", "module"])
def test_c12_arguments_that_no_answer_could_have_are_refused_here(call, arguments, error, told):
    """Several choices, streams, what JSON cannot hold, and no items at all."""
    with pytest.raises(error, match=told):
        call(CLIENT, [user()], **arguments)


@pytest.mark.parametrize("options", ["x", ["record"], 5], ids=["text", "list", "number"])
def test_options_of_backtalk_are_a_dict(options):
    """What is none is told by its name."""
    with pytest.raises((TypeError, ValueError), match="backtalk"):
        chat_completion(CLIENT, [user()], backtalk=options)


def test_items_per_job_that_is_a_whole_float_is_told_as_well():
    """As a module is configured from JSON: it is refused by name, before anything is sent."""
    with pytest.raises((TypeError, ValueError), match="items_per_job"):
        chat_completion(CLIENT, [user(text(["a", "b", "c"]))], items_per_job=2.0)


def test_other_options_of_backtalk_pass_through():
    """Beside those that a call decides itself."""
    told = job(backtalk={"tool_mode": "native"})["backtalk"]
    assert (told["endpoint"], told["record"], told["tool_mode"]) == ("openai", "always", "native")


@pytest.mark.parametrize("arguments", [{"n": 1}, {"n": None}, {"stream": False}, {"stream": None}])
def test_c12_saying_what_is_so_anyway_is_allowed(arguments):
    """One choice, and no stream."""
    assert draft(user(), **arguments).length is None


@pytest.mark.parametrize("secret", ["api_key", "base_url"])
@pytest.mark.parametrize(
    "say",
    [
        lambda told: chat_completion(CLIENT, [user()], **told),
        lambda told: cog.ChatCompletion(**told)(CLIENT, [user()]),
        lambda told: lm_judge_evaluator(CLIENT, [user(text("{prediction}"))], text("x"), **told),
        lambda told: TGD([text("x", requires_grad=True)], CLIENT, **told),
    ],
    ids=["function", "module", "judge", "optimizer"],
)
def test_m3_no_key_gets_into_a_call(say, secret):
    """A key or an address among the arguments is refused as it is by a client, before it is sent or saved."""
    with pytest.raises(TypeError, match=f"{secret}.*OPENAI_API_KEY"):
        say({secret: "sk-secret"})


@pytest.mark.parametrize(
    "refused",
    [
        {"api_key": "sk-secret"},
        {"base_url": "http://x"},
        {"metadata": {"a": object()}},
        {"n": 2},
        {"stream": True},
    ],
    ids=lambda told: next(iter(told)),
)
@pytest.mark.parametrize("kind", [cog.ChatCompletion, cog.LMJudgeEvaluator])
def test_what_was_refused_is_not_remembered(kind, refused):
    """A checkpoint can still be saved, and whoever loads it can still call."""
    module = kind(seed=1)
    more = [text("x")] if kind is cog.LMJudgeEvaluator else []
    with pytest.raises((TypeError, ValueError)):
        module(CLIENT, [user()], *more, temperature=0.5, **refused)
    assert not refused.keys() & module.state_dict()["modules"][""]["completion_args"].keys()


# ---- a batch, taken apart


def question(count, **more):
    return Variable([f"item {at}" for at in range(count)], role="item", **more)


def batch_of(count, items_per_job):
    """Return a draft of a batch of several kinds of list, and its parts."""
    system = text("Be brief.", role="system prompt", requires_grad=True)
    made = draft(
        {"role": "system", "content": [system]},
        user(question(count), text(" {plain} {each} {listed} {one}")),
        inputs={
            "plain": [f"plain {at}" for at in range(count)],
            "each": [text(f"each {at}") for at in range(count)],
            "listed": question(count, requires_grad=True),
            "one": "for all",
        },
    )
    return made, Batch.of(made, items_per_job)


def test_a_batch_that_fits_into_one_job_stays_whole():
    """Nothing is taken apart, and nothing of that recorded."""
    _, batch = batch_of(4, 4)
    assert [(part.start, part.length) for part in batch.parts] == [(0, 4)]
    assert batch.graph == Graph()


def test_a_scalar_call_is_one_job():
    """However small the jobs are to be."""
    assert Batch.of(draft(), 1).parts == (Part(),)


@given(st.integers(1, 40), st.integers(1, 12))
def test_every_item_is_in_one_job(count, items_per_job):
    """In order, no job larger than it may be, and all but the last one full."""
    _, batch = batch_of(count, items_per_job)
    items = [at for part in batch.parts for at in range(part.start, part.start + part.length)]
    assert items == list(range(count))
    assert all(part.length == items_per_job for part in batch.parts[:-1])
    assert 1 <= batch.parts[-1].length <= items_per_job


@given(st.integers(1, 20), st.integers(1, 7))
def test_every_id_names_one_value(count, items_per_job):
    """In all jobs and in the graph that says how lists were taken apart: no id has two values, nor two roles."""
    made, batch = batch_of(count, items_per_job)
    named = {value.id: (value.data, value.role) for value in batch.graph.variables}
    assert len(named) == len(batch.graph.variables)
    for part in batch.parts:
        for value in variables_in(made.job(part).model_dump(mode="json")):
            data = tuple(value["data"]) if isinstance(value["data"], list) else value["data"]
            assert named.setdefault(value["id"], (data, value["role"])) == (data, value["role"])


def variables_in(found):
    if isinstance(found, dict) and "data" in found:
        yield found
    elif isinstance(found, dict | list):
        for one in found.values() if isinstance(found, dict) else found:
            yield from variables_in(one)


def test_each_job_has_its_items_of_every_list():
    """Of texts, of Variables and of list Variables, wherever they stand; scalars are in all of them."""
    made, batch = batch_of(5, 2)
    second = made.job(batch.parts[1]).model_dump(mode="json")
    assert second["messages"][1]["content"][0]["data"] == ["item 2", "item 3"]
    assert second["inputs"]["plain"] == ["plain 2", "plain 3"]
    assert [one["data"] for one in second["inputs"]["each"]] == ["each 2", "each 3"]
    assert second["inputs"]["listed"]["data"] == ["item 2", "item 3"]
    assert second["inputs"]["listed"]["requires_grad"] is True
    assert second["inputs"]["one"] == "for all"
    assert second["messages"][0]["content"][0]["id"] == made.begun.reads[0].value.id


def test_slices_are_recorded():
    """Each says which items it has of which list, and its value names it as its producer."""
    made, batch = batch_of(5, 2)
    listed = {handle.id for handle in made.lists}
    slices = batch.graph.operations
    assert [(one.op, one.start, one.stop) for one in slices] == [
        ("slice", 0, 2),
        ("slice", 2, 4),
        ("slice", 4, 5),
    ] * 2
    assert {one.inputs[0] for one in slices} == listed
    assert batch.graph.index.writers.keys() == {one.outputs[0] for one in slices}


# ---- put together again


async def answered(made, batch, model, toolbox):
    """Return what a forward worker would answer to each part."""
    return [
        await complete(
            Request(f"job-{at}", f"key-{at}", made.job(part)), model=model, emit=pytest.fail, toolbox=toolbox
        )
        for at, part in enumerate(batch.parts)
    ]


async def test_the_answers_of_all_jobs_are_one_batch(scripted, toolbox):
    """In order, by a concat that is recorded, on a graph that holds together."""
    made, batch = batch_of(5, 2)
    results = await answered(made, batch, scripted(lambda body: body["messages"][1]["content"]), toolbox)
    graph, output = joined(batch, results)
    value = graph.index.variables[output]
    assert list(value.data) == [f"item {at} plain {at} each {at} item {at} for all" for at in range(5)]
    assert (value.role, value.requires_grad) == ("response to item", True)
    concat = graph.operations[-1]
    assert (concat.op, concat.lengths, len(concat.inputs)) == ("concat", (2, 2, 1), 3)
    assert sum(operation.op == "chat_completion" for operation in graph.operations) == 3
    assert Graph.model_validate(graph.model_dump(mode="json")) == graph


async def test_a_single_answer_is_taken_as_it_is(scripted, toolbox):
    """No concat where nothing was taken apart."""
    made, batch = batch_of(3, 4)
    (result,) = await answered(made, batch, scripted("fine"), toolbox)
    assert joined(batch, [result]) == (result.graph, result.output)


async def test_a_job_that_failed_leaves_items_that_failed(scripted, toolbox):
    """Its place is kept: the items behind it stay aligned."""
    made, batch = batch_of(5, 2)
    results = await answered(made, batch, scripted("fine"), toolbox)
    error = Error(code=Code.UPSTREAM_REJECTED, message="no", retryable=False)
    results[1] = CompletionResult.failed("job-1", error)
    graph, output = joined(batch, results)
    assert list(graph.index.variables[output].data) == ["fine", "fine", None, None, "fine"]
    assert validate(graph.model_dump(mode="json"), Graph) == graph
