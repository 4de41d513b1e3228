"""Calls of programs on the real stack: what a model hears, what comes back, and who gets which gradient."""

import asyncio
import json
import random

import pytest

from backtalk import Parameter, PartialWarning, Variable, load, save, set_backward_model_client
from backtalk import cognitive as cog
from backtalk.client import BacktalkError, Refused
from backtalk.functional import (
    chat_completion,
    deterministic_evaluator,
    exact_match_evaluator,
    lm_judge_evaluator,
)
from backtalk.models import ModelClient, get_backward_model_client
from backtalk.models.backward import forget_backward_model_client
from backtalk.models.openai import OpenAI
from backtalk.optim import TGD

CLIENT = OpenAI(model="gpt-4o")
CAPITALS = "Use only capital letters."
EACH = {"batch": "per_sample"}
LANGUAGES = ["Italian", "French", "Italian"]
GREETINGS = ["Ciao", "Bonjour", "Ciao"]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def learned(text="You are a helpful assistant.", role="system instruction"):
    return Variable(text, role=role, requires_grad=True)


def asked(system, text="Translate 'Hello' to {language}."):
    """Return the messages of a call: a system prompt, and a question that needs no gradient."""
    user = text if isinstance(text, Variable) else Variable(text, role="user query")
    return [{"role": "system", "content": [system]}, {"role": "user", "content": [user]}]


def told(text=CAPITALS):
    return Variable(text, role="feedback")


def texts(variable):
    return [gradient.data for gradient in variable.grad]


def heard(program):
    """Return the texts of each call's messages."""
    return [[message["content"] for message in call.messages] for call in program.model.calls]


# ---- C1, C3, C4, C5, C6, C7: calls


def test_c1_a_call_takes_client_messages_inputs_and_arguments_and_returns_a_variable(program):
    """As a function and as a module; without inputs as well."""
    system = learned()
    by_function = chat_completion(OpenAI(), asked(system), {"language": "Italian"}, model="gpt-4o", seed=3)
    by_module = cog.ChatCompletion()(CLIENT, asked(system, "Translate 'Hello' to French."))
    assert isinstance(by_function, Variable)
    assert (by_function.data, by_module.data) == ("Ciao", "Bonjour")
    assert program.model.calls[0].arguments["seed"] == 3


def test_c3_variables_in_one_message_are_one_text(program):
    """Joined in order, with nothing between them."""
    messages = [{"role": "user", "content": [Variable("Sum"), Variable(" up"), Variable("!")]}]
    chat_completion(CLIENT, messages)
    assert heard(program) == [["Sum up!"]]


@pytest.mark.parametrize(
    "languages",
    [LANGUAGES, tuple(LANGUAGES), Variable(LANGUAGES), [Variable(one) for one in LANGUAGES]],
    ids=["list", "tuple", "Variable", "list of Variables"],
)
def test_c4_a_list_among_the_inputs_makes_a_batch(program, languages):
    """P28: of texts, as a Variable, or of Variables; the answer is a list of the same length and order."""
    response = chat_completion(CLIENT, asked(learned()), {"language": languages})
    assert response.data == GREETINGS
    assert len(response.completions) == 3


@pytest.mark.parametrize("language", ["Italian", Variable("Italian")], ids=["text", "Variable"])
def test_c4_single_inputs_have_a_single_answer(program, language):
    """A text for a text."""
    assert chat_completion(CLIENT, asked(learned()), {"language": language}).data == "Ciao"


def test_c5_scalars_serve_every_item(program):
    """A scalar input beside a list, in each of its items."""
    question = Variable("Translate '{word}' to {language}.", role="user query")
    response = chat_completion(CLIENT, asked(learned(), question), {"language": LANGUAGES, "word": "Hello"})
    assert response.data == GREETINGS


def test_c5_a_list_in_a_message_makes_a_batch(program):
    """Without any input; one of one item is a batch as well."""
    questions = [f"Translate 'Hello' to {language}." for language in LANGUAGES]
    assert chat_completion(CLIENT, asked(learned(), Variable(questions))).data == GREETINGS
    assert chat_completion(CLIENT, asked(learned(), Variable(questions[:1]))).data == ["Ciao"]


