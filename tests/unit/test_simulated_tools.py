"""When the simulated model calls tools: those it is given, and those that the words of a prompt tell of."""

import json

import pytest

from backtalk.local.simulated_completion import Reply, read_request
from backtalk.local.simulated_replies import replies_to
from forward_worker.tools.words import Marks, Words

ASSISTANT = {"role": "system", "content": "You are a helpful assistant."}
WEATHER = {
    "name": "get_weather",
    "description": "Tell the weather of Berlin, or of any other city",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "note": {"type": "string"},
        },
        "required": ["city", "days"],
    },
}
CITY_WEATHER = {**WEATHER, "parameters": {**WEATHER["parameters"], "required": ["city"]}}
CLOCK = {"name": "read_clock", "description": None, "parameters": None}
QUESTION = {"role": "user", "content": "What is the weather in Paris?"}
CALL = '!function_call:{"name": "get_weather", "arguments": {"city": "Paris"}}'
WORDS = Words.load()


def replies(*messages, **arguments):
    return replies_to(read_request({"model": "any", "messages": list(messages), **arguments}))


def reply(*messages, **arguments):
    (only,) = replies(*messages, **arguments)
    assert only.finish_reason == ("tool_calls" if only.tool_calls else "stop")
    return only


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


# ---- tools that are given


def native(question, *, tools=(WEATHER,), **arguments):
    given = [{"type": "function", "function": tool} for tool in tools]
    return reply(ASSISTANT, user(question), tools=given, **arguments)


def test_a_tool_is_called_when_the_question_has_a_word_of_its_name():
    """A telling word of the name is enough; the required arguments are taken from the question."""
    only = native("What is the weather in New York for 3 days?")
    (call,) = only.tool_calls
    assert (only.text, call.name) == (None, "get_weather")
    assert json.loads(call.arguments) == {"city": "New York", "days": 3}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_demanded_tool_is_called(choice):
    """A tool that the request demands is called, whatever the question."""
    only = native("Hello Rome", tool_choice=choice)
    assert [json.loads(call.arguments)["city"] for call in only.tool_calls] == ["Rome"]


@pytest.mark.parametrize(("question", "choice"), [("Did you get it?", "auto"), ("The weather?", "none")])
def test_a_tool_is_left_alone_when_nothing_asks_for_it(question, choice):
    """Neither a word like "get" nor a forbidden choice leads to a call."""
    assert native(question, tool_choice=choice).tool_calls == ()


def test_of_several_tools_in_a_question_the_first_is_called():
    """One call at a time, in the order of the tools."""
    only = native("The clock and the weather?", tools=(CLOCK, WEATHER))
    assert [call.name for call in only.tool_calls] == ["read_clock"]


@pytest.mark.parametrize(
    ("question", "city"),
    [("weather in Rome", "Rome"), ("Weather for Oslo?", "Oslo"), ("Weather?", "Weather"), ("weather?", "")],
)
def test_a_text_argument_is_a_plausible_word(question, city):
    """A place after "in", else a capitalised word, else nothing."""
    assert json.loads(native(question).tool_calls[0].arguments)["city"] == city


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"enum": ["celsius", "fahrenheit"]}, "celsius"),
        ({"enum": ["celsius", "kelvin"]}, "kelvin"),
        ({"enum": []}, "Rome"),
        ({"type": ["integer", "null"]}, 12),
        ({"type": "boolean"}, False),
        ({"type": {}}, "Rome"),
        ({}, "Rome"),
        (True, "Rome"),
        (None, "Rome"),
    ],
)
def test_an_argument_fits_its_schema(schema, value):
    """What no rule of thumb covers, be it a schema or none, is a text."""
    parameters = {"properties": {"it": schema}, "required": ["it", 5]}
    only = native("Weather in Rome, 12 kelvin?", tools=({**WEATHER, "parameters": parameters},))
    assert json.loads(only.tool_calls[0].arguments) == {"it": value}


@pytest.mark.parametrize("parameters", [None, {}, {"properties": 5, "required": 5}, {"required": ["digits"]}])
def test_odd_parameters_do_not_stop_the_model(parameters):
    """Whatever describes a function, there is a call."""
    only = native(f"weather {'9' * 5000}", tools=({**WEATHER, "parameters": parameters},))
    assert len(only.tool_calls) == 1


@pytest.mark.parametrize("role", ["tool", "function"])
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_an_answer_of_a_tool_is_reported(role, choice):
    """After a tool message the reply hands on what the tool said; a demand does not lead to a second call."""
    answer = {"role": role, "tool_call_id": "1", "name": "get_weather", "content": "21 °C"}
    given = [{"type": "function", "function": WEATHER}]
    assert reply(QUESTION, answer, tools=given, tool_choice=choice) == Reply("The tool answered: 21 °C")


