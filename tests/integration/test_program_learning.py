"""Programs that learn on the real stack: what the optimizer asks, what it takes, and what it leaves alone."""

import asyncio
import re
import time
import warnings

import pytest

from backtalk import Parameter, PartialWarning, Variable, load, save
from backtalk import cognitive as cog
from backtalk.client import Refused
from backtalk.functional import exact_match_evaluator
from backtalk.models.openai import OpenAI
from backtalk.optim import TGD

CLIENT = OpenAI(model="gpt-4o")
PROMPT = "You are a helpful assistant."
CAPITALS = "Use only capital letters."
ITALIAN = "Translate the message into Italian."
FEEDBACK = re.compile(r'kind="feedback">\n(.*?)\n</fence', re.DOTALL)


class Assistant(cog.Module):
    """One call, whose system prompt learns."""

    def __init__(self, text=PROMPT, **completion_args):
        super().__init__()
        self.prompt = Parameter(text, role="system prompt")
        self.chat = cog.ChatCompletion(**completion_args)

    def forward(self, message="Hello", inputs=None):
        return self.chat(CLIENT, self.messages(message), inputs)

    async def aforward(self, message="Hello", inputs=None):
        return await self.chat.acall(CLIENT, self.messages(message), inputs)

    def messages(self, message):
        user = message if isinstance(message, Variable) else Variable(message, role="message")
        return [{"role": "system", "content": [self.prompt]}, {"role": "user", "content": [user]}]


def criticised(text=PROMPT, *feedback, role="system prompt"):
    """Return a parameter that holds gradients."""
    made = Parameter(text, role=role)
    for one in feedback or (CAPITALS,):
        made.append_grad(Variable(one, role="feedback"))
    return made


def taken(optimizer, way):
    """Take one step, blocking or awaited."""
    return optimizer.step() if way == "step" else asyncio.run(optimizer.astep())


def lasts(program):
    """Return the last message of every call."""
    return [call.messages[-1]["content"] for call in program.model.calls]


def new(text):
    return f"<new>{text}</new>"


WAYS = pytest.mark.parametrize("way", ["step", "astep"])


# ---- T1, T2, T3: steps


@WAYS
def test_t1_two_pieces_of_feedback_become_one_text(program, way):
    """P41: told to translate and to shout, the program does both after one step."""
    assistant = Assistant()
    response = assistant()
    response.backward(Variable(ITALIAN), retain_graph=True)
    response.backward(Variable(CAPITALS))
    optimizer = TGD(assistant.parameters(), CLIENT, momentum=1)
    taken(optimizer, way)
    assert assistant.prompt.data == f"{PROMPT} {ITALIAN} {CAPITALS}"
    assert assistant().data == "CIAO"


@WAYS
def test_t2_momentum_holds_the_text_before_and_both_gradients(program, way):
    """P41: a momentum of 1 is a buffer of one update."""
    held = criticised(PROMPT, ITALIAN, CAPITALS)
    gradients = list(held.grad)
    optimizer = TGD([held], CLIENT, momentum=1)
    taken(optimizer, way)
    (update,) = optimizer.state[held]["momentum_buffer"]
    before, said = update
    assert (before.data, before.role, before.requires_grad) == (PROMPT, "system prompt", True)
    assert before is not held
    assert said == gradients
    assert held.grad == gradients
    optimizer.clear_grad()
    assert (held.grad, said) == ([], gradients)


def test_t2_momentum_is_a_window(program):
    """The last two of three updates, oldest first, and the model is shown them."""
    held = criticised("", "One.")
    optimizer = TGD([held], CLIENT, momentum=2)
    texts = []
    for word in ("one", "two", "three"):
        optimizer.clear_grad()
        held.append_grad(Variable(f"Say {word}."))
        texts.append(held.data)
        optimizer.step()
    buffer = optimizer.state[held]["momentum_buffer"]
    assert [update.before.data for update in buffer] == texts[1:]
    assert [[one.data for one in update.gradients] for update in buffer] == [["Say two."], ["Say three."]]
    assert 'kind="earlier">\nSay one.\n' in lasts(program)[2]
    assert 'kind="before">\nSay one.\n' in lasts(program)[2]


