"""Batches of programs, seen as a whole: what all items share hears once, however many they are. Rows C11 and G10."""

import re

import pytest

import backtalk
from backtalk import Parameter, PartialWarning, Variable, function, get_backward_model_client
from backtalk.functional import chat_completion, exact_match_evaluator
from backtalk.models.openai import OpenAI
from backtalk.optim import TGD
from backtalk.wire.errors import Refused

pytestmark = pytest.mark.filterwarnings("error")

CLIENT = OpenAI(model="gpt-4o")
EACH = {"batch": "per_sample"}
ITEMS = 33
# a batch of 33 in one job, and in nine
ONE, NINE = 64, 4


def learning(data="Translate the text to Italian.", role="system instruction"):
    return Parameter(data, role=role)


def words(count=ITEMS):
    return Variable([f"word {at}" for at in range(count)], role="text")


def asked(system, user, **options):
    """Ask the model one question; both contents may be batches."""
    messages = [{"role": "system", "content": [system]}, {"role": "user", "content": [user]}]
    return chat_completion(CLIENT, messages, **options)


def said(text="Use only capital letters."):
    return Variable(text, role="feedback")


def complaints(count=ITEMS):
    return Variable([f"Item {at} is wrong." for at in range(count)], role="feedback")


def numbers(text):
    """Return which items a text complains of."""
    return [int(number) for number in re.findall(r"Item (\d+) is wrong", text)]


def prompts(program):
    """Return the text of every prompt that asked for a gradient, or to merge some."""
    found = ("\n".join(str(one["content"]) for one in call.messages) for call in program.model.calls)
    return [text for text in found if "NO FEEDBACK" in text or "Make one feedback of theirs" in text]


def texts(variable):
    return [gradient.data for gradient in variable.grad]


def shown(prompt):
    """Return the samples that a prompt shows."""
    return [int(number) for number in re.findall(r"^## Sample (\d+)$", prompt, re.MULTILINE)]


# ---- C11: one gradient


def test_c11_a_batch_of_33_gives_each_variable_one_gradient(program):
    """For one question each, which shows all of them."""
    system, rule = learning(), learning("Answer in one word: {word}", role="rule")
    response = asked(system, rule, inputs={"word": words()})
    assert program.model.total == ITEMS
    response.backward(complaints())
    assert program.model.total == ITEMS + 2
    for variable, place in ((system, "messages/0/content/0"), (rule, "messages/1/content/0")):
        (gradient,) = variable.grad
        assert gradient.role == f"feedback to {variable.role}"
        assert (gradient.item, gradient.entry.sample, gradient.entry.incomplete) == (None, None, False)
        assert (gradient.about, gradient.entry.input) == (variable.id, place)
        assert gradient.entry.operation == response.graph().graph.operations[0].id
        assert gradient.entry.how == "model"
        assert "Item 0 is wrong" in gradient.data
    assert [shown(prompt) for prompt in prompts(program)] == [list(range(ITEMS))] * 2
    assert get_backward_model_client().get_usage()["calls"] == 2


def test_c11_a_batch_that_several_jobs_did_gives_one_gradient_as_well(program):
    """A question for each job, and one that merges what they say; it names what put the parts together."""
    system = learning()
    response = asked(system, words(), items_per_job=NINE)
    feedback = complaints()
    response.backward(feedback)
    (gradient,) = system.grad
    concat = response.graph().graph.operations[-1]
    assert concat.op == "concat"
    assert (gradient.entry.operation, gradient.entry.input) == (concat.id, "messages/0/content/0")
    assert (gradient.about, gradient.item, gradient.entry.sample) == (system.id, None, None)
    assert (gradient.entry.how, gradient.entry.incomplete) == ("merged", False)
    assert gradient.entry.feedback == (feedback.id,)
    assert program.model.total == ITEMS + 9 + 1
    *parts, merger = prompts(program)
    assert sorted(map(shown, parts)) == [[0], *[[0, 1, 2, 3]] * 8]
    assert sorted(number for part in parts for number in numbers(part)) == list(range(ITEMS))
    assert [first for first, *_ in map(numbers, merger.split("From a part of a batch")[1:])] == list(
        range(0, ITEMS, 4)
    )


