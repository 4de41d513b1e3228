"""Earlier calls and their answers in words, for models that know neither."""

import time

import pytest

from backtalk.wire.errors import Code, Refused
from backtalk.wire.kinds import Request
from forward_worker.complete import complete
from forward_worker.tools.inject import Toolbox
from forward_worker.tools.words import Words

IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}
TOKEN = "!function_call:"
LOOK = {"type": "function", "function": {"name": "look"}}


def call(id, name="look", arguments='{"at": 1}'):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def says(content, *calls, **fields):
    return {
        "role": "assistant",
        "content": content,
        **({"tool_calls": list(calls)} if calls else {}),
        **fields,
    }


def answers(id, content="21", **fields):
    return {"role": "tool", "content": content, "tool_call_id": id, **fields}


def notice(id, name="look", arguments='{"at": 1}'):
    return f'{TOKEN}{{"name": "{name}", "arguments": {arguments}, "id": "{id}"}}'


@pytest.fixture
def sent(plan_of):
    """Return what renders the messages of a job."""

    def render(*messages, sample=None, **fields):
        return plan_of(*messages, **fields).body(sample)["messages"]

    return render


def test_calls_and_answers_become_text_also_without_tools(sent):
    """Order and ids are kept; no field is left that only endpoints with tools know."""
    history = [
        "Weather?",
        says(None, call("c1"), call("c2", "wind", "{}")),
        answers("c1", "21 °C"),
        answers("c2", "calm"),
    ]
    assert sent(*history) == [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": f"{notice('c1')}\n{notice('c2', 'wind', '{}')}"},
        {
            "role": "user",
            "content": 'Result of "look", call c1:\n21 °C\n\nResult of "wind", call c2:\ncalm',
        },
    ]


@pytest.mark.parametrize("tools", [{}, {"tools": []}, {"tools": [LOOK], "tool_choice": "none"}], ids=str)
def test_the_history_is_converted_whatever_may_be_called_now(sent, tools):
    """It does not become native again."""
    assert sent(says(None, call("c")), answers("c"), **tools) == [
        {"role": "assistant", "content": notice("c")},
        {"role": "user", "content": 'Result of "look", call c:\n21'},
    ]


def test_a_history_without_calls_stays_as_it_is(plan_of):
    """Also one that speaks of tokens."""
    messages = [{"role": "user", "content": f"{TOKEN}{{}}", "name": "ada"}, says(f'{TOKEN}{{"name": "x"}}')]
    plan = plan_of(*messages)
    assert plan.body(None)["messages"] == messages
    assert plan.tooling.injected is None


def test_only_consecutive_answers_share_a_message(sent):
    """What was said between them stays between them."""
    rendered = sent(
        says(None, call("a")),
        answers("a"),
        "And?",
        says("Hm."),
        answers("b"),
        answers("a", "22"),
        answers("c", "23"),
    )
    assert [message["role"] for message in rendered] == ["assistant", "user", "user", "assistant", "user"]
    assert rendered[-1]["content"] == (
        'Result of the function, call b:\n21\n\nResult of "look", call a:\n22\n\nResult of the function, call c:\n23'
    )


def test_an_answer_may_open_the_conversation(sent):
    """Whatever came before it was cut off."""
    (message,) = sent(
        answers("x"),
        answers("y"),
        tools=[LOOK],
        tool_templates={"function_list": {"prefix": "P", "suffix": ""}},
    )
    assert message == {
        "role": "user",
        "content": 'P\n[\n{"name":"look","description":null,"parameters":null}\n]\n\n'
        "Result of the function, call x:\n21\n\nResult of the function, call y:\n21",
    }


