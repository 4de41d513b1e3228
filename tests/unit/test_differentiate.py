"""One feedback message from start to finish, with a scripted model."""

from contextlib import suppress

import pytest

from backtalk.wire.codec import decode, encode
from backtalk.wire.errors import Code, Refused, Stopped, Unavailable
from backtalk.wire.feedback import Feedback, Gradients
from backtalk.wire.graph import Graph
from backtalk.wire.kinds import Request
from backward_worker.differentiate import differentiate

DOWN = Unavailable(Code.UPSTREAM_UNAVAILABLE, "down")
FIRST = "messages/0/content/0"
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
BATCH = ["0", "1", "2"]


def request(graph, *items, **fields):
    graphs = graph if isinstance(graph, list) else [graph]
    told = [
        item if isinstance(item, dict) else dict(zip(("variable", "text"), item, strict=True))
        for item in items
    ]
    body = {"graph": [one.model_dump(mode="json") for one in graphs], "feedback": told, **fields}
    return Request("feedback-1", "key-1", Feedback.model_validate(body))


def ask(critic, graph, *items, backward_model=None, **fields):
    body = request(graph, *items, **fields)
    return differentiate(body, model=critic, emit=pytest.fail, backward_model=backward_model)


async def refusal(critic, graph, *items, **fields):
    with pytest.raises(Refused) as caught:
        await ask(critic, graph, *items, **fields)
    assert critic.bodies == []
    return caught.value.error


@pytest.fixture
def simple(graph_of):
    """Return one call: a system prompt that wants a gradient, a question that does not, and the answer."""
    return graph_of(
        {
            "sys": {"data": "Be kind.", "role": "instruction", "requires_grad": True},
            "q": "Why?",
            "out": "Because.",
        },
        ("op", "sys q", "out"),
    )


@pytest.fixture
def batched(graph_of):
    """Return the same call for a batch of three questions."""
    return graph_of(
        {"sys": {"data": "Be kind.", "requires_grad": True}, "q": BATCH, "out": BATCH}, ("op", "sys q", "out")
    )


@pytest.fixture
def evaluated():
    """Return the function that makes a graph: a call of three samples, of which an evaluation found one wrong."""

    def build(op="evaluate", **more):
        told = {"role": "r", "producer": "chat"}
        variables = [
            {"id": "sys", "data": "Add.", "role": "instruction", "requires_grad": True},
            {"id": "q", "data": BATCH, "role": "question"},
            {"id": "out", "data": ["0", "1", "3"], **told},
            {"id": "reply", "data": "Fine.", "role": "reply", "requires_grad": True},
            {"id": "score", "data": 0.5, "role": "score", "producer": "eval"},
            {"id": "why", "data": "One of three is wrong.", "role": "explanation", "producer": "eval"},
        ]
        chat = {
            "id": "chat",
            "op": "chat_completion",
            "endpoint": "openai",
            "model": "m",
            "messages": [{"role": "user", "content": ["sys", "q"]}],
            "outputs": ["out"],
        }
        evaluation = {
            "id": "eval",
            "op": op,
            "inputs": ["out"] if op == "evaluate" else ["out", "reply"],
            "outputs": ["score", "why"],
            "purpose": "exact match",
            "scores": [1, 1, 0],
            "explanations": ["", "", "It should be 2."],
            "succeeded": [True, True, False],
            "reduction": "mean",
            **more,
        }
        return Graph.model_validate({"variables": variables, "operations": [chat, evaluation]})

    return build


# ---- the answer


async def test_feedback_on_an_answer_gives_the_gradient_of_its_prompt(scripted, simple):
    """One entry with all that the design lists, and what it cost."""
    answer = await ask(scripted("Ask for reasons."), simple, ("out", "Too short."))
    assert answer.model_dump(mode="json") == {
        "schema_version": 1,
        "id": "feedback-1",
        "status": "completed",
        "gradients": {
            "sys": [
                {
                    "text": "Ask for reasons.",
                    "role": "feedback to instruction",
                    "operation": "op",
                    "input": FIRST,
                    "sample": None,
                    "feedback": ["feedback/0"],
                    "how": "model",
                }
            ]
        },
        "failures": [],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "calls": 1},
        "calls": [{"purpose": "ask", "operation": "op", "inputs": [FIRST], "usage": USAGE}],
        "usage_by_operation": {"op": {**USAGE, "calls": 1}},
        "metadata": None,
        "error": None,
    }
    assert decode(encode(answer), Gradients) == answer


