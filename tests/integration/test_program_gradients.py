"""Feedback that goes back through programs on the real stack. Rows G5, G6 and G10, scenarios P1 to P19, sessions."""

import asyncio
import random
import re
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

import backtalk
from backtalk import (
    FunctionFailed,
    PartialWarning,
    Variable,
    function,
    get_backward_model_client,
    no_grad,
    set_backward_model_client,
)
from backtalk import cognitive as cog
from backtalk.autodiff import session as sessions
from backtalk.functional import chat_completion, exact_match_evaluator, split, sum  # noqa: A004
from backtalk.models.openai import OpenAI
from backtalk.transport.envelope import BrokerUnreachable, Unroutable
from backtalk.wire.errors import Refused

pytestmark = pytest.mark.filterwarnings("error")

NOWHERE = "amqp://guest:guest@127.0.0.1:1/"
EACH = {"batch": "per_sample"}


def learning(data="Translate the text to Italian.", role="system instruction"):
    return Variable(data, role=role, requires_grad=True)


def constant(data="Hello", role="text"):
    return Variable(data, role=role)


def said(text="Use only capital letters."):
    return Variable(text, role="feedback")


def asked(system, user, **options):
    """Ask the model one question; both contents may be batches."""
    messages = [{"role": "system", "content": [system]}, {"role": "user", "content": [user]}]
    return chat_completion(OpenAI(model="gpt-4o"), messages, **options)


def texts(variable):
    return [gradient.data for gradient in variable.grad]


def samples(variable):
    return [gradient.item for gradient in variable.grad]


def backward_calls(program):
    """Return the text of every prompt that asked for a gradient."""
    texts = ("\n".join(str(one["content"]) for one in call.messages) for call in program.model.calls)
    return [text for text in texts if "NO FEEDBACK" in text]


# ---- through steps that the program took itself: no model is asked


def test_p1_feedback_on_a_sum_reaches_what_learns_and_nothing_else(program):
    """One gradient, for its role, which says what was criticised and what was said of it."""
    first, second = learning("abc", role="task"), constant("def", role="format")
    (first + second).backward(said("Say it shorter."))
    (gradient,) = first.grad
    assert (gradient.role, gradient.requires_grad, gradient.is_leaf) == ("feedback to task", False, True)
    assert gradient.data == 'Said of "task and format", of which this text is a part: Say it shorter.'
    assert second.grad == []
    assert not program.model.calls


def test_p2_a_response_has_an_edge_for_everything_it_read(program):
    """In the order of the messages, then of the inputs; what does not learn keeps its place."""
    system, language = learning("Translate 'Hello' to {language}."), learning("Italian", role="language")
    response = asked(system, constant(), inputs={"language": language})
    found = [(node and node.name(), number) for node, number in response.grad_fn.next_functions]
    assert response.grad_fn.name() == "ChatCompletionBackward"
    assert found == [("AccumulateGrad", 0), (None, 0), ("AccumulateGrad", 0)]
    assert (response.is_leaf, response.requires_grad) == (False, True)


def test_p3_without_gradients_a_call_gives_the_same_answer(program):
    """But no edges, and nothing to go back through."""
    system, user = learning(), constant()
    with no_grad():
        unrecorded = asked(system, user)
    assert unrecorded.data == asked(system, user).data == "Ciao"
    assert (unrecorded.requires_grad, unrecorded.grad_fn, unrecorded.is_leaf) == (False, None, True)
    with pytest.raises(RuntimeError, match=r"outside of no_grad\(\)"):
        unrecorded.backward(said())


def test_g5_p4_a_diamond_gives_its_leaf_exactly_two_gradients(program):
    """a leads to e through b, c and d, and by itself: one gradient for each way, in the order of the tape."""
    a = learning("a", role="a")
    d = a
    for role in "bcd":
        d = d + constant(role, role=role)
    e = a + d
    e.backward(said())
    operations = e.graph().graph.operations
    assert [gradient.entry.operation for gradient in a.grad] == [operations[0].id, operations[-1].id]
    assert [gradient.entry.input for gradient in a.grad] == ["inputs/0", "inputs/0"]
    assert len({gradient.id for gradient in a.grad}) == 2
    assert not program.model.calls


def test_g5_a_diamond_of_calls_asks_once_for_each_way(program):
    """A prompt that two answers came from, which went into a third: two gradients, each written for its call."""
    system = learning("Translate to French.", role="system instruction")
    first, second = asked(system, constant("Hello")), asked(system, constant("Good morning"))
    asked(constant("Translate to Spanish.", role="rule"), first + second).backward(
        said("Answer in one word.")
    )
    assert len(system.grad) == 2
    assert [gradient.entry.how for gradient in system.grad] == ["model", "model"]
    assert len({gradient.entry.operation for gradient in system.grad}) == 2