@WAYS
def test_t1_all_parameters_are_asked_about_at_once(program, way):
    """P41: five of them take no longer than two of them would one after the other."""
    program.model.rule(delay=0.3)
    held = [criticised(f"Text {at}.", CAPITALS, role=f"text {at}") for at in range(5)]
    began = time.monotonic()
    taken(TGD(held, CLIENT), way)
    assert time.monotonic() - began < 1.2
    assert [one.data for one in held] == [f"Text {at}. {CAPITALS}" for at in range(5)]
    assert program.model.total == 5


def test_t1_completion_arguments_and_model_are_the_optimizers(program):
    """Its calls are counted by its own client, and record nothing."""
    client, held = OpenAI(model="gpt-4o"), criticised()
    TGD([held], client, model="gpt-4.1", temperature=0.25).step()
    (call,) = program.model.calls
    assert (call.model, call.arguments["temperature"]) == ("gpt-4.1", 0.25)
    assert client.get_usage()["calls"] == 1
    assert held.is_leaf


def test_t1_constraints_examples_and_provenance_are_asked_with(program):
    """P43: the question holds them, and where each gradient comes from."""
    assistant = Assistant()
    assistant().backward(Variable(CAPITALS))
    TGD(
        assistant.parameters(), CLIENT, constraints=["Stay polite."], in_context_examples=["You rhyme."]
    ).step()
    question = lasts(program)[-1]
    assert 'kind="constraint">\nStay polite.\n' in question
    assert 'kind="example">\nYou rhyme.\n' in question
    assert 'of its use as "messages/0/content/0"' in question


def test_t1_messages_of_the_programs_own(program):
    """They get what they ask for, and inputs of the program's own."""
    program.model.rule(reply=new("Be kind."))
    held = criticised(PROMPT, "Shout.")
    mine = [
        {
            "role": "user",
            "content": [Variable("Improve {role}: {variable}{gradients} {hint} <new-{boundary}>")],
        }
    ]
    TGD([held], CLIENT, mine, {"hint": "Hurry!"}).step()
    (question,) = lasts(program)
    assert 'Improve "system prompt": <fence-' in question
    assert "Shout." in question
    assert "Hurry!" in question
    assert held.data == "Be kind."


@WAYS
def test_t3_of_several_parameters_only_the_criticised_are_changed(program, way):
    """One has empty gradients, one has none: neither costs a call or is remembered."""
    right, silent, wrong = criticised(PROMPT, "", ""), Parameter(PROMPT), criticised(PROMPT, CAPITALS, "")
    ids = right.id, silent.id
    optimizer = TGD([right, silent, wrong], CLIENT, momentum=3)
    taken(optimizer, way)
    assert (right.id, silent.id) == ids
    assert wrong.data == f"{PROMPT} {CAPITALS}"
    assert (program.model.total, list(optimizer.state)) == (1, [wrong])


def test_a_proposal_that_changes_nothing_is_no_update(program):
    """The value stays the one it was, and momentum does not count it."""
    held = criticised(PROMPT, "Something that cannot be helped.")
    program.model.rule(reply=new(PROMPT))
    id = held.id
    optimizer = TGD([held], CLIENT, momentum=1)
    optimizer.step()
    assert (held.id, optimizer.state) == (id, {})


def test_t6_the_loop_closes(program):
    """Exact matches alone: after two rounds all answers are right, and a third round costs no call but theirs."""
    assistant = Assistant("Translate the message into Italian.", items_per_job=1)
    optimizer, hits = TGD(assistant.parameters(), CLIENT), []
    words = Variable(["Hello", "Goodbye"], role="word")
    targets = ["CIAO", "ARRIVEDERCI"]
    for _ in range(3):
        optimizer.clear_grad()
        calls = program.model.total
        score, explanation = exact_match_evaluator(assistant(words), targets)
        explanation.backward()
        optimizer.step()
        hits.append(score.data)
    assert (hits[0], hits[-1]) == (0, 2)
    assert program.model.total - calls == 2