@pytest.mark.parametrize(
    ("items_per_job", "policy", "made"),
    [
        (ONE, {}, 3),
        (NINE, {}, 9 * 3 + 2),
        (ONE, {"calls": "per_operation"}, 2),
        (NINE, {"calls": "per_operation"}, 9 * 2 + 2),
        (ONE, EACH, ITEMS * 3),
        (NINE, {**EACH, "calls": "per_operation"}, ITEMS * 2),
    ],
)
def test_c11_a_chain_of_two_calls(program, items_per_job, policy, made):
    """What the items share hears once of each call; the answers between keep a gradient for each item."""
    first, second = learning(), learning("Say it loudly.", role="rule")
    between = asked(first, words(), items_per_job=items_per_job)
    between.retain_grad()
    response = asked(second, between, items_per_job=items_per_job)
    before = program.model.total
    response.backward(complaints(), policy=policy)
    assert program.model.total - before == made
    heard = list(range(ITEMS)) if policy.get("batch") == "per_sample" else [None]
    assert [[one.item for one in variable.grad] for variable in (first, second)] == [heard, heard]
    assert [one.item for one in between.grad] == list(range(ITEMS))
    assert [numbers(one.data) for one in between.grad] == [[at] for at in range(ITEMS)]


@pytest.mark.parametrize("items_per_job", [ONE, 2])
def test_c11_a_prompt_of_two_calls_hears_once_of_each(program, items_per_job):
    """In the order of the calls, whatever the order of the feedback; not merged with each other."""
    system = learning()
    one, two = (asked(system, words(5), items_per_job=items_per_job) for _ in range(2))
    backtalk.backward([two, one], [said("Be loud."), said("Be short.")])
    assert ["Be short." in text for text in texts(system)] == [True, False]
    assert ["Be loud." in text for text in texts(system)] == [False, True]
    ends = [one.graph().graph.operations[-1].id, two.graph().graph.operations[-1].id]
    assert [gradient.entry.operation for gradient in system.grad] == ends


def test_c11_a_prompt_in_two_places_of_a_call_hears_of_both(program):
    """Of several jobs as well: parts of one place are merged, places stay apart."""
    rule = learning("Be brief.", role="rule")
    messages = [
        {"role": "system", "content": [rule]},
        {"role": "user", "content": [Variable("{word}", role="text"), rule]},
    ]
    response = chat_completion(CLIENT, messages, {"word": words(4)}, items_per_job=2)
    response.backward(said())
    assert [one.entry.input for one in rule.grad] == ["messages/0/content/0", "messages/1/content/1"]
    assert [one.entry.how for one in rule.grad] == ["merged", "merged"]


@pytest.mark.parametrize("items_per_job", [ONE, 2])
def test_c11_a_prompt_that_was_put_together_gives_its_parts_one_gradient_each(program, items_per_job):
    """What several jobs say of a sum reaches each text that it was made of, once."""
    rule, tone = learning("Be brief.", role="rule"), learning(" Be kind.", role="tone")
    asked(rule + tone, words(6), items_per_job=items_per_job).backward(complaints(6))
    assert [len(one.grad) for one in (rule, tone)] == [1, 1]
    assert numbers(texts(rule)[0]) == numbers(texts(tone)[0]) == list(range(6))


@pytest.mark.parametrize("items_per_job", [ONE, 2])
def test_c11_what_is_a_batch_itself_keeps_a_gradient_for_each_item(program, items_per_job):
    """A Variable that holds a list, and each of a list of Variables."""
    texts_of, names = (
        learning([f"text {at}" for at in range(5)], role="text"),
        [learning(f"name {at}", role="name") for at in range(5)],
    )
    question = Variable("Greet {name}.", role="question")
    response = asked(texts_of, question, inputs={"name": names}, items_per_job=items_per_job)
    response.backward(complaints(5))
    assert [(one.item, numbers(one.data)) for one in texts_of.grad] == [(at, [at]) for at in range(5)]
    assert [[numbers(text) for text in texts(name)] for name in names] == [[[at]] for at in range(5)]


def test_c11_a_function_that_all_items_share_a_text_with(program):
    """It is asked about as a call is: once for all items."""

    @function("Writes a sign behind a text.", transmit="model")
    def signed(text: str, sign: str) -> str:
        return text + sign

    sign = learning("!", role="sign")
    signed(words(5), sign).backward(complaints(5))
    assert [numbers(text) for text in texts(sign)] == [list(range(5))]
    assert program.model.total == 1


# ---- what is shown, and what is not


@pytest.mark.parametrize(
    ("wrong", "items_per_job", "made"), [((4, 5, 32), ONE, 1), ((4, 5, 32), NINE, 2 + 1), ((4, 5), NINE, 1)]
)
def test_only_what_was_wrong_is_shown(program, wrong, items_per_job, made):
    """Exact matches, most of them right: a job that was right altogether is not asked about, nor merged."""
    system = learning()
    response = asked(system, words(), items_per_job=items_per_job)
    targets = ["another" if at in wrong else text for at, text in enumerate(response.data)]
    score, explanation = exact_match_evaluator(response, targets)
    explanation.backward()
    assert score.data == ITEMS - len(wrong)
    assert [bool(text) for text in texts(system)] == [True]
    assert program.model.total == ITEMS + made
    asked_about = "\n".join(prompts(program))
    said_of = [f'It is "{text}"; it should be exactly "another".' in asked_about for text in response.data]
    assert [at for at, told in enumerate(said_of) if told] == list(wrong)
    assert sum(map(len, map(shown, prompts(program)))) == len(wrong)