def test_p15_one_variable_in_two_places_of_a_call_has_two_gradients(program):
    """One for each place, as the reference counts; so it is of a sum."""
    x = learning("abc", role="text")
    (x + x).backward(said())
    assert [gradient.entry.input for gradient in x.grad] == ["inputs/0", "inputs/1"]
    rule = learning("Be brief.", role="rule")
    asked(rule, rule).backward(said())
    assert [gradient.entry.input for gradient in rule.grad] == [
        "messages/0/content/0",
        "messages/1/content/0",
    ]


def test_p5_feedback_on_two_parts_of_a_text_is_two_gradients(program):
    """One for each backward pass; each says which part it was said of."""
    x = learning("a b c", role="list")
    first, second, _ = split(x)
    first.backward(said("Write it out."), retain_graph=True)
    second.backward(said("Leave it out."))
    assert [re.search(r"part \d of \d", text)[0] for text in texts(x)] == ["part 1 of 3", "part 2 of 3"]
    assert ["Write it out." in text for text in texts(x)] == [True, False]
    assert not program.model.calls


def test_p5_feedback_on_two_parts_in_one_pass_is_one_gradient(program):
    """Both were said of the one text that was split."""
    x = learning("a b c", role="list")
    first, second, _ = split(x)
    backtalk.backward([first, second], [said("Write it out."), said("Leave it out.")])
    (text,) = texts(x)
    assert text.index("Write it out.") < text.index("Leave it out.")


def test_p13_a_sum_says_everything_once(program):
    """The roles of all; one gradient for each, and not one for each way to count it."""
    lines = [learning("one", role="first line"), learning("two", role="second line")]
    total = sum(lines)
    total.backward(said("Mind the spelling."))
    assert total.role == "first line and second line"
    assert [len(line.grad) for line in lines] == [1, 1]
    assert [texts(line)[0].count("Mind the spelling.") for line in lines] == [1, 1]


def test_p13_adding_in_place_says_everything_once_as_well(program):
    """The leaf at the beginning hears once of a chain, whatever its length."""
    first = total = learning("", role="answer")
    for _ in range(50):
        total += constant("!", role="mark")
    total.backward(said("Be calm."))
    (text,) = texts(first)
    assert text.count("Be calm.") == 1
    assert text.count("Said of") == 1


# ---- accumulation, and going through a graph again


def test_gradients_accumulate_in_order(program):
    """What was said first stands first; clearing is the program's business."""
    x = learning("abc", role="task")
    for text in ("One.", "Two.", "One."):
        (x + constant()).backward(said(text))
    assert [text.rpartition(": ")[2] for text in texts(x)] == ["One.", "Two.", "One."]
    assert len({gradient.id for gradient in x.grad}) == 3
    x.grad.clear()
    (x + constant()).backward(said("Three."))
    assert len(x.grad) == 1


def test_p12_a_graph_serves_once(program):
    """The second time is an error that says what to pass; nothing is added."""
    x = learning("abc", role="task")
    total = x + constant()
    total.backward(said())
    with pytest.raises(RuntimeError, match="pass retain_graph=True the first time"):
        total.backward(said())
    assert len(x.grad) == 1


def test_p12_unless_it_is_retained(program):
    """As often as it is; each pass adds what it says, and nothing of the one before."""
    x = learning("abc", role="task")
    total = x + constant()
    total.backward(said("One."), retain_graph=True)
    total.backward(said("Two."), True)  # noqa: FBT003
    total.backward(said("Three."))
    assert [re.findall(r"One\.|Two\.|Three\.", text) for text in texts(x)] == [["One."], ["Two."], ["Three."]]
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        total.backward(said(), retain_graph=True)


def test_p12_a_part_of_a_graph_that_was_used_is_used_up(program):
    """What was computed from it before or after cannot be gone through either; its other parts can."""
    x, y = learning("a", role="x"), learning("b", role="y")
    shared = x + constant()
    one, two, other = shared + y, shared + constant("c"), y + constant("d")
    one.backward(said())
    for used in (two, shared + y):
        with pytest.raises(RuntimeError, match="went through this graph already"):
            used.backward(said())
    other.backward(said())
    assert (len(x.grad), len(y.grad)) == (1, 2)


def test_a_pass_that_failed_leaves_the_graph_as_it_was(program):
    """What the worker refused can be sent again."""
    x = learning("abc", role="task")
    total = x + constant()
    set_backward_model_client("nowhere/gpt-4o")
    with pytest.raises(Refused, match="nowhere"):
        total.backward(said())
    set_backward_model_client("openai/gpt-4o")
    total.backward(said())
    assert len(x.grad) == 1


# ---- G6: what is asked for