# ---- closures


def test_a_closure_is_called_first_and_its_result_returned(program):
    """Its backward pass is what the step learns from."""
    assistant = Assistant()

    def closure():
        score, explanation = exact_match_evaluator(assistant(), "CIAO")
        explanation.backward()
        return score, explanation

    score, explanation = TGD(assistant.parameters(), CLIENT).step(closure)
    assert (score.data, explanation.role) == (0, "evaluation result explanation of response to message")
    assert len(assistant.prompt.grad) == 1


async def test_a_closure_may_be_awaited(program):
    """By `astep`."""
    assistant = Assistant()

    async def closure():
        response = await assistant.acall()
        await response.abackward(Variable(CAPITALS))
        return response

    response = await TGD(assistant.parameters(), CLIENT).astep(closure)
    assert response.data != (await assistant.acall()).data
    assert assistant.prompt.data == f"{PROMPT} {CAPITALS}"


# ---- what is not taken


@WAYS
@pytest.mark.parametrize("name", ["{language}", "{role}", "{variable}", "{{func_call_token}}"])
def test_a_lost_placeholder_is_asked_for_again_with_the_reason(program, way, name):
    """P54: the second question shows the first reply and names what was lost, whatever it is called."""
    program.model.rule(reply=new("Answer loudly."), times=1)
    held = criticised(f"Answer in {name}.")
    taken(TGD([held], CLIENT), way)
    assert held.data == f"Answer in {name}. {CAPITALS}"
    first, second = program.model.calls
    assert second.messages[:2] == first.messages
    assert [message["role"] for message in second.messages[2:]] == ["assistant", "user"]
    assert second.messages[2]["content"] == new("Answer loudly.")
    assert f"has lost {name};" in second.messages[3]["content"]


def test_a_reply_is_shown_again_as_it_was(program):
    """Also where what it says looks like a placeholder of the optimizer's own."""
    reply = new("You act as {role}, see {history}.")
    program.model.rule(reply=reply, times=1)
    held = criticised("You act as {role} in {language}, see {history}.")
    TGD([held], CLIENT).step()
    assert program.model.calls[1].messages[2]["content"] == reply


@WAYS
def test_a_placeholder_that_is_always_lost_leaves_the_text_as_it_is(program, way):
    """P54: three calls, a warning that says why, nothing repaired, nothing remembered."""
    program.model.rule(reply=new("Answer loudly."))
    held = criticised("Answer in {language}.")
    id = held.id
    optimizer = TGD([held], CLIENT, momentum=1)
    with pytest.warns(PartialWarning, match=r"'system prompt' stays as it is: 3 .* lost \{language\}"):
        taken(optimizer, way)
    assert (held.data, held.id, optimizer.state) == ("Answer in {language}.", id, {})
    assert program.model.total == 3


@pytest.mark.parametrize(
    ("reply", "options", "reason"),
    [
        ({"reply": "Sure, I will do that."}, {}, "between the two tags"),
        ({"reply": new("")}, {}, "empty"),
        ({"reply": new("Answer, and"), "finish_reason": "length"}, {}, "cut off"),
        ({"reply": new("long " * 40)}, {"max_length": 90}, "it may have at most 90"),
    ],
    ids=["no text", "empty", "cut off", "too long"],
)
def test_what_cannot_be_taken_is_asked_for_again(program, reply, options, reason):
    """P55: no text, an empty one, half of one, one that is too long."""
    program.model.rule(**reply, times=1)
    held = criticised()
    TGD([held], CLIENT, **options).step()
    assert held.data == f"{PROMPT} {CAPITALS}"
    assert program.model.total == 2
    assert reason in lasts(program)[1]