def test_a_first_message_that_only_called_gets_the_block_before_its_calls(sent):
    """The history is in words before the tools are."""
    words = {"function_list": {"prefix": "P", "suffix": ""}}
    first, _ = sent(says(None, call("c")), answers("c"), tools=[LOOK], tool_templates=words)
    assert first["content"] == (
        f'P\n[\n{{"name":"look","description":null,"parameters":null}}\n]\n\n{notice("c")}'
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, notice("c")),
        ("", notice("c")),
        ("Let me see.", f"Let me see.\n{notice('c')}"),
        ([{"data": "Let me "}, "see."], f"Let me see.\n{notice('c')}"),
        ([IMAGE], [IMAGE, {"type": "text", "text": f"\n{notice('c')}"}]),
        (
            ["a", IMAGE, "b"],
            [{"type": "text", "text": "a"}, IMAGE, {"type": "text", "text": f"b\n{notice('c')}"}],
        ),
    ],
    ids=str,
)
def test_calls_follow_what_was_said_beside_them(sent, content, expected):
    """In a line of their own; parts keep their place."""
    assert sent(says(content, call("c"))) == [{"role": "assistant", "content": expected}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (["a", IMAGE], [{"type": "text", "text": "Result of the function, call c:\na"}, IMAGE]),
        ([IMAGE], [{"type": "text", "text": "Result of the function, call c:\n"}, IMAGE]),
        ([{"type": "text", "text": "a"}], "Result of the function, call c:\na"),
        ("", "Result of the function, call c:\n"),
    ],
    ids=str,
)
def test_an_answer_may_have_parts(sent, content, expected):
    """Images of tools keep their place."""
    assert sent(answers("c", content)) == [{"role": "user", "content": expected}]


def test_answers_with_parts_share_a_message_too(sent):
    """In order, as parts."""
    text = "Result of the function, call"
    assert sent(answers("a", "1"), answers("b", ["2", IMAGE]), answers("c", "3")) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": f"{text} a:\n1"},
                {"type": "text", "text": f"{text} b:\n2"},
                IMAGE,
                {"type": "text", "text": f"{text} c:\n3"},
            ],
        }
    ]


def test_other_fields_of_the_messages_stay(sent):
    """But for the name of a tool, which is no name of a user."""
    first, second = sent(says("x", call("c"), name="bot", refusal=None), answers("c", name="look", x=1))
    assert (first["name"], first["refusal"]) == ("bot", None)
    assert second == {"role": "user", "content": 'Result of "look", call c:\n21', "x": 1}


def test_an_answer_may_name_its_function_itself(sent):
    """Where no call does."""
    (message,) = sent(answers("c", name="look"))
    assert message["content"] == 'Result of "look", call c:\n21'


def test_placeholders_in_answers_are_filled_and_in_calls_they_are_not(sent):
    """The content of a message is a text like any other; a call is not ours to change."""
    history = (says("{x}", call("{x}", "{x}", '{"a": "{x}"}')), answers("{x}", "{x}"))
    assert [message["content"] for message in sent(*history, inputs={"x": "y"})] == [
        f'y\n{TOKEN}{{"name": "{{x}}", "arguments": {{"a": "{{x}}"}}, "id": "{{x}}"}}',
        'Result of "{x}", call {x}:\ny',
    ]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("{}", "{}"),
        ("", "{}"),
        (None, "{}"),
        ('{ "a" :\n1 }', '{"a": 1}'),
        ('{"ü": "\\n{}"}', '{"ü": "\\n{}"}'),
        ("not json", '"not json"'),
        ("[1]", '"[1]"'),
        ('"x"', '"\\"x\\""'),
        ('{"a": NaN}', '"{\\"a\\": NaN}"'),
    ],
)
def test_arguments_are_told_as_one_line_of_json(sent, arguments, shown):
    """What is no object is told as the text it is."""
    (message,) = sent(says(None, call("c", "look", arguments)))
    assert message["content"] == notice("c", "look", shown)


def test_each_item_of_a_batch_has_its_own_history(plan_of):
    """What a tool answered may be a list."""
    plan = plan_of(says(None, call("c")), answers("c", [{"data": ["1", "2"]}]))
    contents = [plan.body(sample)["messages"][1]["content"] for sample in (0, 1)]
    assert contents == ['Result of "look", call c:\n1', 'Result of "look", call c:\n2']


# ---- a reply that is sent back


def variable(data):
    return [{"id": "out", "data": data, "producer": "op", "role": "response"}]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (f'{TOKEN}{{"name": "look", "arguments": {{"at": 1}}}}', ""),
        (f'Let me see.\n{TOKEN} {{"call":"look","parameters":{{ "at": 1 }}}}', "Let me see.\n"),
        (f'a ```json\n{TOKEN}{{"name": "look", "arguments": "{{\\"at\\":1}}"}}\n``` b', "a\nb\n"),
        ('{"arguments":"{\\"at\\": 1}","name":"look"}', ""),
        ('Let me see.\n{"arguments":"{\\"at\\": 1}","name":"look"}', "Let me see.\n"),
    ],
    ids=["call alone", "after text", "in a fence", "native alone", "native after text"],
)
def test_the_calls_in_a_reply_are_not_told_twice(sent, reply, said):
    """Its Variable holds them as the model wrote them, and they stand beside it."""
    first, _ = sent(says(variable(reply), call("c")), answers("c"))
    assert first == {"role": "assistant", "content": f"{said}{notice('c')}"}