def test_g6_inputs_say_whose_gradients_are_wanted(program):
    """The others get none, and cost nothing."""
    system, user = learning(), learning("Hello", role="text")
    response = asked(system, user)
    response.backward(said(), inputs=[system], retain_graph=True)
    assert (len(system.grad), len(user.grad), len(backward_calls(program))) == (1, 0, 1)
    response.backward(said(), inputs=user)
    assert (len(system.grad), len(user.grad), len(backward_calls(program))) == (1, 1, 2)


def test_g6_a_response_needs_feedback(program):
    """It does not explain itself; the message says what to give, and nothing was used up."""
    system = learning()
    response = asked(system, constant())
    with pytest.raises(RuntimeError, match="a Variable that says what should change"):
        response.backward()
    response.backward(said())
    assert len(system.grad) == 1


def test_g6_an_evaluation_needs_none(program):
    """It explains itself, on either of its outputs."""
    system = learning()
    for wrong in (0, 1):
        exact_match_evaluator(asked(system, constant()), "CIAO")[wrong].backward()
    assert len(system.grad) == 2
    assert 'it should be exactly "CIAO"' in backward_calls(program)[0]


def test_g6_inputs_that_were_changed_since_still_get_their_gradients(program):
    """A prompt that the program changed after the call hears of what it was."""
    system = learning()
    response = asked(system, constant())
    asked_with = system.id
    system.data = "Translate the text to French."
    response.backward(said())
    (gradient,) = system.grad
    assert gradient.about == asked_with
    assert "Translate the text to Italian." in backward_calls(program)[0]


def test_one_prompt_with_two_texts_hears_of_both(program):
    """A Variable is one handle, whatever it held at each call."""
    system = learning()
    first = asked(system, constant())
    system.data = "Translate the text to French."
    second = asked(system, constant())
    backtalk.backward([first, second], [said("One."), said("Two.")])
    assert [gradient.about for gradient in system.grad] == [
        one.graph().graph.operations[0].messages[0].content[0] for one in (first, second)
    ]


# ---- retain_grad


def test_an_answer_in_between_keeps_its_gradients_if_told_to(program):
    """Before the pass, and together with the leaves behind it."""
    system = learning("Translate to French.")
    middle = asked(system, constant("Hello"))
    middle.retain_grad()
    asked(constant("Translate to Spanish.", role="rule"), middle).backward(said("Answer in one word."))
    assert (len(middle.grad), len(system.grad)) == (1, 1)
    assert "one word" in texts(middle)[0]
    assert middle.grad[0].about == middle.id


def test_the_end_of_a_graph_keeps_the_feedback_itself(program):
    """What was said of it is its gradient."""
    x = learning("abc", role="task")
    total = x + constant()
    total.retain_grad()
    total.backward(said("Shorter."))
    assert texts(total) == ["Shorter."]
    assert total.grad[0].entry.operation is None


def test_p18_what_lies_behind_an_answer_that_keeps_nothing_is_reached(program):
    """That nobody asked for the gradient of a value in between does not cut the way."""
    system = learning("Translate to French.")
    middle = asked(system, constant("Hello"))
    asked(constant("Translate to Spanish.", role="rule"), middle + constant("!")).backward(
        said("Use capitals.")
    )
    assert len(system.grad) == 1
    assert "capitals" in texts(system)[0]
    with pytest.raises(RuntimeError, match="retain_grad"):
        _ = middle.grad


# ---- G10, P19: nothing to say


def test_g10_empty_feedback_is_delivered_without_a_call(program):
    """The leaf hears that there is nothing to change, which is not the same as to hear nothing."""
    system = learning()
    response = asked(system, constant())
    response.backward(said(""))
    (gradient,) = system.grad
    assert (gradient.data, gradient.entry.how) == ("", "empty")
    assert backward_calls(program) == []
    assert get_backward_model_client().get_usage()["calls"] == 0


def test_g10_success_is_delivered_without_a_call(program):
    """All answers are right: one empty gradient, or one for each of them."""
    system = learning()
    answer = asked(system, constant(["Hello", "Thank you"]))
    score, explanation = exact_match_evaluator(answer, answer.data)
    explanation.backward(retain_graph=True)
    assert score.data == 2
    assert texts(system) == [""]
    explanation.backward(policy=EACH)
    assert texts(system) == [""] * 3
    assert backward_calls(program) == []


def test_p19_where_nothing_is_said_of_an_answer_nothing_is_made_up_behind_it(program):
    """The model had nothing to say of an answer in between: what led to it costs no call."""
    program.model.rule(reply="NO FEEDBACK", match="NO FEEDBACK")
    system = learning("Translate to French.")
    middle = asked(system, constant("Hello"))
    middle.retain_grad()
    asked(constant("Translate to Spanish.", role="rule"), middle).backward(said("Use capitals."))
    assert texts(middle) == texts(system) == [""]
    assert len(backward_calls(program)) == 1


# ---- edits