@pytest.mark.parametrize("items_per_job", [ONE, NINE])
def test_g10_where_all_are_right_there_is_one_empty_gradient(program, items_per_job):
    """Without a call, and the optimizer has nothing to do."""
    system = learning()
    response = asked(system, words(), items_per_job=items_per_job)
    exact_match_evaluator(response, response.data)[1].backward()
    (gradient,) = system.grad
    assert (gradient.data, gradient.entry.how, gradient.item) == ("", "empty", None)
    before = system.id
    TGD([system], CLIENT).step()
    assert (system.id, program.model.total) == (before, ITEMS)


@pytest.mark.parametrize("items_per_job", [ONE, 2])
def test_items_that_failed_are_not_shown(program, items_per_job):
    """They have no answer to criticise; the others have, and the prompt hears once of them."""
    program.model.rule(status=400, match="word 3")
    system = learning()
    with pytest.warns(PartialWarning, match="1 of 6 items failed"):
        response = asked(system, words(6), items_per_job=items_per_job)
    response.backward(complaints(6))
    assert [numbers(text) for text in texts(system)] == [[0, 1, 2, 4, 5]]
    assert "1 had no answer, or nobody looked at it" in "".join(prompts(program))


# ---- learning from it


@pytest.mark.parametrize("items_per_job", [ONE, NINE])
def test_an_optimizer_reads_the_one_gradient(program, items_per_job):
    """One call rewrites the prompt; it is told what was said, and of no item."""
    system = learning("You are a helpful assistant.")
    optimizer = TGD([system], CLIENT, momentum=1)
    asked(system, words(), items_per_job=items_per_job).backward(said())
    before = program.model.total
    optimizer.step()
    assert program.model.total - before == 1
    question = program.model.calls[-1].messages[-1]["content"]
    assert question.count("Use only capital letters.") == 1
    assert 'of its use as "messages/0/content/0"' in question
    assert "of a batch" not in question
    assert system.data == "You are a helpful assistant. Use only capital letters."
    (update,) = optimizer.state[system]["momentum_buffer"]
    assert [gradient.data for gradient in update.gradients] == texts(system)


# ---- what a program asks for


def test_a_gradient_for_each_item_is_there_for_the_asking(program):
    """By every way to go back; one way is not the other's."""
    system = learning()
    response = asked(system, words(), items_per_job=NINE)
    for go in (response.backward, lambda *given, **options: backtalk.backward([response], *given, **options)):
        system.grad.clear()
        before = program.model.total
        go(said(), retain_graph=True, policy=EACH)
        assert [one.item for one in system.grad] == list(range(ITEMS))
        assert program.model.total - before == ITEMS


async def test_a_policy_may_be_given_to_the_awaitable_twins(program):
    """They do the same, with it and without."""
    system = learning()
    response = asked(system, words(3))
    for go in (response.abackward, lambda *given: backtalk.abackward([response], *given)):
        system.grad.clear()
        await go(said(), True, False, None, None)  # noqa: FBT003
        await go(said(), True, False, None, EACH)  # noqa: FBT003
        assert [one.item for one in system.grad] == [None, 0, 1, 2]


def test_per_operation_asks_about_all_texts_of_a_call_at_once(program):
    """Whether the batch is seen as a whole or not; each text has its own gradient."""
    system, rule = learning(), learning("Answer in one word: {word}", role="rule")
    response = asked(system, rule, inputs={"word": words(3)})
    for batch, made in (("digest", 1), ("per_sample", 3)):
        before = program.model.total
        response.backward(complaints(3), retain_graph=True, policy={"calls": "per_operation", "batch": batch})
        assert program.model.total - before == made
    assert [one.item for one in system.grad] == [one.item for one in rule.grad] == [None, 0, 1, 2]


def test_a_program_may_say_what_a_pass_may_take(program):
    """A pass that takes more is refused before its first call, with how many it takes; nothing is used up."""
    system = learning()
    response = asked(system, words(6), items_per_job=2)
    with pytest.raises(Refused, match="this takes 4 calls, and 3 are allowed") as refused:
        response.backward(said(), policy={"max_calls": 3})
    assert refused.value.error.code == "budget_exceeded"
    assert (system.grad, program.model.total) == ([], 6)
    response.backward(said(), policy={"max_calls": 4})
    assert (len(system.grad), program.model.total) == (1, 6 + 4)