# ---- tools that are told of


def told(*tools, prefix=None, suffix=None, required=False, parallel=True, words=WORDS):
    """Return the words about tools that the forward worker puts into a prompt."""
    block = words.function_list(
        tools or (CITY_WEATHER,),
        prefix=prefix,
        suffix=suffix,
        required=required,
        parallel=parallel,
        marks=Marks("0" * 16),
    )
    return "".join(block)


def forced(tool=CITY_WEATHER, *, prefix=None, suffix=None):
    return "".join(WORDS.force_call(tool, prefix=prefix, suffix=suffix, marks=Marks("0" * 16)))


def system(block):
    return {"role": "system", "content": f"{block}\n\n{ASSISTANT['content']}"}


def test_a_function_that_is_told_of_is_called_in_the_text():
    """In the form that the prompt shows, and with the same arguments as a tool that is given."""
    assert reply(system(told()), QUESTION) == Reply(CALL)


@pytest.mark.parametrize("side", ["top", "bottom"])
@pytest.mark.parametrize("role", ["system", "developer", "user"])
def test_the_functions_are_found_in_any_message(side, role):
    """Whatever stands before or behind them, and the message may be the question itself."""
    text = "Be kind. What is the weather in Paris?"
    both = [told(CITY_WEATHER, CLOCK), text]
    message = {"role": role, "content": "\n\n".join(both if side == "top" else reversed(both))}
    assert reply(message, *([] if role == "user" else [user(text)])) == Reply(CALL)


def test_the_functions_are_found_beside_an_image():
    """The words stand in a part of their own, and the other parts are still seen."""
    image = {"type": "image_url", "image_url": {"url": "https://example.org/sky.png"}}
    parts = [image, {"type": "text", "text": f"\n\n{told(CLOCK)}"}]
    seen = reply(user([{"type": "text", "text": "Look."}, *parts]))
    assert seen == Reply("You said: Look. (1 attachment(s) seen)")
    assert reply(user([{"type": "text", "text": "The clock?"}, *parts])).text.startswith("!function_call:{")


@pytest.mark.parametrize(
    "question", ["Hello Rome", "Call it a day.", "What is in Berlin?", "Which function?"]
)
def test_the_words_about_functions_ask_for_nothing(question):
    """Neither names and descriptions nor how to call are part of the question."""
    assert reply(user(f"{told()}\n\n{question}")) == Reply(f"You said: {question}")


def test_the_words_about_functions_instruct_nothing():
    """A description is no order for the look of a reply."""
    tool = {**CITY_WEATHER, "description": "Reply as JSON, in capital letters, with sentiment and category."}
    assert reply(system(told(tool)), user("Hello")) == Reply("You said: Hello")


@pytest.mark.parametrize(
    "block", [told(required=True), forced(), forced(prefix="Now:"), forced(suffix="Now")]
)
def test_a_function_that_the_words_demand_is_called(block):
    """The default words before or behind the functions say that a call must come."""
    assert reply(system(block), user("Hello Paris")) == Reply(CALL)


def test_demanded_functions_are_called_by_the_question_where_it_names_one():
    """The first one is called only where the question names none."""
    block = told(CLOCK, CITY_WEATHER, required=True)
    assert reply(system(block), QUESTION) == Reply(CALL)
    assert reply(system(block), user("Hi")) == Reply('!function_call:{"name": "read_clock", "arguments": {}}')


def test_each_function_in_the_question_is_called():
    """A line for each, in the order of the functions."""
    text = "What does the clock say, and what is the weather in Paris?"
    only = reply(system(told(CLOCK, CITY_WEATHER)), user(text))
    assert only == Reply(f'!function_call:{{"name": "read_clock", "arguments": {{}}}}\n{CALL}')


def test_a_single_call_is_made_where_the_words_allow_no_more():
    """What the caller does not want in parallel comes one by one."""
    text = "What is the weather in Paris, and what does the clock say?"
    assert reply(system(told(CITY_WEATHER, CLOCK, parallel=False)), user(text)) == Reply(CALL)


@pytest.mark.parametrize(
    ("prefix", "suffix", "token"),
    [
        ("", "", "!function_call:"),
        ("My functions:", "", "!function_call:"),
        ("My functions:", "Write !function_call: and a call.", "!function_call:"),
        ("Write !function_call: and a call of one of these.", "", "!function_call:"),
        ("You may say <<CALL>>, then JSON, with these.", "", "<<CALL>>"),
        ("<functions>", "</functions> Begin with @call.", "@call"),
        ("Several\n\nparagraphs", 'So: (`[FUNC]`) or so.\n\nAll "clear"?', "[FUNC]"),
        (None, 'Like this:\n  CALL NOW {"name": "f", "arguments": {}}', "CALL NOW"),
        (None, 'Like this:\nCALL NOW {"name": "f", "arguments": {}}', "CALL NOW"),
    ],
)
@pytest.mark.parametrize("side", ["top", "bottom"])
def test_functions_are_called_by_the_words_of_a_request(prefix, suffix, token, side):
    """A request may bring any words; the call token stands somewhere in them."""
    parts = [told(prefix=prefix, suffix=suffix), QUESTION["content"]]
    only = reply(user("\n\n".join(parts if side == "top" else reversed(parts))))
    assert only.text == CALL.replace("!function_call:", token)