def test_c14_the_backward_model_is_shown_what_the_program_made_of_an_answer(program):
    """Both texts stand in its prompt: the model's, and the program's."""
    system = learning()
    response = asked(system, constant())
    before = response.id
    response.data = "value: CIAO"
    response.backward(said("Leave out the name."))
    prompt = str(program.model.calls[-1].messages)
    assert "Ciao" in prompt
    assert "value: CIAO" in prompt
    assert "Leave out the name." in prompt
    assert (response.name, response.data) == (before, "value: CIAO")
    assert len(system.grad) == 1


def test_an_edit_of_one_item_of_a_batch_is_shown_with_that_item_alone(program):
    """The other items are what the model wrote."""
    system = learning()
    response = asked(system, constant(["Hello", "Thank you"]))
    edited = response.data
    edited[1] = "EDITED"
    response.data = edited
    response.backward(Variable(["Be short.", "Be loud."]), policy=EACH)
    first, second = backward_calls(program)
    assert ("EDITED" in first, "EDITED" in second) == (False, True)
    assert samples(system) == [0, 1]


def test_an_edit_of_one_item_stands_at_that_item_where_all_are_shown(program):
    """One question about the whole batch: the text in its place is told of the second sample alone."""
    response = asked(learning(), constant(["Hello", "Thank you"]))
    edited = response.data
    edited[1] = "EDITED"
    response.data = edited
    response.backward(Variable(["Be short.", "Be loud."]))
    (prompt,) = backward_calls(program)
    first, second = prompt.split("## Sample ")[1:]
    assert ("EDITED" in first, "EDITED" in second) == (False, True)


# ---- functions


def test_p11_feedback_flows_through_a_function_that_failed(program):
    """The Variable of the exception leads to the answer and to the prompt behind it, and shows the error."""

    @function("Reads the number that the answer consists of.")
    def number(answer: str) -> int:
        return int(answer)

    system = learning("Say how many words there are.", role="system instruction")
    with pytest.raises(FunctionFailed, match="invalid literal") as caught:
        number(asked(system, constant("one two three")))
    caught.value.output.backward(said("Answer with a number only."))
    (gradient,) = system.grad
    assert "number only" in gradient.data
    assert gradient.entry.how == "model"
    assert 'which the function "number" made' in backward_calls(program)[0]


def test_p11_both_inputs_of_a_function_that_failed_hear_of_it(program):
    """Each is asked about by itself, and the question shows the error."""

    @function("Takes a text out of another.")
    def without(text: str, part: str) -> str:
        raise LookupError(f"there is no {part}")

    x, y = learning("abc", role="whole"), learning("d", role="part")
    with pytest.raises(FunctionFailed) as caught:
        without(x, y)
    caught.value.output.backward(said("Do not ask for what is not there."))
    assert (len(x.grad), len(y.grad)) == (1, 1)
    assert all("there is no d" in prompt for prompt in backward_calls(program))


# ---- several ends


def test_feedback_on_several_answers_is_one_pass(program):
    """A prompt that led to both hears of both, in the order of the calls."""
    system = learning()
    one, two = asked(system, constant("Hello")), asked(system, constant("Thank you"))
    backtalk.backward([two, one], [said("Be loud."), said("Be short.")])
    assert ["Be short" in text for text in texts(system)] == [True, False]
    for used in (one, two):
        with pytest.raises(RuntimeError, match="already"):
            used.backward(said())


def test_feedback_on_an_answer_and_on_what_came_of_it_go_together(program):
    """The answer in between hears of both, and so does what led to it."""
    system = learning("Translate to French.")
    first = asked(system, constant("Hello"))
    second = asked(constant("Translate to Spanish.", role="rule"), first)
    first.retain_grad()
    backtalk.backward([first, second], [said("Be polite."), said("Use capitals.")])
    assert len(first.grad) == 2
    assert texts(first)[0] == "Be polite."
    (gradient,) = system.grad
    assert "polite" in gradient.data
    assert "capitals" in gradient.data


def test_several_ends_of_which_some_explain_themselves(program):
    """None stands for the words of an evaluation."""
    system = learning()
    answer = asked(system, constant())
    _, explanation = exact_match_evaluator(answer, "CIAO")
    backtalk.backward([explanation, answer], [None, said("Be polite.")])
    (prompt,) = backward_calls(program)
    assert "Be polite." in prompt
    assert "exactly" in prompt


async def test_a_single_variable_needs_no_list(program):
    """Nor does a single gradient, blocking or awaited; feedback that is not needed may be left out."""
    x = learning("abc", role="task")
    backtalk.backward(x + constant(), said("Shorter."))
    await backtalk.abackward(x + constant(), said("Longer."))
    backtalk.backward(exact_match_evaluator(x, "abd")[1])
    assert ["Shorter." in text for text in texts(x)] == [True, False, False]
    assert ["Longer." in text for text in texts(x)] == [False, True, False]
    assert 'it should be exactly "abd"' in texts(x)[2]