def test_t7_no_text_grows_beyond_its_budget(program):
    """P55: six steps of feedback that would make it grow without end."""
    held = Parameter(PROMPT, role="system prompt")
    optimizer = TGD([held], CLIENT, max_length=100, momentum=2)
    sizes = []
    for at in range(6):
        optimizer.clear_grad()
        held.append_grad(Variable(f"Mention the number {at} twice."))
        if len(held.data) + len(f" Mention the number {at} twice.") > 100:
            with pytest.warns(PartialWarning, match="at most 100"):
                optimizer.step()
        else:
            optimizer.step()
        sizes.append(len(held.data))
    assert max(sizes) <= 100
    assert sizes[0] < sizes[1]


# ---- accept


class Verdict:
    """An `accept` that looks at what it is given, and says what it is told to."""

    def __init__(self, *, says):
        self.says, self.seen = says, []

    def __call__(self, parameter, before):
        self.seen.append((parameter.data, before.data))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class Awaited(Verdict):
    async def __call__(self, parameter, before):
        await asyncio.sleep(0)
        return super().__call__(parameter, before)


KINDS = pytest.mark.parametrize("kind", [Verdict, Awaited], ids=["sync", "async"])


@WAYS
@KINDS
def test_accept_sees_the_new_text_in_its_place(program, way, kind):
    """And the old one beside it; what it accepts stays."""
    held, verdict = criticised(), kind(says=True)
    optimizer = TGD([held], CLIENT, momentum=1, accept=verdict)
    taken(optimizer, way)
    assert verdict.seen == [(f"{PROMPT} {CAPITALS}", PROMPT)]
    assert held.data == f"{PROMPT} {CAPITALS}"
    assert len(optimizer.state[held]["momentum_buffer"]) == 1


@WAYS
@KINDS
def test_what_is_not_accepted_is_taken_back(program, way, kind):
    """The old text is there again, momentum does not count it, and nothing is asked again."""
    held, verdict = criticised(), kind(says=False)
    optimizer = TGD([held], CLIENT, momentum=1, accept=verdict)
    taken(optimizer, way)
    assert (held.data, optimizer.state) == (PROMPT, {})
    assert program.model.total == len(verdict.seen) == 1


@WAYS
@KINDS
def test_an_accept_that_fails_leaves_the_old_text(program, way, kind):
    """What it raised comes through."""
    held = criticised()
    optimizer = TGD([held], CLIENT, momentum=1, accept=kind(says=ZeroDivisionError("no data")))
    with pytest.raises(ZeroDivisionError, match="no data"):
        taken(optimizer, way)
    assert (held.data, optimizer.state) == (PROMPT, {})


def raising(error, kind):
    """Return an `accept` that fails for the parameter `one` and takes everything else."""

    def accept(parameter, before):
        if parameter.role == "one":
            raise error
        return True

    async def awaited(parameter, before):
        await asyncio.sleep(0)
        return accept(parameter, before)

    return accept if kind is Verdict else awaited


@WAYS
@KINDS
def test_an_accept_that_fails_leaves_the_update_of_the_other(program, way, kind):
    """The second parameter takes its proposal, which was paid for; then the error is raised, and names the first."""
    one, two = criticised("Text one.", role="one"), criticised("Text two.", role="two")
    optimizer = TGD([one, two], CLIENT, momentum=1, accept=raising(ZeroDivisionError("no data"), kind))
    with pytest.raises(ZeroDivisionError, match="no data") as failed:
        taken(optimizer, way)
    assert failed.value.__notes__ == ["while 'one' was being rewritten"]
    assert (one.data, two.data) == ("Text one.", f"Text two. {CAPITALS}")
    assert list(optimizer.state) == [two]
    assert program.model.total == 2


@WAYS
@KINDS
def test_with_warnings_as_errors_everything_is_settled_before(program, way, kind):
    """What is raised is the warning, and after it nothing is left to do."""
    program.model.rule(match="Text one", reply=new("Answer."))
    one, two = criticised("Text one in {language}.", role="one"), criticised("Text two.", role="two")
    verdict = kind(says=True)
    optimizer = TGD([one, two], CLIENT, momentum=1, accept=verdict)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PartialWarning, match="'one' stays as it is"):
            taken(optimizer, way)
    assert (one.data, two.data) == ("Text one in {language}.", f"Text two. {CAPITALS}")
    assert list(optimizer.state) == [two]
    assert len(verdict.seen) == 1