async def test_metadata_comes_back_unchanged(scripted, simple):
    """It is the sender's."""
    metadata = {"a": [1, 1.0, None]}
    answer = await ask(scripted("x"), simple, ("out", "y"), backtalk={"metadata": metadata})
    assert repr(answer.metadata) == repr(metadata)


async def test_without_wrt_every_leaf_that_requires_a_gradient_is_wanted(scripted, graph_of):
    """Each is a key, also the one that feedback does not reach."""
    graph = graph_of(
        {
            "a": {"data": "x", "requires_grad": True},
            "b": {"data": "x", "requires_grad": True},
            "far": {"data": "x", "requires_grad": True},
            "free": "x",
            "mid": {"data": "x", "requires_grad": True},
            "out": "x",
        },
        ("one", "a free", "mid"),
        ("two", "mid b", "out"),
    )
    answer = await ask(scripted("x"), graph, ("out", "y"))
    assert {id: len(entries) for id, entries in answer.gradients.items()} == {"a": 1, "b": 1, "far": 0}
    assert answer.status == "completed"


async def test_wrt_may_name_any_variable(scripted, simple):
    """Also one that requires no gradient, and the output itself; twice is once."""
    answer = await ask(scripted("x"), simple, ("out", "y"), wrt=["q", "out", "q"])
    assert list(answer.gradients) == ["q", "out"]
    (entry,) = answer.gradients["out"]
    assert (entry.text, entry.operation, entry.input, entry.how) == ("y", None, None, "copied")
    assert answer.usage["calls"] == 1


async def test_an_empty_wrt_wants_nothing_and_costs_nothing(scripted, simple):
    """Nothing was asked."""
    model = scripted("x")
    answer = await ask(model, simple, ("out", "y"), wrt=[])
    assert (answer.status, answer.gradients, answer.usage) == ("completed", {}, {"calls": 0})
    assert model.bodies == []


async def test_fragments_are_joined_by_the_worker(scripted, graph_of):
    """The caller hands over what it has, in any order."""
    first = graph_of({"a": {"data": "x", "requires_grad": True}, "b": "y"}, ("one", "a", "b"))
    second = graph_of({"b": {"data": "y", "producer": "one"}, "c": "z"}, ("two", "b", "c"))
    answer = await ask(scripted("x"), [second, first], ("c", "y"))
    assert [entry.operation for entry in answer.gradients["a"]] == ["one"]
    assert answer.usage["calls"] == 2


async def test_empty_feedback_is_the_empty_gradient_without_a_call(scripted, simple):
    """Nothing to say is an answer, and is said so."""
    model = scripted("x")
    answer = await ask(model, simple, ("out", ""))
    (entry,) = answer.gradients["sys"]
    assert (entry.text, entry.how, entry.feedback) == ("", "empty", ("feedback/0",))
    assert (answer.status, answer.usage["calls"], model.bodies) == ("completed", 0, [])


async def test_no_feedback_from_the_model_is_the_empty_gradient_and_ends_the_way(scripted, graph_of):
    """It was paid for, but nothing behind it is asked."""
    graph = graph_of(
        {"a": {"data": "x", "requires_grad": True}, "b": "y", "c": "z"}, ("one", "a", "b"), ("two", "b", "c")
    )
    answer = await ask(scripted("NO FEEDBACK"), graph, ("c", "y"))
    assert [(entry.text, entry.how) for entry in answer.gradients["a"]] == [("", "empty")]
    assert (answer.status, answer.usage["calls"]) == ("completed", 1)


async def test_feedback_items_are_named_by_their_id_or_their_place(scripted, simple):
    """An entry says which items are behind it, in their order."""
    items = [
        {"variable": "out", "text": text, **more}
        for text, more in (("a", {}), ("b", {"id": "mine"}), ("c", {}))
    ]
    answer = await ask(scripted("x"), simple, *items)
    assert answer.gradients["sys"][0].feedback == ("feedback/0", "mine", "feedback/2")