async def test_variables_gradients_and_inputs_may_come_from_generators(program):
    """Each is gone through once."""
    x, y = learning("abc", role="x"), learning("def", role="y")
    for way in range(2):
        ends = [x + constant(), x + y]
        given = (one for one in ends), (said(text) for text in ("One.", "Two."))
        if way:
            await backtalk.abackward(*given, inputs=(one for one in [x]))
        else:
            backtalk.backward(*given, inputs=(one for one in [x]))
    assert ["One." in text for text in texts(x)] == [True, False, True, False]
    assert ["Two." in text for text in texts(x)] == [False, True, False, True]
    assert y.grad == []


async def test_several_ends_are_awaited_as_well(program):
    """The twin does the same."""
    system = learning()
    one, two = asked(system, constant("Hello")), asked(system, constant("Thank you"))
    await backtalk.abackward([one, two], [said("Be short."), said("Be loud.")])
    assert len(system.grad) == 2


# ---- batches


def test_feedback_may_be_one_text_for_each_item(program):
    """Each goes to its own item, empty ones cost nothing."""
    system, words = learning(), learning(["Hello", "Thank you", "Good morning"], role="text")
    asked(system, words).backward(Variable(["Be short.", "", "Be loud."]), policy=EACH)
    for variable in (system, words):
        assert samples(variable) == [0, 1, 2]
        assert [bool(text) for text in texts(variable)] == [True, False, True]
    assert "Be short" in texts(system)[0]
    assert "Be loud" in texts(system)[2]
    assert len(backward_calls(program)) == 4


def test_one_text_of_feedback_is_said_of_every_item(program):
    """A gradient for each of them, where that is wanted."""
    system = learning()
    asked(system, constant(["Hello", "Thank you"])).backward(said("Be short."), policy=EACH)
    assert samples(system) == [0, 1]
    assert all("Be short" in text for text in texts(system))


def test_feedback_has_to_be_of_the_same_length(program):
    """It is told before anything is sent, with both lengths."""
    response = asked(learning(), constant(["Hello", "Thank you"]))
    with pytest.raises(ValueError, match=r"a list of 3.* one text for each of the 2 items"):
        response.backward(Variable(["a", "b", "c"]))
    assert backward_calls(program) == []


def test_an_item_that_failed_is_none_and_the_others_are_kept(program):
    """A warning says what happened to it; it is not criticised, and the others are."""
    program.model.rule(status=400, match="poison")
    system = learning()
    with pytest.warns(PartialWarning, match="1 of 3 items failed; the first: upstream_rejected"):
        response = asked(system, constant(["Hello", "poison", "Thank you"]))
    assert [item is None for item in response.data] == [False, True, False]
    assert ["error" in one for one in response.completions] == [False, True, False]
    response.backward(said("Be short."), policy=EACH)
    assert samples(system) == [0, 2]


def test_the_answer_to_a_batch_in_which_everything_failed_is_an_error(program):
    """Nothing came of it; the error is the endpoint's."""
    program.model.rule(status=400)
    with pytest.raises(Refused, match="400"):
        asked(learning(), constant(["Hello", "Thank you"]))


def test_a_gradient_that_failed_is_told_of_and_the_others_are_kept(program):
    """The graph has been gone through all the same."""
    system = learning()
    response = asked(system, constant(["Hello", "poison", "Thank you"]))
    program.model.rule(status=400, match="poison")
    with pytest.warns(
        PartialWarning, match=r"1 of the questions failed; the first, about .*upstream_rejected"
    ):
        response.backward(said("Be short."), policy=EACH)
    assert samples(system) == [0, 2]
    with pytest.raises(RuntimeError, match="already"):
        response.backward(said())


def test_the_warning_names_what_was_asked_about_by_its_role(program):
    """Ids say nothing to who reads it."""
    system = learning(role="house rules")
    response = asked(system, constant(["Hello", "poison"]))
    program.model.rule(status=400, match="poison")
    with pytest.warns(
        PartialWarning, match="1 of the questions failed; the first, about 'house rules': upstream"
    ):
        response.backward(said("Be short."), policy=EACH)


def test_a_graph_that_is_too_large_for_a_message_is_told_with_the_remedy(program):
    """Before anything is sent; nothing is used up, and what a part of it would have said can still be asked for."""
    x = learning("abc", role="task")
    small = x + constant()
    total = small + constant(random.Random(0).randbytes(9_000_000).hex(), role="enclosure")
    with pytest.raises(
        Refused, match="too large for one message; call the program with fewer items at a time"
    ) as refused:
        total.backward(said())
    assert refused.value.error.code == "payload_too_large"
    assert "gradients accumulate" in str(refused.value)
    assert x.grad == []
    small.backward(said())
    assert len(x.grad) == 1