@pytest.mark.parametrize(
    "reply",
    [
        "Let me see.",
        f'{TOKEN}{{"name": "other", "arguments": {{"at": 1}}}}',
        f'{TOKEN}{{"name": "look", "arguments": {{"at": 2}}}}',
        f"{TOKEN}{{",
    ],
)
def test_a_text_that_says_something_else_stays(sent, reply):
    """Only a repetition is left out."""
    first, _ = sent(says(variable(reply), call("c")), answers("c"))
    assert first["content"] == f"{reply}\n{notice('c')}"


def test_a_reply_with_good_and_bad_calls_can_be_sent_back(sent):
    """What could not be taken is said again, what could is told once."""
    bad = f'{TOKEN}{{"name": "nobody"}}'
    reply = f'{TOKEN}{{"name": "look", "arguments": {{"at": 1}}}}\n{bad}'
    first, _ = sent(says(variable(reply), call("c")), answers("c"))
    assert first["content"].count('"look"') == 1


async def test_the_message_of_a_result_goes_into_the_next_job(scripted, toolbox, job_of):
    """With its calls in it once, and the graphs of both jobs join at the output."""
    model = scripted(f'Well. {TOKEN}{{"name": "look", "arguments": {{"at": 1}}}}', "It is 21.")
    ask = [{"role": "user", "content": [{"id": "q", "data": "Weather?", "requires_grad": True}]}]

    async def run(key, *messages):
        request = Request("1", key, job_of(*messages, tools=[LOOK]))
        return await complete(request, model=model, emit=pytest.fail, toolbox=toolbox)

    first = await run("one", *ask)
    said = first.completions[0]["choices"][0]["message"]
    assert (said["content"], [one["function"] for one in said["tool_calls"]]) == (
        "Well.",
        [{"name": "look", "arguments": '{"at": 1}'}],
    )
    second = await run("two", *ask, first.message, answers(said["tool_calls"][0]["id"]))
    assert model.bodies[1]["messages"][1]["content"] == f"Well.\n{notice(said['tool_calls'][0]['id'])}"
    assert second.graph.index.variables[first.output].data == first.graph.index.variables[first.output].data
    assert second.graph.requires_grad(second.output)


# ---- native mode


def test_in_native_mode_the_history_goes_as_it_is(sent):
    """Such an endpoint knows what a tool is."""
    history = [says(None, call("c")), answers("c"), answers("d")]
    assert sent(*history, backtalk={"tool_mode": "native"}) == history


def test_in_native_mode_the_calls_in_a_reply_are_not_told_twice(plan_of):
    """Its Variable has them as lines of JSON, and they stand beside it."""
    reply = 'Let me see.\n{"arguments":"{\\"at\\": 1}","name":"look"}'
    plan = plan_of(says(variable(reply), call("c")), answers("c"), backtalk={"tool_mode": "native"})
    assert plan.body(None)["messages"] == [says("Let me see.", call("c")), answers("c")]
    assert plan.tooling.injected.model_dump(mode="json") == {
        "mode": "native",
        "side": "top",
        "messages": [{"message": 0, "content": "Let me see."}],
    }


# ---- roles and odd forms


def test_other_roles_are_sent_as_the_operator_says(plan_of, tmp_path):
    """With their names, which belong to them."""
    (tmp_path / "roles.jinja").write_text("{{ 'system' if role in ('developer', 'tool') else role }}")
    box = Toolbox(Words.load(tmp_path), {})
    plan = plan_of({"role": "developer", "content": "a"}, "b", answers("c"), box=box)
    assert [(message["role"], message["content"]) for message in plan.body(None)["messages"]] == [
        ("system", "a"),
        ("user", "b"),
        ("system", "Result of the function, call c:\n21"),
    ]