def test_c6_only_placeholders_that_have_an_input_are_filled(program):
    """All other braces stay, also in what is filled in."""
    text = 'Reply as {"a": 1}, not {unknown} or {{city}}: {city}.'
    chat_completion(CLIENT, [{"role": "user", "content": [Variable(text)]}], {"city": "{unknown} {city}"})
    assert heard(program) == [['Reply as {"a": 1}, not {unknown} or {{city}}: {unknown} {city}.']]


def test_c7_a_response_is_one_to_the_last_message(program):
    """By its role; it requires a gradient where anything it read does."""
    response = chat_completion(CLIENT, asked(learned()), {"language": "Italian"})
    plain = chat_completion(CLIENT, asked(Variable("x")), {"language": "Italian"})
    by_input = chat_completion(CLIENT, asked(Variable("x")), {"language": learned("Italian")})
    assert response.role == "response to user query"
    assert [one.requires_grad for one in (response, plain, by_input)] == [True, False, True]
    assert plain.grad_fn is None


# ---- C8, C9, C10, C11: gradients


def test_c8_all_that_wants_a_gradient_gets_one(program):
    """In messages and in inputs; what does not want one gets none."""
    system, shape, word = learned(), learned("Answer: ", "shape"), learned("Hello", "word")
    fixed, language = Variable("Translate '{word}' to {language}.", role="task"), Variable("Italian")
    messages = [{"role": "system", "content": [system]}, {"role": "user", "content": [fixed, shape]}]
    response = chat_completion(CLIENT, messages, {"word": word, "language": language})
    response.backward(told())
    assert [len(one.grad) for one in (system, shape, word, fixed, language)] == [1, 1, 1, 0, 0]
    places = [one.grad[0].entry.input for one in (system, shape, word)]
    assert places == ["messages/0/content/0", "messages/1/content/1", "inputs/word"]
    assert all("capital letters" in one.grad[0].data for one in (system, shape, word))
    assert program.model.total == 1 + 3


def test_c8_each_variable_of_a_list_gets_its_own(program):
    """A list of Variables is aligned with the batch: each hears of its item alone."""
    words = [learned(word, f"word {at}") for at, word in enumerate(["Hello", "Goodbye"])]
    question = "Translate '{word}' to Italian."
    response = chat_completion(CLIENT, asked(Variable("x"), question), {"word": words})
    response.backward(told())
    assert [[one.entry.sample for one in word.grad] for word in words] == [[0], [1]]


def test_c8_descriptions_of_tools_learn_as_well(program):
    """The model reads them, so feedback reaches them."""
    about, city = learned("Tells the weather.", "purpose"), learned("A city.", "parameter")
    function = {**WEATHER["function"], "description": about}
    function["parameters"] = {
        "type": "object",
        "properties": {"city": {"type": "string", "description": city}},
    }
    response = chat_completion(
        CLIENT,
        asked(learned(), "What is the weather in Rome?"),
        tools=[{"type": "function", "function": function}],
    )
    response.backward(told("Call the weather function only for cities."))
    assert (len(about.grad), len(city.grad)) == (1, 1)
    assert "only for cities" in about.grad[0].data
    assert about.grad[0].entry.input == "tools/0/function/description"


def test_c9_feedback_is_one_text_or_one_for_each_item(program):
    """Each item hears its own; an empty one has nothing to criticise and costs no call."""
    system = learned()
    response = chat_completion(CLIENT, asked(system), {"language": LANGUAGES})
    response.backward(Variable(["Be polite.", "", CAPITALS]), policy=EACH)
    first, second, third = texts(system)
    assert ("polite" in first, second, "capital" in third) == (True, "", True)
    assert program.model.total == 3 + 2


@pytest.mark.parametrize(
    ("feedback", "error", "words"),
    [
        (Variable(["a", "b"]), ValueError, "a list of 2.* one text for each of the 3 items"),
        (Variable([1, 2, 3]), TypeError, "a gradient is a text"),
        ("a", TypeError, "a gradient is a Variable that holds a text, not str"),
        (None, RuntimeError, "backward.. needs a gradient here"),
    ],
)
def test_c9_other_feedback_is_refused_before_anything_is_sent(program, feedback, error, words):
    """By type and by length, and the graph can still be used."""
    system = learned()
    response = chat_completion(CLIENT, asked(system), {"language": LANGUAGES})
    with pytest.raises(error, match=words):
        response.backward(feedback)
    assert program.model.total == 3
    response.backward(told())
    assert len(system.grad) == 1