def test_gradients_of_which_none_could_be_computed_are_an_error(program):
    """Nothing is added, and the graph can be gone through again."""
    system = learning()
    response = asked(system, constant())
    program.model.rule(status=400, times=1)
    with pytest.raises(Refused, match="400"):
        response.backward(said())
    assert system.grad == []
    response.backward(said())
    assert len(system.grad) == 1


def test_warnings_point_at_the_line_of_the_program(program):
    """Of the function, of the module, and of both ways to go back."""
    program.model.rule(status=400, match="poison")
    system, words = learning(), constant(["Hello", "poison"])
    messages = [{"role": "system", "content": [system]}, {"role": "user", "content": [words]}]
    chat, client = cog.ChatCompletion(model="gpt-4o"), OpenAI(model="gpt-4o")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        chat_completion(client, messages)
        chat(client, messages)
    clean = asked(system, constant(["Hello", "Thank you"]))
    other = asked(system, constant(["Hello", "Thank you"]))
    program.model.rule(status=400, match="Thank")
    with warnings.catch_warnings(record=True) as also:
        warnings.simplefilter("always")
        clean.backward(said(), policy=EACH)
        backtalk.backward([other], [said()], policy=EACH)
    assert [one.filename == __file__ for one in [*caught, *also]] == [True] * 4


def test_a_batch_split_into_jobs_gives_gradients_for_all_its_items_in_order(program):
    """21 items in six jobs: the prompt hears of each once, by its place in the whole batch."""
    system, words = learning(), learning([f"word {at}" for at in range(21)], role="text")
    response = asked(system, words, items_per_job=4)
    assert ["word" in str(item) for item in response.data] == [True] * 21
    response.backward(Variable([f"Feedback number {at}." for at in range(21)]), policy=EACH)
    for variable in (words, system):
        told = [int(re.search(r"number (\d+)", text)[1]) for text in texts(variable)]
        assert told == list(range(21))
    assert samples(words) == list(range(21))


def test_samples_of_a_prompt_count_through_a_batch_that_was_split(program):
    """Whatever jobs a batch was split into, an entry says which item of the batch it concerns."""
    system = learning()
    response = asked(system, constant([f"word {at}" for at in range(21)]), items_per_job=4)
    response.backward(said(), policy=EACH)
    assert samples(system) == list(range(21))


@pytest.mark.parametrize("batch", ["per_sample", "digest"])
def test_a_batch_split_into_jobs_is_the_same_program(program, batch):
    """Answers and gradients are those of one job, up to ids and samples."""
    told = []
    for items_per_job in (2, 16):
        system, words = (
            learning(),
            learning(["Hello", "Thank you", "poison", "Good morning", "Hello"], role="text"),
        )
        program.model.reset()
        program.model.rule(status=400, match="poison")
        with pytest.warns(PartialWarning, match="1 of 5"):
            response = asked(system, words, items_per_job=items_per_job)
        feedback = Variable(["One.", "Two.", "Three.", "Four.", "Five."])
        response.backward(feedback, policy={"batch": batch})
        told.append((response.data, texts(system), texts(words), samples(words)))
    assert told[0] == told[1]


def test_a_job_of_a_split_batch_that_failed_leaves_items_that_failed(program):
    """The others are kept, index by index."""
    program.model.rule(status=400, match="poison")
    system = learning()
    with pytest.warns(PartialWarning, match="2 of 5"):
        response = asked(system, constant(["a", "b", "poison 1", "poison 2", "c"]), items_per_job=2)
    assert [item is None for item in response.data] == [False, False, True, True, False]
    response.backward(said("Be short."), policy=EACH)
    assert samples(system) == [0, 1, 4]


def test_a_list_of_variables_hears_item_by_item(program):
    """Each of them has one gradient, also where the batch was split."""
    names = [learning(name, role="name") for name in ("Anna", "Ben", "Cleo", "Dan", "Eve")]
    response = asked(
        constant("Greet.", role="rule"), constant("Greet {name}."), inputs={"name": names}, items_per_job=2
    )
    response.backward(Variable([f"Feedback number {at}." for at in range(5)]))
    assert [re.findall(r"number (\d)", texts(name)[0]) for name in names] == [[str(at)] for at in range(5)]
    assert [len(name.grad) for name in names] == [1] * 5


def test_unrecorded_a_batch_is_split_and_put_together_as_well(program):
    """No graph is kept, and the answers are the same."""
    words = constant(["Hello", "Thank you", "Good morning"])
    with no_grad():
        unrecorded = asked(learning(), words, items_per_job=2)
    assert unrecorded.data == asked(learning(), words).data
    assert unrecorded.is_leaf