def test_prompts_may_be_smaller(program):
    """A batch that is too large for one of them is asked about in groups, and what they say is merged."""
    system = learning()
    response = asked(system, Variable([f"word {at} {'more ' * 300}" for at in range(12)], role="text"))
    response.backward(complaints(12), policy={"prompt_tokens": 3000})
    assert [numbers(text) for text in texts(system)] == [list(range(12))]
    *groups, _ = prompts(program)
    assert sorted(number for group in groups for number in numbers(group)) == list(range(12))
    assert len(groups) > 1
    assert system.grad[0].entry.how == "merged"


def test_prompts_may_show_what_was_said_at_the_end(program):
    """`context` shows the last answers and what was said of them to those who wrote the first."""
    first = learning()
    response = asked(learning("Say it loudly.", role="rule"), asked(first, words(2)))
    response.backward(complaints(2), inputs=[first], policy={"context": True})
    assert len(first.grad) == 1
    assert "Item 1 is wrong." in prompts(program)[-1]


def test_a_gate_is_for_feedback_with_a_score(program):
    """Feedback of a program has none: what is said is said."""
    system = learning()
    response = asked(system, words(2))
    response.backward(said(), policy={"gate": 0})
    assert [bool(text) for text in texts(system)] == [True]


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ({"bath": "digest"}, "policy/bath: is not known"),
        ({"batch": "all"}, "policy/batch: .*'per_sample' or 'digest'"),
        ({"calls": None}, "policy/calls: "),
        ({"gate": "high"}, "policy/gate: "),
        ({"max_calls": -1}, "policy/max_calls: "),
        ({"prompt_tokens": 1}, "policy/prompt_tokens: "),
        ({"summary_characters": 500}, "policy/summary_characters: there is no summary to cap"),
        ({"context_tokens": 500}, "policy/context_tokens: there is no context to cap"),
        ({"context": True, "context_tokens": 30_000}, "policy/context_tokens: 30000 is more than half"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(program, policy, told):
    """With the field and a remedy; no model is asked, and the graph can still be used."""
    system = learning()
    response = asked(system, words(2))
    with pytest.raises(Refused, match=told) as refused:
        response.backward(said(), policy=policy)
    assert refused.value.error.code == "invalid_message"
    assert (system.grad, program.model.total) == ([], 2)
    response.backward(said())
    assert len(system.grad) == 1


# ---- what fails


def test_a_question_about_a_whole_batch_that_failed_is_an_error(program):
    """Nothing came of it; the graph can be gone through again."""
    system = learning()
    response = asked(system, words(3))
    program.model.rule(status=400, match="word 1", times=1)
    with pytest.raises(Refused, match="400"):
        response.backward(said())
    response.backward(said())
    assert len(system.grad) == 1


@pytest.mark.parametrize("count", [6, 4], ids=["two jobs are left", "one job is left"])
def test_a_job_whose_question_failed_is_missing_from_the_gradient(program, count):
    """A warning says so, and the gradient that it is not all; what the others say stands under the whole's name."""
    system = learning()
    response = asked(system, words(count), items_per_job=2)
    program.model.rule(status=400, match="word 3")
    with pytest.warns(
        PartialWarning, match="1 of the questions failed; the first, about 'system instruction'"
    ):
        response.backward(complaints(count))
    (gradient,) = system.grad
    assert numbers(gradient.data) == [at for at in range(count) if at not in (2, 3)]
    assert gradient.entry.incomplete
    assert gradient.entry.operation == response.graph().graph.operations[-1].id


def test_a_job_whose_answers_could_not_be_criticised_is_missing_further_back(program):
    """Of a chain: what failed at the second call left a job of the first without feedback, and its prompt hears so."""
    first = learning()
    response = asked(
        learning("Say it loudly.", role="rule"), asked(first, words(6), items_per_job=2), items_per_job=2
    )
    program.model.rule(status=400, match="word 3")
    with pytest.warns(PartialWarning, match="questions failed; the first, about 'response to text'"):
        response.backward(complaints(6), inputs=[first])
    (gradient,) = first.grad
    assert numbers(gradient.data) == [0, 1, 4, 5]
    assert gradient.entry.incomplete


def test_what_could_not_be_merged_is_there_as_it_was_said(program):
    """Paid for is paid for: the parts one behind the other, and a warning."""
    system = learning()
    response = asked(system, words(6), items_per_job=2)
    program.model.rule(status=400, match="Make one feedback of theirs")
    with pytest.warns(PartialWarning, match="1 of the questions failed"):
        response.backward(complaints(6))
    (gradient,) = system.grad
    assert numbers(gradient.data) == list(range(6))
    assert (gradient.entry.how, gradient.item) == ("merged", None)