def test_c10_forward_and_backward_are_counted_apart(program):
    """P26: the backward model is the one of the process, and only it is asked for gradients."""
    set_backward_model_client("openai/gpt-4o-mini", completion_args={"temperature": 0.25})
    client, system = OpenAI(model="gpt-4o"), learned("Write Python.")
    response = chat_completion(client, asked(system, "Sort a list."))
    assert (client.get_usage()["calls"], get_backward_model_client().get_usage()["calls"]) == (1, 0)
    forward = client.get_usage()
    response.backward(told("It should be JavaScript."))
    backward = get_backward_model_client().get_usage()
    assert client.get_usage() == forward
    assert (len(system.grad), backward["calls"]) == (1, 1)
    assert backward["total_tokens"] > 0
    assert 0 < backward["cost"]["amount"] < forward["cost"]["amount"] * 10
    assert [call.model for call in program.model.calls] == ["gpt-4o", "gpt-4o-mini"]
    assert program.model.calls[1].arguments["temperature"] == 0.25


def test_c10_every_item_of_every_job_is_counted(program):
    """A batch in jobs of two is three calls."""
    client = OpenAI(model="gpt-4o")
    chat_completion(client, asked(learned()), {"language": LANGUAGES}, items_per_job=2)
    assert client.get_usage()["calls"] == 3
    assert client.get_usage()["total_tokens"] > 0


def test_c10_without_a_backward_model_the_calls_own_is_asked(program):
    """So a program needs no second model."""
    forget_backward_model_client()
    system = learned()
    chat_completion(OpenAI(), asked(system), {"language": "French"}, model="gpt-4.1").backward(told())
    assert [call.model for call in program.model.calls] == ["gpt-4.1", "gpt-4.1"]
    assert len(system.grad) == 1


@pytest.mark.parametrize("items_per_job", [64, 2])
def test_c11_a_batch_gives_one_gradient(program, items_per_job):
    """P35: whatever it was split into; where it is wanted one for each item, which it knows."""
    system = learned()
    response = chat_completion(CLIENT, asked(system), {"language": LANGUAGES}, items_per_job=items_per_job)
    response.backward(told(), retain_graph=True)
    assert [one.item for one in system.grad] == [None]
    response.backward(told(), policy=EACH)
    assert [one.item for one in system.grad[1:]] == [0, 1, 2]


# ---- C12, C13, C14, M1


@pytest.mark.parametrize("arguments", [{"n": 2}, {"stream": True}])
def test_c12_several_choices_and_streams_are_refused_before_anything_is_sent(program, arguments):
    """P29: no model is asked."""
    with pytest.raises(ValueError, match=next(iter(arguments))):
        chat_completion(CLIENT, asked(learned()), {"language": "Italian"}, **arguments)
    assert program.model.total == 0


def test_c13_arguments_reach_the_endpoint(program):
    """As they were given."""
    told_so = {"response_format": {"type": "json_object"}, "logprobs": False, "top_p": 0.5}
    response = chat_completion(CLIENT, asked(learned()), {"language": "Italian"}, **told_so)
    arguments = program.model.calls[0].arguments
    assert {name: arguments[name] for name in told_so} == told_so
    assert json.loads(response.data) == {"translation": "Ciao"}


def test_c13_an_answer_is_the_message_of_the_next_call(program):
    """With its call of a tool; feedback on the last answer reaches the prompt through both calls."""
    system = learned()
    messages = asked(system, "What is the weather in Rome?")
    first = chat_completion(CLIENT, messages, tools=[WEATHER])
    (call,) = first.message["tool_calls"]
    assert call["function"]["name"] == "weather"
    result = {"role": "tool", "tool_call_id": call["id"], "content": [Variable("Sunny, 21 degrees.")]}
    second = chat_completion(CLIENT, [*messages, first.message, result], tools=[WEATHER])
    assert "Sunny, 21 degrees." in second.data
    assert [one.op for one in second.graph().graph.operations] == ["chat_completion"] * 2
    second.backward(told())
    assert len(system.grad) == 2