def test_p20_feedback_goes_back_through_a_chain_of_five_thousand_operations(program):
    """In seconds, without a call, and said once."""
    counter = total = learning(0, role="counter")
    for _ in range(5000):
        total += constant(1, role="increment")
    began = time.monotonic()
    total.backward(said("Begin at 1."))
    assert time.monotonic() - began < 10
    (text,) = texts(counter)
    assert text.count("Begin at 1.") == 1
    assert not program.model.calls


# ---- the tape


def test_the_tape_shows_the_gradients_found_so_far(program):
    """By the id of what they are about; of a Variable that learns, of all its values."""
    system = learning()
    response = asked(system, constant())
    assert response.graph().gradients == {}
    response.backward(said())
    tape = response.graph()
    assert {id: [entry.text for entry in entries] for id, entries in tape.gradients.items()} == {
        system.id: texts(system)
    }
    assert texts(system)[0] in str(tape.as_json()["gradients"])
    system.grad.clear()
    assert response.graph().gradients == {}


def test_operations_stand_in_the_order_of_submission(program):
    """A slow call that was begun first stands first."""
    program.model.rule(delay=0.4, match="slow")

    async def both():
        messages = [[{"role": "user", "content": [learning(text)]}] for text in ("slow", "fast")]
        chat, client = cog.ChatCompletion(model="gpt-4o"), OpenAI()
        return await asyncio.gather(*(chat.acall(client, one) for one in messages))

    slow, fast = asyncio.run(both())
    recorded = (fast + slow).graph().graph
    assert [one.outputs[0] for one in recorded.operations[:2]] == [slow.id, fast.id]


def test_a_prompt_that_is_changed_while_it_is_being_answered(program):
    """The call and its gradient are about the text that was sent; the change is for the next call."""
    program.model.rule(delay=0.4, times=1)
    system, other = learning(), constant()

    async def changed_meanwhile():
        messages = [{"role": "system", "content": [system]}, {"role": "user", "content": [other]}]
        call = asyncio.create_task(cog.ChatCompletion(model="gpt-4o").acall(OpenAI(), messages))
        await asyncio.sleep(0.2)
        system.data = "Translate the text to French."
        return await call

    sent = system.id
    response = asyncio.run(changed_meanwhile())
    assert response.data == "Ciao"
    response.backward(said())
    assert [gradient.about for gradient in system.grad] == [sent]


# ---- threads


def test_eight_threads_may_call_and_criticise_at_once(program):
    """Each its own program, all with one prompt: nothing is lost, and nobody waits for the other."""
    system, before = learning(), set(threading.enumerate())
    program.model.rule(delay=0.1)

    def one(at):
        response = asked(system, constant(f"word {at}"))
        response.backward(said(f"Feedback number {at}."))
        return response.data

    began = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(one, range(16)))
    assert ["word" in answer for answer in answers] == [True] * 16
    assert sorted(int(re.search(r"number (\d+)", text)[1]) for text in texts(system)) == list(range(16))
    assert time.monotonic() - began < 3
    assert get_backward_model_client().get_usage()["calls"] == 16
    assert len(set(threading.enumerate()) - before) <= 1


def test_gradients_of_a_blocking_pass_are_there_when_it_returns(program):
    """Nothing is pending: what was asked for can be read at once, and from any thread."""
    system = learning()
    response = asked(system, constant())
    response.backward(said())
    with ThreadPoolExecutor(1) as threads:
        assert len(threads.submit(lambda: system.grad).result()) == 1


async def test_blocking_calls_in_the_connections_own_thread_are_refused(program):
    """They would wait for themselves; the message names the awaitable twins."""

    async def blocking(client):
        return asked(learning(), constant())

    with pytest.raises(RuntimeError, match="use the awaitable twin"):
        await sessions.current().arun(blocking)


async def test_a_call_that_is_cancelled_is_given_up(program):
    """Its task ends at once; the next call is answered."""
    program.model.rule(delay=5, times=1)
    chat, messages = cog.ChatCompletion(model="gpt-4o"), [{"role": "user", "content": [learning("Hello")]}]
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await chat.acall(OpenAI(), messages)
    assert time.monotonic() - began < 2
    assert (await chat.acall(OpenAI(), messages)).data


# ---- sessions


@pytest.fixture
def reconnected(elsewhere):
    """Give the other tests their connection back."""
    yield elsewhere
    backtalk.connect(elsewhere.stage.url, namespace=elsewhere.stage.names.namespace)


@pytest.fixture
def anew(program, reconnected):
    """Return what chooses the broker of the tests again, and how many threads have been begun since then."""
    backtalk.close()
    before = set(threading.enumerate())

    def connections():
        found = set(threading.enumerate()) - before
        return len([thread for thread in found if thread.name == "backtalk connection"])

    def choose():
        return backtalk.connect(reconnected.stage.url, namespace=reconnected.stage.names.namespace)

    return choose, connections