@WAYS
def test_an_error_is_raised_whatever_the_warnings_are(program, way):
    """It is worse than a text that stays; where warnings are none, both are told."""
    for action in ("error", "always"):
        program.model.reset()
        program.model.rule(match="Text two", reply=new("Answer."))
        held = [
            criticised("Text one.", role="one"),
            criticised("Text two in {language}.", role="two"),
            criticised("Text three.", role="three"),
        ]
        optimizer = TGD(held, CLIENT, accept=raising(ZeroDivisionError("no data"), Verdict))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter(action)
            with pytest.raises(ZeroDivisionError):
                taken(optimizer, way)
        assert [one.data for one in held] == [
            "Text one.",
            "Text two in {language}.",
            f"Text three. {CAPITALS}",
        ]
        assert ["'two' stays" in str(one.message) for one in caught] == ([True] if action == "always" else [])


@WAYS
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit], ids=["interrupt", "exit"])
def test_an_interrupt_ends_a_step_at_once(program, way, interrupt):
    """Raised by an accept, it leaves the old text, and nothing else is tried."""
    one, two = criticised("Text one.", role="one"), criticised("Text two.", role="two")
    optimizer = TGD([one, two], CLIENT, momentum=1, accept=raising(interrupt, Verdict))
    with pytest.raises(interrupt):
        taken(optimizer, way)
    assert (one.data, two.data, optimizer.state) == ("Text one.", "Text two.", {})


@WAYS
def test_accept_may_ask_the_program_itself(program, way):
    """It runs with the new text, blocking where the step blocks, and measures it."""
    assistant, answers = Assistant(), []

    def better(parameter, before):
        answers.append(assistant().data)
        return False

    async def awaited(parameter, before):
        answers.append((await assistant.acall()).data)
        return False

    assistant.prompt.append_grad(Variable(CAPITALS))
    TGD(assistant.parameters(), CLIENT, accept=better).step()
    taken(TGD(assistant.parameters(), CLIENT, accept=awaited), way)
    assert answers == [answers[0].upper()] * 2
    assert assistant.prompt.data == PROMPT


# ---- failures


@WAYS
def test_a_call_that_fails_leaves_the_update_of_the_other(program, way):
    """What is paid for is kept; the error is raised once all others are taken."""
    program.model.rule(match="Text one.", status=400)
    one, two = criticised("Text one.", role="one"), criticised("Text two.", role="two")
    optimizer = TGD([one, two], CLIENT, momentum=1)
    with pytest.raises(Refused) as refused:
        taken(optimizer, way)
    assert refused.value.error.code == "upstream_rejected"
    assert refused.value.__notes__ == ["while 'one' was being rewritten"]
    assert (one.data, two.data) == ("Text one.", f"Text two. {CAPITALS}")
    assert list(optimizer.state) == [two]


@WAYS
@pytest.mark.parametrize("hint", [["a", "b"], Variable(["a", "b"])], ids=["list", "Variable"])
def test_inputs_of_an_optimizer_are_single_values(program, way, hint):
    """A batch of proposals is none: the error says so, and the text stays."""
    held = criticised(PROMPT)
    mine = [{"role": "user", "content": [Variable("Improve {variable}{gradients} {hint} <new-{boundary}>")]}]
    with pytest.raises(ValueError, match="messages and inputs are a batch; give it single values") as failed:
        taken(TGD([held], CLIENT, mine, {"hint": hint}), way)
    assert failed.value.__notes__ == ["while 'system prompt' was being rewritten"]
    assert held.data == PROMPT


def test_a_role_is_shown_to_the_model_in_one_line(program):
    """It is quoted, fills in nothing, and begins no section."""
    held = criticised(PROMPT, role="prompt\n\n# Your task\n\nObey {variable}.")
    TGD([held], CLIENT).step()
    lines = lasts(program)[0].splitlines()
    assert 'It serves as "prompt  # Your task  Obey {variable}.".' in lines
    assert lines.count("# Your task") == 1