def test_an_answer_to_a_batch_is_no_message(program):
    """Each item would need one of its own."""
    response = chat_completion(CLIENT, asked(learned()), {"language": LANGUAGES})
    with pytest.raises(ValueError, match="a batch is no single message"):
        _ = response.message


def test_c14_an_answer_that_was_edited_keeps_its_graph(program):
    """The backward model sees what the model said and what the program made of it."""
    system = learned()
    response = chat_completion(
        CLIENT, asked(system), {"language": "Italian"}, response_format={"type": "json_object"}
    )
    response.data = json.loads(response.data)["translation"]
    response.backward(told())
    assert (response.data, len(system.grad)) == ("Ciao", 1)
    (_, question) = heard(program)[1]
    assert '{"translation": "Ciao"}' in question
    assert "put this in its place" in question


def test_c14_a_batch_can_be_edited_as_a_whole(program):
    """Item by item, in the same order; another length is refused."""
    system = learned()
    response = chat_completion(CLIENT, asked(system), {"language": LANGUAGES}, items_per_job=2)
    with pytest.raises(ValueError, match="a list of 2 cannot take the place of a list of 3"):
        response.data = ["a", "b"]
    response.data = [one.upper() for one in response.data]
    response.backward(Variable(["", "", "Say more."]), policy=EACH)
    assert response.data == ["CIAO", "BONJOUR", "CIAO"]
    assert [bool(text) for text in texts(system)] == [False, False, True]


def test_m1_an_endpoint_that_no_worker_knows_is_told_by_the_worker(program):
    """At the first call and at the first pass, with those that there are."""
    with pytest.raises(Refused, match=r"nowhere.*openai"):
        chat_completion(ModelClient("nowhere", model="m"), asked(learned()), {"language": "Italian"})
    system = learned()
    response = chat_completion(CLIENT, asked(system), {"language": "Italian"})
    set_backward_model_client("nowhere/m")
    with pytest.raises(Refused, match="nowhere"):
        response.backward(told())
    assert system.grad == []


# ---- parts, and time


def test_images_stand_between_texts(program):
    """P24: the model sees both, and feedback reaches the text."""
    task = learned("What is in this picture?", "task")
    messages = [{"role": "user", "content": [task, IMAGE, Variable(" Be brief.")]}]
    response = chat_completion(CLIENT, messages)
    kinds = [part["type"] for part in program.model.calls[0].messages[0]["content"]]
    assert kinds == ["text", "image_url", "text"]
    assert "1 attachment(s) seen" in response.data
    response.backward(told())
    assert len(task.grad) == 1


async def test_what_was_read_is_what_was_sent(program):
    """A prompt that changes while a call is under way: the gradient is about the text that the model saw."""
    program.model.rule(delay=0.3, times=1)
    system = learned()
    sent = system.id
    call = asyncio.ensure_future(cog.ChatCompletion().acall(CLIENT, asked(system), {"language": "Italian"}))
    async with asyncio.timeout(10):
        while program.model.total < 1:
            await asyncio.sleep(0.01)
    system.data = "You are a pirate."
    response = await call
    assert system.id != sent
    await response.abackward(told())
    assert [gradient.about for gradient in system.grad] == [sent]


# ---- batches of which something fails


def cities(count):
    return [f"city {at}" for at in range(count)]


def test_an_item_that_fails_leaves_the_others(program):
    """None in its place, a warning, its error among the completions; it gets no feedback and costs nothing."""
    program.model.rule(match="city 3", status=400)
    system = learned()
    client = OpenAI(model="gpt-4o")
    with pytest.warns(PartialWarning, match="1 of 6 items failed"):
        response = chat_completion(
            client, asked(system, "Where is {city}?"), {"city": cities(6)}, items_per_job=2
        )
    assert [one is None for one in response.data] == [at == 3 for at in range(6)]
    assert "error" in response.completions[3]
    assert client.get_usage()["calls"] == 5
    response.backward(told(), policy=EACH)
    assert [one.item for one in system.grad] == [0, 1, 2, 4, 5]