def test_nothing_is_connected_before_something_is_sent(anew):
    """connect() names a broker and nothing more; the first call connects, close() ends it, thread and all."""
    choose, connections = anew
    choose()
    system = learning()
    (system + constant()).graph()
    assert connections() == 0
    asked(system, constant())
    asked(system, constant())
    assert connections() == 1
    backtalk.close()
    backtalk.close()
    assert connections() == 0


def test_after_close_the_next_call_connects_again_to_the_same_broker(anew):
    """What was recorded before goes on: a graph needs no connection."""
    choose, connections = anew
    url = choose()._new_client()._url
    system = learning()
    response = asked(system, constant())
    backtalk.close()
    assert sessions.current()._new_client()._url == url
    response.backward(said())
    assert (len(system.grad), connections()) == (1, 1)


def test_a_connection_may_be_for_a_block(anew, reconnected, monkeypatch):
    """It ends with the block; then calls go where the environment says, and graphs with them."""
    choose, connections = anew
    system = learning()
    with choose():
        response = asked(system, constant())
        assert connections() == 1
    assert connections() == 0
    monkeypatch.setenv("BACKTALK_AMQP_URL", reconnected.stage.url)
    monkeypatch.setenv("BACKTALK_NAMESPACE", reconnected.stage.names.namespace)
    response.backward(said())
    assert (len(system.grad), connections()) == (1, 1)


def test_a_broker_that_is_not_there_is_told_after_the_patience(anew):
    """BrokerUnreachable, soon; nothing is used up, and another broker can be chosen."""
    choose, _ = anew
    choose()
    system = learning()
    response = asked(system, constant())
    backtalk.connect(NOWHERE, patience=1)
    began = time.monotonic()
    for use in (lambda: asked(system, constant()), lambda: response.backward(said())):
        with pytest.raises(BrokerUnreachable, match="no broker answered within 1 s"):
            use()
    assert time.monotonic() - began < 5
    choose()
    response.backward(said())
    assert len(system.grad) == 1


def test_a_namespace_without_workers_is_told_at_once(program, reconnected):
    """No queue was ever declared there; the message says so."""
    backtalk.connect(reconnected.stage.url, namespace="nobody-is-here", patience=2)
    with pytest.raises(Unroutable, match="worker"):
        asked(learning(), constant())


def test_closing_while_a_call_waits_ends_the_call(program, anew):
    """In the other thread, with an error that says so."""
    choose, _ = anew
    choose()
    program.model.rule(delay=5, times=1)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(asked, learning(), constant())
        while program.model.total < 1:
            time.sleep(0.01)
        began = time.monotonic()
        backtalk.close()
        error = call.exception(timeout=10)
    assert time.monotonic() - began < 3
    assert isinstance(error, Exception)
    assert "closed" in str(error)


async def test_closing_while_a_call_is_awaited_cancels_no_task(program, anew):
    """A task that nobody cancelled must not look as if somebody had."""
    choose, _ = anew
    choose()
    program.model.rule(delay=5, times=1)
    chat, messages = cog.ChatCompletion(model="gpt-4o"), [{"role": "user", "content": [learning("Hello")]}]
    call = asyncio.create_task(chat.acall(OpenAI(), messages))
    while program.model.total < 1:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(backtalk.close)
    done, _ = await asyncio.wait({call}, timeout=5)
    assert done
    assert not call.cancelled()
    assert isinstance(call.exception(), Exception)


def test_closing_while_it_connects_leaves_nothing_behind(anew):
    """At any moment of it: no thread, no connection, and nobody waits for either."""
    choose, connections = anew

    async def nothing(client):
        pass

    began = time.monotonic()
    for milliseconds in range(1, 12, 2):
        session = choose()
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(session.run, nothing)
            time.sleep(milliseconds / 1000)
            session.close()
            call.exception(timeout=10)
    assert connections() == 0
    assert time.monotonic() - began < 3


def test_a_call_that_comes_too_late_for_its_connection_begins_none(anew):
    """It had looked up which to use when another was chosen: nobody would ever close what it begins."""
    choose, connections = anew

    async def nothing(client):
        pass

    choose()
    late = sessions.current()
    late.run(nothing)
    choose()
    with suppress(ConnectionError):
        late.run(nothing)
    backtalk.close()
    assert connections() == 0


def test_calls_and_closings_at_once_leave_nobody_waiting(program, anew):
    """Every call is answered or fails; none waits for a connection that is gone."""
    choose, connections = anew
    choose()
    until = time.monotonic() + 1

    def calls():
        while time.monotonic() < until:
            with suppress(Exception):
                asked(learning(), constant())

    def closings():
        while time.monotonic() < until:
            choose()
            time.sleep(0.01)

    working = [threading.Thread(target=one, daemon=True) for one in (*[calls] * 4, closings)]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join(max(0.1, until + 8 - time.monotonic()))
    assert [thread.is_alive() for thread in working] == [False] * 5
    backtalk.close()
    assert connections() == 0