@pytest.mark.parametrize(
    ("calls", "path"),
    [
        ("x", "messages/0/tool_calls"),
        ({}, "messages/0/tool_calls"),
        ([5], "messages/0/tool_calls/0"),
        ([None], "messages/0/tool_calls/0"),
        (
            [{"custom": {"name": "sh"}}, {"custom": {"name": "sh", "input": {}}}],
            "messages/0/tool_calls/1/custom",
        ),
        ([{"id": "c", "type": "function"}], "messages/0/tool_calls/0/function"),
        ([call("c"), {"function": "look"}], "messages/0/tool_calls/1/function"),
        ([{"function": {}}], "messages/0/tool_calls/0/function"),
        ([{"function": {"name": 5}}], "messages/0/tool_calls/0/function"),
        ([{"function": {"name": "look", "arguments": {}}}], "messages/0/tool_calls/0/function"),
    ],
    ids=str,
)
def test_calls_that_are_not_in_openais_form_are_refused_by_their_path(plan_of, calls, path):
    """They could not be told."""
    with pytest.raises(Refused) as caught:
        plan_of({"role": "assistant", "content": "x", "tool_calls": calls})
    assert (caught.value.error.code, caught.value.error.details["path"]) == (Code.INVALID_MESSAGE, path)


def test_a_call_of_a_custom_tool_is_told_as_well(sent):
    """With its text in the place of arguments."""
    custom = {"id": "c", "type": "custom", "custom": {"name": "sh", "input": 'ls "x"'}}
    first, second = sent(says(None, custom), answers("c"))
    assert first == {"role": "assistant", "content": notice("c", "sh", '"ls \\"x\\""')}
    assert second["content"] == 'Result of "sh", call c:\n21'


def test_calls_are_told_as_they_were_before_there_were_ids(sent):
    """One `function_call`, and an answer of the role function."""
    called = {
        "role": "assistant",
        "content": None,
        "function_call": {"name": "look", "arguments": '{"at":1}'},
    }
    assert sent(called, {"role": "function", "name": "look", "content": "21"}) == [
        {"role": "assistant", "content": f'{TOKEN}{{"name": "look", "arguments": {{"at": 1}}, "id": null}}'},
        {"role": "user", "content": 'Result of "look":\n21'},
    ]


@pytest.mark.parametrize(
    "called", ["look", {"odd": 1}, {"name": 5}, {"name": "look", "arguments": {}}], ids=str
)
def test_an_old_call_that_is_not_in_openais_form_is_refused_by_its_path(plan_of, called):
    """It could not be told."""
    with pytest.raises(Refused, match=r"^messages/0/function_call") as caught:
        plan_of({"role": "assistant", "content": "x", "function_call": called})
    assert caught.value.error.code == Code.INVALID_MESSAGE


@pytest.mark.parametrize("id", [None, 5, [], {}, True])
def test_an_id_that_is_no_text_names_nothing(sent, id):
    """The words do without it."""
    rendered = sent(says(None, call(id)), answers(id))
    assert rendered[0]["content"] == f'{TOKEN}{{"name": "look", "arguments": {{"at": 1}}, "id": null}}'
    assert rendered[1] == {"role": "user", "content": 'Result of "look":\n21'}


@pytest.mark.parametrize("calls", [None, []])
def test_an_empty_list_of_calls_is_none(sent, calls):
    """Nothing was called, and no field of tools is sent."""
    assert sent({"role": "assistant", "content": "x", "tool_calls": calls}) == [says("x")]


def test_calls_beside_a_message_of_another_role_are_not_looked_at(sent):
    """Only the model calls."""
    assert sent({"role": "user", "content": "x", "tool_calls": [call("c")]})[0]["content"] == "x"
    assert sent({"role": "user", "content": "x", "tool_calls": [call("c")]})[0].keys() == {"role", "content"}


def test_what_an_endpoint_of_its_own_understands_is_not_judged(plan_of):
    """In native mode a call that is in no known form goes on as it is."""
    odd = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "new", "new": {}}]}
    plan = plan_of({"role": "user", "content": "Hi"}, odd, backtalk={"tool_mode": "native"})
    assert plan.body(None)["messages"][1] == odd


def test_thousands_of_calls_take_no_long(sent):
    """Each is looked up among the others, not compared with them."""
    many = [call(str(at), "look", f'{{"at": {at}}}') for at in range(900)]
    text = "\n".join(f'{TOKEN}{{"name": "look", "arguments": {{"at": {at}}}}}' for at in range(900))
    began = time.process_time()
    (first,) = sent(says(variable(text), *many))
    assert first["content"].count(TOKEN) == 900
    assert time.process_time() - began < 5