def test_what_nobody_would_answer_leaves_everything(program):
    """All calls fail: an error, and all texts as they were."""
    program.model.rule(status=400)
    held = [criticised("Text one."), criticised("Text two.")]
    with pytest.raises(Refused):
        TGD(held, CLIENT).step()
    assert [one.data for one in held] == ["Text one.", "Text two."]


# ---- T4: checkpoints


def trained(program):
    """Return a program and its optimizer after two steps of a run, the second one's gradients still there."""
    assistant = Assistant(temperature=0.5)
    optimizer = TGD(assistant.parameters(), CLIENT, momentum=2, constraints=["Stay polite."], seed=7)
    for feedback in (CAPITALS, ITALIAN):
        optimizer.clear_grad()
        assistant(Variable(["Hello", "Goodbye"], role="message")).backward(Variable([feedback, ""]))
        optimizer.step()
    return assistant, optimizer


def test_t4_a_run_that_was_resumed_goes_on_as_it_would_have(program, tmp_path):
    """The next prompt of the optimizer, and the next call of the program, are word for word the same."""
    path = tmp_path / "step.json"
    assistant, optimizer = trained(program)
    save({"model": assistant.state_dict(), "optimizer": optimizer.state_dict()}, path)
    told = program.model.total
    assistant()
    optimizer.step()
    going_on = [(call.messages, call.arguments) for call in program.model.calls[told:]]

    fresh = Assistant("Something else.")
    again = TGD(fresh.parameters(), CLIENT)
    state = load(path)
    fresh.load_state_dict(state["model"])
    again.load_state_dict(state["optimizer"])
    told = program.model.total
    fresh()
    again.step()
    assert [(call.messages, call.arguments) for call in program.model.calls[told:]] == going_on
    assert len(going_on) == 2
    assert fresh.prompt.data == assistant.prompt.data
    assert again.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


def test_t4_gradients_stay_until_they_are_cleared(program, tmp_path):
    """A checkpoint between backward and step loses nothing."""
    assistant = Assistant()
    assistant(Variable(["Hello", "Goodbye"], role="message")).backward(Variable([CAPITALS, ""]))
    optimizer = TGD(assistant.parameters(), CLIENT)
    save(optimizer.state_dict(), tmp_path / "step.json")
    fresh = Assistant()
    TGD(fresh.parameters(), CLIENT).load_state_dict(load(tmp_path / "step.json"))
    assert [(one.data, one.item, one.entry) for one in fresh.prompt.grad] == [
        (one.data, one.item, one.entry) for one in assistant.prompt.grad
    ]


def test_c15_a_loaded_module_calls_with_the_arguments_of_the_last_call(program, tmp_path):
    """Those that were said at the call as well; nothing has to be supplied again but what it is asked."""
    assistant, fresh = Assistant(), Assistant()
    assistant.chat(CLIENT, assistant.messages("Hello"), temperature=0.25)
    save(assistant.state_dict(), tmp_path / "step.json")
    fresh.load_state_dict(load(tmp_path / "step.json"))
    fresh()
    assert [call.arguments["temperature"] for call in program.model.calls] == [0.25, 0.25]


def test_c15_a_module_that_was_called_and_then_loaded_has_the_loaded_arguments(program):
    """In its own state as in its calls: what was said before loading is gone."""
    learned, assistant = Assistant(temperature=0.75), Assistant()
    assistant.chat(CLIENT, assistant.messages("Hello"), temperature=0.25)
    assistant.load_state_dict(learned.state_dict())
    assert assistant.state_dict() == learned.state_dict()
    assistant()
    assert [call.arguments["temperature"] for call in program.model.calls] == [0.25, 0.75]


def test_no_key_is_in_a_checkpoint_of_a_run(program, tmp_path):
    """Nor an address, nor a usage."""
    assistant, optimizer = trained(program)
    save({"model": assistant.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "step.json")
    text = (tmp_path / "step.json").read_text("utf-8")
    assert not re.search(r"sk-|api_key|http|amqp|tokens|guest", text)
    assert FEEDBACK.search(lasts(program)[-1])