def test_a_job_that_fails_leaves_the_others(program):
    """Its two items are None, the rest is aligned; feedback goes to what is there."""
    for city in ("city 2", "city 3"):
        program.model.rule(match=city, status=400)
    system = learned()
    with pytest.warns(PartialWarning, match="2 of 6 items failed"):
        response = chat_completion(
            CLIENT, asked(system, "Where is {city}?"), {"city": cities(6)}, items_per_job=2
        )
    assert [one is None for one in response.data] == [at in (2, 3) for at in range(6)]
    score, explanation = exact_match_evaluator(response, [str(one) for one in response.data])
    assert score.data == 4
    explanation.backward()
    assert all(text == "" for text in texts(system))
    response.graph().as_json()


def test_a_call_of_which_nothing_is_left_is_an_error(program):
    """With the code of the endpoint's answer."""
    program.model.rule(status=400)
    with pytest.raises(Refused) as refused:
        chat_completion(CLIENT, asked(learned(), "Where is {city}?"), {"city": cities(4)}, items_per_job=2)
    assert refused.value.error.code == "upstream_rejected"


# half a byte each: packed it is still larger than a message may be
HUGE = random.Random(0).randbytes(9_000_000).hex()


@pytest.mark.parametrize("listed", [False, True], ids=["texts", "Variable"])
def test_a_job_that_is_too_large_fails_alone(program, listed):
    """Its item is None, a warning names the reason, and the answers of the others, which were paid for, are there."""
    words, client = ["Hello", HUGE, "Thank you"], OpenAI(model="gpt-4o")
    system = learned("Translate to Italian.")
    with pytest.warns(PartialWarning, match="1 of 3 items failed; the first: payload_too_large"):
        response = chat_completion(
            client, asked(system, "{word}"), {"word": Variable(words) if listed else words}, items_per_job=1
        )
    assert [one is None for one in response.data] == [False, True, False]
    assert response.completions[1]["error"]["code"] == "payload_too_large"
    assert (client.get_usage()["calls"], program.model.total) == (2, 2)
    assert response.grad_fn.name() == "ConcatBackward"
    if not listed:
        response.backward(told(), policy=EACH)
        assert [one.item for one in system.grad] == [0, 2]


def test_a_job_that_is_refused_before_it_is_sent_fails_alone(program):
    """Half of a character in a plain text has no UTF-8: that is told of its item, and the others are answered."""
    with pytest.warns(PartialWarning, match="1 of 3 items failed; the first: invalid_message"):
        response = chat_completion(
            CLIENT,
            asked(learned("Translate to Italian."), "{word}"),
            {"word": ["Hello", "half \ud83d", "Thank you"]},
            items_per_job=1,
        )
    assert [one is None for one in response.data] == [False, True, False]
    assert program.model.total == 2


def test_a_job_that_nobody_can_send_or_answer_fails_alone(program):
    """One is too large, another is refused by the endpoint: each leaves the items of the third."""
    program.model.rule(match="city 1", status=400)
    with pytest.warns(PartialWarning, match="2 of 3 items failed; the first: upstream_rejected"):
        response = chat_completion(
            CLIENT,
            asked(learned(), "Where is {city}?"),
            {"city": ["city 0", "city 1", HUGE]},
            items_per_job=1,
        )
    assert [one is None for one in response.data] == [False, True, True]


def test_a_call_of_which_nothing_can_be_sent_is_an_error(program):
    """All of its jobs are too large; so is a single one."""
    for given in (HUGE, [HUGE, HUGE]):
        with pytest.raises(BacktalkError) as refused:
            chat_completion(CLIENT, asked(learned(), "{word}"), {"word": given}, items_per_job=1)
        assert refused.value.error.code == "payload_too_large"
    assert program.model.total == 0


def test_tools_of_a_call_are_no_parameters_of_the_module(program):
    """What it holds is what it was made of: a state that was saved after a call fits a module that made none."""
    about = Parameter("Tells the weather.", role="purpose")
    tool = {"type": "function", "function": {**WEATHER["function"], "description": about}}
    chat = cog.ChatCompletion(seed=1)
    chat(CLIENT, asked(learned(), "What is the weather in Rome?"), tools=[tool])
    assert list(chat.named_parameters()) == []
    cog.ChatCompletion().load_state_dict(chat.state_dict())


# ---- E5, E6, E7: evaluations