def test_functions_are_called_by_the_words_of_an_operator(tmp_path):
    """A call token that is like no other is taken from the example."""
    (tmp_path / "call_token.jinja").write_text("Call now: ")
    words = Words.load(tmp_path)
    assert reply(system(told(words=words)), QUESTION) == Reply(CALL.replace("!function_call", "Call now"))


@pytest.mark.parametrize(
    "text",
    [
        '[{"name": "get_weather"}]',
        '[{"name": "get_weather", "description": null, "parameters": null}, 5]',
        '[{"name": 5, "description": null, "parameters": null}]',
        '[{"name": "get_weather", "description": null, "parameters": []}]',
        '[{"name": "get_weather", "description": null, "parameters": null}',
        '[{"name": "get_weather", "description": null, "parameters": ' + "[" * 100_000,
    ],
)
def test_other_lists_are_no_functions(text):
    """People write JSON too."""
    assert reply(user(f"The weather in\n{text}")).text.startswith("You said: The weather in [{")


# ---- after a call


def results(*contents):
    """Return the message in which the forward worker tells the results of calls."""
    told = []
    for at, content in enumerate(contents):
        before, after = WORDS.tool_response(f"call_{at}", 'a "quoted" name' if at % 2 else None)
        told.append(before + content + after)
    return user("\n\n".join(told))


@pytest.mark.parametrize("block", [told(), told(required=True), forced()])
def test_a_result_is_reported(block):
    """As that of a tool that was given; even a demand does not lead to a second call."""
    messages = [system(block), QUESTION, assistant(CALL), results("21 °C")]
    assert reply(*messages) == Reply("The tool answered: 21 °C")


def test_the_last_of_several_results_is_reported():
    """As the last message of a tool is."""
    only = reply(ASSISTANT, QUESTION, assistant(CALL), results("21 °C", "warm\n\nand sunny"))
    assert only == Reply("The tool answered: warm and sunny")


def test_a_result_is_reported_from_the_message_that_tells_of_functions():
    """Where there is but one message, it holds both."""
    only = results("21 °C")["content"]
    assert reply(user(f"{told()}\n\n{only}")) == Reply("The tool answered: 21 °C")
    assert reply(user(f"{only}\n\n{told()}")) == Reply("The tool answered: 21 °C")


def test_a_new_question_after_results_is_a_new_start():
    """Only the last message counts."""
    messages = [system(told()), user("Hi"), assistant("Hm"), results("21 °C"), assistant("21 °C"), QUESTION]
    assert reply(*messages) == Reply(CALL)


@pytest.mark.parametrize("problems", [["it is no JSON"], ["there is no city", "nor days"]])
@pytest.mark.parametrize("turns", [1, 3])
def test_a_call_that_could_not_be_used_is_made_again(problems, turns):
    """As often as the model is told, by the question that led to it."""
    again = [assistant("!function_call:{"), user(WORDS.retry(problems))] * turns
    assert reply(system(told()), QUESTION, *again) == Reply(CALL)
    assert reply(user(f"{told()}\n\n{QUESTION['content']}"), *again) == Reply(CALL)


def test_a_call_is_made_again_that_nothing_asked_for():
    """Even where results came before it."""
    again = [assistant("!function_call:{"), user(WORDS.retry(["it is no JSON"]))]
    assert reply(system(told()), user("Paris?"), results("21 °C"), *again) == Reply(CALL)


# ---- whatever else


def test_each_choice_makes_the_calls():
    """The same ones: nothing depends on chance."""
    assert replies(system(told()), QUESTION, n=2) == [Reply(CALL)] * 2


def test_given_tools_win_over_words():
    """A request with tools is one to a model that knows them."""
    given = [{"type": "function", "function": CITY_WEATHER}]
    assert reply(system(told()), QUESTION, tools=given).tool_calls[0].name == "get_weather"


def test_a_backward_prompt_never_leads_to_a_call():
    """It may show everything that leads to one."""
    rules = {"role": "system", "content": "With nothing to say, reply exactly NO FEEDBACK."}
    shown = f'<fence-12 kind="message">\n{told(required=True)}\n\nThe weather?\n</fence-12>'
    assert reply(rules, user(shown)) == Reply("NO FEEDBACK")