async def test_the_source_of_feedback_is_shown_to_the_critic(scripted, simple):
    """Who said it matters."""
    model = scripted("x")
    await ask(model, simple, {"variable": "out", "text": "y", "source": "the customer"})
    assert "the customer" in model.prompts[0]


# ---- feedback without words


@pytest.mark.parametrize("variable", ["score", "why"])
@pytest.mark.parametrize("op", ["evaluate", "judge"])
async def test_an_evaluation_explains_itself(scripted, evaluated, op, variable):
    """One of three samples failed: one question, whose criticism is the explanation of that sample."""
    model = scripted("Add with care.")
    answer = await ask(model, evaluated(op), (variable, None), wrt=["sys", "out"])
    assert [(entry.sample, entry.text, entry.how) for entry in answer.gradients["sys"]] == [
        (0, "", "empty"),
        (1, "", "empty"),
        (2, "Add with care.", "model"),
    ]
    assert answer.gradients["out"][2].text == "It should be 2."
    assert answer.gradients["out"][2].feedback == ("feedback/0",)
    assert (answer.status, answer.usage["calls"]) == ("completed", 1)
    assert ">\nIt should be 2.\n<" in model.prompts[0]


async def test_feedback_without_words_on_what_is_wanted_is_answered_by_the_explanation(scripted, evaluated):
    """The score's own entry tells what the evaluation says of itself, and an empty one says nothing."""
    answer = await ask(scripted("x"), evaluated(), ("score", None), ("why", None), wrt=["score", "why"])
    for id in ("score", "why"):
        (entry,) = answer.gradients[id]
        assert (entry.text, entry.how, entry.operation) == ("One of three is wrong.", "copied", None)
    graph = evaluated()
    silent = [one.model_copy(update={"data": ""}) if one.id == "why" else one for one in graph.variables]
    graph = Graph(variables=tuple(silent), operations=graph.operations)
    answer = await ask(scripted("x"), graph, ("score", None), wrt=["score"])
    assert [(entry.text, entry.how) for entry in answer.gradients["score"]] == [("", "empty")]


async def test_an_empty_text_is_not_a_text_left_out(scripted, evaluated):
    """It says that there is nothing to criticise, and so nothing is asked."""
    model = scripted("x")
    answer = await ask(model, evaluated(), ("score", ""))
    assert {entry.how for entry in answer.gradients["sys"]} == {"empty"}
    assert model.bodies == []


@pytest.mark.parametrize("id", ["out", "sys"])
async def test_what_no_evaluation_wrote_needs_words(scripted, evaluated, id):
    """Neither a call nor a leaf explains itself."""
    error = await refusal(scripted("x"), evaluated(), (id, None))
    assert (error.code, error.details["path"]) == (Code.INVALID_MESSAGE, "feedback/0/text")
    assert f"no evaluation of the graph wrote '{id}'" in error.message
    assert "say what should change" in error.message


async def test_an_evaluation_in_another_fragment_needs_that_fragment(scripted, evaluated):
    """Without it nobody knows the explanations; joined, they are there."""
    graph = evaluated()
    score = Graph(variables=tuple(one for one in graph.variables if one.id == "score"))
    error = await refusal(scripted("x"), score, ("score", None), wrt=["score"])
    assert "join the fragment that holds the evaluation" in error.message
    answer = await ask(scripted("x"), [score, graph], ("score", None))
    assert answer.usage["calls"] == 1


async def test_a_judge_that_is_trained_must_be_told_what_was_wrong(scripted, evaluated):
    """Its own explanation is what is in question."""
    graph = evaluated("judge", eval_mode=False)
    error = await refusal(scripted("x"), graph, ("score", None))
    assert error.details["path"] == "feedback/0/text"
    assert "judge that is being trained" in error.message
    assert "must be told what was wrong with its judgement" in error.message
    answer = await ask(scripted("x"), graph, ("why", "It was right."))
    assert {entry.text for entry in answer.gradients["reply"]} == {
        'Said of "explanation", which was read out of this text: It was right.'
    }


# ---- samples


async def test_one_text_for_each_item_goes_to_its_item(scripted, batched):
    """A list is index-aligned with the batch; empty texts cost nothing."""
    model = scripted("x")
    answer = await ask(model, batched, ("out", ["too long", "", "too short"]))
    told = [(entry.sample, entry.how) for entry in answer.gradients["sys"]]
    assert told == [(0, "model"), (1, "empty"), (2, "model")]
    assert answer.usage["calls"] == 2
    assert ["too long" in prompt for prompt in model.prompts] == [True, False]