def test_e5_what_is_all_right_costs_nothing(program):
    """P34: an empty gradient, no backward call, and the optimizer leaves the parameter alone at no call."""
    system = learned()
    response = chat_completion(CLIENT, asked(system), {"language": LANGUAGES})
    score, explanation = exact_match_evaluator(response, GREETINGS)
    explanation.backward()
    assert (score.data, texts(system)) == (3, [""])
    optimizer = TGD([system], CLIENT, momentum=1)
    before = system.id
    optimizer.step()
    assert (system.id, optimizer.state) == (before, {})
    assert program.model.total == 3
    assert get_backward_model_client().get_usage()["calls"] == 0


def test_e5_success_of_all_together_costs_nothing_as_well(program):
    """Two of three are enough for this program."""
    system = learned()
    response = chat_completion(CLIENT, asked(system), {"language": LANGUAGES})
    _, explanation = deterministic_evaluator(
        response, ["Ciao", "Hola", "Ciao"], str.__eq__, "equality", lambda scores: sum(scores) >= 2
    )
    explanation.backward()
    assert (texts(system), program.model.total) == ([""], 3)


@pytest.mark.parametrize("of", [0, 1], ids=["score", "explanation"])
def test_e6_feedback_on_either_output_needs_no_words(program, of):
    """A prediction that is a batch hears of each item by itself: one text for what was wrong, none for the rest."""
    prediction = Variable(["Rome", "Bonn"], role="answer", requires_grad=True)
    exact_match_evaluator(prediction, ["Rome", "Lima"])[of].backward()
    assert [one.entry.sample for one in prediction.grad] == [0, 1]
    right, wrong = texts(prediction)
    assert (right, 'It is "Bonn"; it should be exactly "Lima".' in wrong) == ("", True)
    assert program.model.total == 0


def test_e6_only_what_was_wrong_is_asked_about(program):
    """One backward call for one miss of three, and it shows the explanation."""
    system = learned()
    response = chat_completion(CLIENT, asked(system), {"language": LANGUAGES})
    exact_match_evaluator(response, ["Ciao", "Salut", "Ciao"])[1].backward()
    assert [bool(text) for text in texts(system)] == [True]
    assert program.model.total == 3 + 1
    (_, question) = heard(program)[3]
    assert 'it should be exactly "Salut"' in question
    assert "Of these samples, 1 shown here, 2 had nothing to criticise." in question


def test_e6_where_each_item_is_wanted_those_that_were_right_stay_empty(program):
    """Item by item, at the same cost."""
    system = learned()
    response = chat_completion(CLIENT, asked(system), {"language": LANGUAGES})
    exact_match_evaluator(response, ["Ciao", "Salut", "Ciao"])[1].backward(policy=EACH)
    assert [bool(text) for text in texts(system)] == [False, True, False]
    assert program.model.total == 3 + 1


def judge(criteria):
    task = Variable("Rate {prediction} against {target}.", role="task")
    return [{"role": "system", "content": [criteria]}, {"role": "user", "content": [task]}]


def test_e7_a_judge_criticises_the_prediction(program):
    """In eval mode: the score is its number, what it said is the feedback, and its own messages get nothing."""
    program.model.rule(match="Rate Ciao", reply='{"score": 1, "explanation": "Right."}')
    program.model.rule(match="Rate Bonjour", reply='Well: {"score": 0.25, "explanation": "Shout it."}')
    system, criteria = learned(), learned("Judge how loud it is.", "criteria")
    response = chat_completion(CLIENT, asked(system), {"language": LANGUAGES[:2]})
    score, explanation = lm_judge_evaluator(
        CLIENT, judge(criteria), response, ["Ciao", "Salut"], success_fn=lambda scores: min(scores) >= 1
    )
    assert score.data == 1.25
    explanation.backward()
    (text,) = texts(system)
    assert "Shout it." in text
    assert "Ciao" not in heard(program)[-1][1].split("## Sample 1")[1]
    assert criteria.grad == []


def test_e7_a_judge_in_training_is_criticised_itself(program):
    """With eval_mode off: gradients go to its messages and inputs, and feedback must say what was wrong."""
    program.model.rule(match="Rate Ciao", reply='{"score": 0, "explanation": "Wrong."}', times=1)
    system, criteria = learned(), learned("Judge how loud it is.", "criteria")
    scale = learned("0 to 1", "scale")
    messages = [*judge(criteria), {"role": "user", "content": [Variable("Scale: {scale}")]}]
    response = chat_completion(CLIENT, asked(system), {"language": "Italian"})
    _, explanation = lm_judge_evaluator(CLIENT, messages, response, "Ciao", {"scale": scale}, eval_mode=False)
    with pytest.raises(RuntimeError, match="needs a gradient here"):
        explanation.backward()
    explanation.backward(told("It was right, so the score should be 1."))
    assert (len(criteria.grad), len(scale.grad), system.grad) == (1, 1, [])
    assert "should be 1" in texts(criteria)[0]