async def test_a_single_text_applies_to_every_item(scripted, batched):
    """B entries, one call each."""
    answer = await ask(scripted("x"), batched, ("out", "too long"))
    assert [entry.sample for entry in answer.gradients["sys"]] == [0, 1, 2]


async def test_an_item_that_failed_has_no_entry(scripted, graph_of):
    """There is nothing to criticise, and it is no failure of this message."""
    graph = graph_of(
        {"sys": {"data": "s", "requires_grad": True}, "q": ["0", None], "out": ["a", None]},
        ("op", "sys q", "out"),
    )
    answer = await ask(scripted("x"), graph, ("out", ["y", "z"]))
    assert [entry.sample for entry in answer.gradients["sys"]] == [0]
    assert answer.status == "completed"


# ---- whom to ask


@pytest.mark.parametrize(
    ("fields", "setting", "model_name", "endpoint"),
    [
        ({}, None, "gpt-4o", "openai"),
        ({}, "from-settings", "from-settings", "openai"),
        ({"model": "from-feedback"}, None, "from-feedback", "openai"),
        ({"model": "from-feedback"}, "from-settings", "from-feedback", "openai"),
        ({"backtalk": {"endpoint": "local"}}, None, "gpt-4o", "local"),
        (
            {"model": "from-feedback", "backtalk": {"endpoint": "local"}},
            "from-settings",
            "from-feedback",
            "local",
        ),
    ],
)
async def test_the_feedback_names_the_model_else_the_settings_else_the_operation(
    scripted, simple, fields, setting, model_name, endpoint
):
    """The nearer to the caller, the stronger."""
    model = scripted("x")
    await ask(model, simple, ("out", "y"), backward_model=setting, **fields)
    assert ([body["model"] for body in model.bodies], model.asked) == ([model_name], [endpoint])


async def test_arguments_of_the_feedback_are_sent_with_every_call(scripted, batched):
    """And nothing else is."""
    model = scripted("x")
    await ask(model, batched, ("out", "y"), arguments={"temperature": 0, "max_tokens": 9})
    assert [
        {key: value for key, value in body.items() if key not in ("model", "messages")}
        for body in model.bodies
    ] == [{"temperature": 0, "max_tokens": 9}] * 3


# ---- what is refused, before anything is paid


@pytest.mark.parametrize(
    ("items", "fields", "path"),
    [
        ([("ghost", "y")], {}, "feedback/0/variable"),
        ([("out", "y"), ("ghost", "y")], {}, "feedback/1/variable"),
        ([("out", None)], {}, "feedback/0/text"),
        ([("out", ["a", "b"])], {}, "feedback/0/text"),
        ([("out", "y")], {"wrt": ["sys", "ghost"]}, "wrt/1"),
        ([("out", "y")], {"backtalk": {"endpoint": "nowhere"}}, "backtalk/endpoint"),
    ],
    ids=[
        "unknown variable",
        "second unknown",
        "null text",
        "a list for a scalar",
        "unknown wrt",
        "unknown endpoint",
    ],
)
async def test_feedback_that_contradicts_its_graph_is_refused(scripted, simple, items, fields, path):
    """By the path of the field."""
    error = await refusal(scripted("x"), simple, *items, **fields)
    assert error.code == Code.INVALID_MESSAGE
    assert error.message.startswith(f"{path}: ")


@pytest.mark.parametrize("texts", [["a"], ["a", "b"], ["a", "b", "c", "d"]], ids=len)
async def test_a_list_of_texts_has_the_length_of_the_batch(scripted, batched, texts):
    """Both lengths are told."""
    error = await refusal(scripted("x"), batched, ("out", texts))
    assert error.message.startswith("feedback/0/text: ")
    assert f"has {len(texts)} texts" in error.message
    assert "a batch of 3" in error.message


async def test_fragments_that_conflict_are_refused(scripted, graph_of):
    """With both values."""
    error = await refusal(scripted("x"), [graph_of({"a": "1"}), graph_of({"a": "2"})], ("a", "y"))
    assert error.code == Code.GRAPH_CONFLICT
    assert [value["data"] for value in error.details["values"]] == ["1", "2"]