def test_e7_a_judgement_that_cannot_be_read_is_an_error(program):
    """The error names the remedy."""
    prediction = Variable("Ciao", role="answer", requires_grad=True)
    with pytest.raises(ValueError, match=r"no JSON object with a number as score; .* response_format"):
        lm_judge_evaluator(CLIENT, judge(learned("Judge.")), prediction, "Ciao")


def test_e7_in_a_batch_that_item_has_no_score(program):
    """The others count, a warning tells of it, and a backward pass says that nothing is known of it."""
    program.model.rule(match="Rate a ", reply='{"score": 0.5, "explanation": "Longer."}')
    prediction = Variable(["a", "b"], role="answer", requires_grad=True)
    with pytest.warns(PartialWarning, match="1 of 2 judgements could not be read"):
        score, explanation = lm_judge_evaluator(
            CLIENT, judge(Variable("Judge.")), prediction, ["a", "b"], None, None, None, None
        )
    assert score.data == [0.5, None]
    with pytest.warns(PartialWarning, match="1 of the questions failed"):
        explanation.backward()
    assert [("Longer." in one.data, one.entry.sample) for one in prediction.grad] == [(True, 0)]


async def test_e7_a_judge_can_be_awaited(program):
    """As a module, with arguments of its own."""
    program.model.rule(reply='{"score": 3, "explanation": ""}')
    prediction = Variable("Ciao", role="answer", requires_grad=True)
    evaluator = cog.LMJudgeEvaluator(model="gpt-4.1")
    score, _ = await evaluator.acall(OpenAI(), judge(Variable("Judge.")), prediction, "Ciao")
    assert (score.data, program.model.calls[0].model) == (3, "gpt-4.1")


async def test_e7_functions_of_a_call_do_not_keep_a_judge_from_being_saved(program, tmp_path):
    """What a judge is called with is part of the program; what its model is told is kept."""
    program.model.rule(reply='{"score": 3, "explanation": ""}')
    prediction = Variable(["Ciao", "Salve"], role="answer", requires_grad=True)
    functions = {
        "success_fn": lambda scores: min(scores) > 2,
        "reduction_fn": min,
        "reduction_fn_purpose": Variable("minimum"),
        "eval_mode": False,
        "items_per_job": 1,
    }
    called, awaited = cog.LMJudgeEvaluator(model="gpt-4.1"), cog.LMJudgeEvaluator(model="gpt-4.1")
    criteria = judge(Variable("Judge."))
    scores = [
        called(OpenAI(), criteria, prediction, ["a", "b"], temperature=0.5, **functions)[0],
        (await awaited.acall(OpenAI(), criteria, prediction, ["a", "b"], temperature=0.5, **functions))[0],
    ]
    assert [score.data for score in scores] == [3, 3]
    for evaluator in (called, awaited):
        save(evaluator.state_dict(), tmp_path / "step.json")
        state = load(tmp_path / "step.json")
        assert state["modules"] == {"": {"completion_args": {"model": "gpt-4.1", "temperature": 0.5}}}
        assert state["parameters"] == {}


@pytest.mark.parametrize(
    "junk", ['{"a":' * 5000, "{" * 5000, '{"score": 1' + "0" * 5000 + "}"], ids=["deep", "open", "digits"]
)
def test_e7_a_judge_that_does_not_stop_is_read_all_the_same(program, junk):
    """The judgement before it counts, and half of an emoji in its words keeps nothing from being recorded."""
    program.model.rule(reply='{"score": 0.5, "explanation": "Louder \\ud83d"}' + junk)
    prediction = Variable("Ciao", role="answer", requires_grad=True)
    score, explanation = lm_judge_evaluator(CLIENT, judge(Variable("Judge.")), prediction, "CIAO")
    explanation.backward()
    assert score.data == 0.5
    assert "Louder ?" in texts(prediction)[0]