@pytest.mark.parametrize("wrt", [None, ["sys"]])
async def test_a_missing_producer_on_the_way_is_refused(scripted, graph_of, wrt):
    """The operation to join is named."""
    graph = graph_of(
        {"e": {"data": "x", "producer": "gone", "requires_grad": True}, "sys": "s", "out": "y"},
        ("op", "sys e", "out"),
    )
    error = await refusal(scripted("x"), graph, ("out", "y"), wrt=wrt)
    assert (error.code, error.details["operation"]) == (Code.INCOMPLETE_GRAPH, "gone")


async def test_a_missing_producer_is_a_cut_when_wrt_names_what_it_wrote(scripted, graph_of):
    """The gradient of that variable can be carried on by whoever has the rest."""
    graph = graph_of(
        {"e": {"data": "x", "producer": "gone", "requires_grad": True}, "out": "y"}, ("op", "e", "out")
    )
    answer = await ask(scripted("x"), graph, ("out", "y"), wrt=["e"])
    assert [entry.text for entry in answer.gradients["e"]] == ["x"]


# ---- failures


async def test_nothing_done_is_failed_with_the_first_error(scripted, batched):
    """Each item is listed with its error."""
    answer = await ask(scripted(DOWN), batched, ("out", "y"))
    assert (answer.status, answer.error) == ("failed", DOWN.error)
    assert answer.gradients == {"sys": ()}
    assert [(f.variable, f.operation, f.sample) for f in answer.failures] == [
        ("sys", "op", at) for at in range(3)
    ]
    assert answer.usage == {"calls": 0}


@pytest.mark.parametrize("error", [DOWN, Stopped(Code.CANCELLED, "stopped")], ids=["down", "stopped"])
async def test_what_was_paid_is_answered_when_the_rest_fails(scripted, batched, error):
    """A worker that is stopped midway still answers with what it has."""
    answer = await ask(scripted("Shorten it.", error), batched, ("out", "y"))
    assert (answer.status, answer.error) == ("partial", None)
    assert [(entry.sample, entry.text) for entry in answer.gradients["sys"]] == [(0, "Shorten it.")]
    assert [(failure.sample, failure.error) for failure in answer.failures] == [
        (1, error.error),
        (2, error.error),
    ]
    assert answer.usage["calls"] == 1


async def test_a_failure_on_the_way_makes_entries_incomplete(scripted, graph_of):
    """The entry says so, and the answer is partial."""
    graph = graph_of(
        {"a": {"data": "x", "requires_grad": True}, "b": "y", "c": "z", "d": "w"},
        ("one", "a", "b"),
        ("two", "b", "c"),
        ("three", "b", "d"),
    )
    model = scripted(lambda body: DOWN if "of c" in body["messages"][-1]["content"] else "fine")
    answer = await ask(model, graph, ("c", "of c"), ("d", "of d"))
    assert answer.status == "partial"
    assert [entry.incomplete for entry in answer.gradients["a"]] == [True]
    assert '"incomplete":true' in encode(answer).decode()


async def test_every_paid_call_is_counted_also_those_of_no_use(scripted, simple):
    """An empty reply was paid for as well."""
    answer = await ask(scripted("", "Shorten it."), simple, ("out", "y"))
    assert (answer.usage["calls"], answer.usage["total_tokens"]) == (2, 30)


async def test_a_failure_is_never_text(scripted, simple):
    """No entry is made of an error."""
    answer = await ask(scripted("", ""), simple, ("out", "y"))
    assert (answer.status, answer.gradients) == ("failed", {"sys": ()})
    assert answer.error.code == Code.UPSTREAM_REJECTED


async def test_a_graph_that_says_an_answer_came_of_nothing_breaks_nothing(scripted, graph_of):
    """An item that read null cannot have an answer; it is refused or fails alone, and no paid work is lost."""
    graph = graph_of(
        {"sys": {"data": "s", "requires_grad": True}, "q": ["0", None], "out": ["a", "b"]},
        ("op", "sys q", "out"),
    )
    with suppress(Refused):
        answer = await ask(scripted("x"), graph, ("out", "y"))
        assert [entry.sample for entry in answer.gradients["sys"]] == [0]
        assert [failure.sample for failure in answer.failures] == [1]
