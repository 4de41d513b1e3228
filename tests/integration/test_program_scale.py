"""One worker or four: the same program gives the same graph and the same gradients, up to ids."""

from collections import Counter

import pytest
from integration.conftest import Elsewhere

from backtalk import Parameter, Variable, set_backward_model_client
from backtalk import cognitive as cog
from backtalk.functional import exact_match_evaluator
from backtalk.models.backward import forget_backward_model_client
from backtalk.models.openai import OpenAI

POLICIES = ("per_sample", "digest")
WORDS = ["Hello", "Goodbye", "Thank you"]
WANTED = ["ciao", "arrivederci", "danke"]
ITEMS, PER_JOB = 24, 4


def run(batch):
    """Run the program once and return its answer, the tape, and what its parameters heard."""
    rule = Parameter("Translate the message into Italian.", role="rule")
    manner, tone = Parameter(" Be brief.", role="manner"), Parameter(" Be kind.", role="tone")
    words = Variable([WORDS[at % 3] for at in range(ITEMS)], role="word")
    messages = [
        {"role": "system", "content": [rule + manner, tone]},
        {"role": "user", "content": [Variable("{word}", role="message")]},
    ]
    chat = cog.ChatCompletion(model="gpt-4o", items_per_job=PER_JOB)
    response = chat(OpenAI(), messages, inputs={"word": words})
    response.data = [one.lower() for one in response.data]
    score, explanation = exact_match_evaluator(response, [WANTED[at % 3] for at in range(ITEMS)])
    explanation.backward(policy={"batch": batch})
    return (
        score.data,
        canonical(explanation.graph().as_json()),
        [items_of(one) for one in (rule, manner, tone)],
    )


def items_of(parameter):
    return [(one.item, one.data, one.role) for one in parameter.grad]


def canonical(tape):
    """Return a tape with its ids renamed in the order of their appearance."""
    entries = [*tape["graph"]["variables"], *tape["graph"]["operations"]]
    ids = {entry["id"] for entry in entries} | {
        id for told in tape["gradients"].values() for entry in told for id in entry["feedback"]
    }
    names = {}

    def renamed(found):
        if isinstance(found, str):
            return names.setdefault(found, f"#{len(names)}") if found in ids else found
        if isinstance(found, dict):
            return {renamed(key): renamed(value) for key, value in found.items()}
        if isinstance(found, list | tuple):
            return [renamed(one) for one in found]
        return found

    return renamed(tape)


@pytest.fixture(scope="module")
def runs(new_stage):
    """Run the program with one forward worker and with four, under both policies for batches."""
    set_backward_model_client("openai/gpt-4o")
    found = {}
    for workers in (1, 4):
        with Elsewhere(new_stage, forward=workers) as elsewhere:
            for batch in POLICIES:
                elsewhere.model.reset()
                found[workers, batch] = (*run(batch), elsewhere.model.total)
    forget_backward_model_client()
    return found


def test_the_program_is_worth_comparing(runs):
    """Six jobs, an addition, slices and a concat, an edit and an evaluation; some answers right, and some wrong."""
    score, tape, (rule, manner, tone), calls = runs[1, "per_sample"]
    assert score == 16
    counted = Counter(operation["op"] for operation in tape["graph"]["operations"])
    assert counted == {"add": 1, "slice": 6, "chat_completion": 6, "concat": 1, "edit": 1, "evaluate": 1}
    assert [item for item, text, _ in tone if text] == [at for at in range(ITEMS) if at % 3 == 2]
    assert (len(tone), len(rule), len(manner), calls) == (ITEMS, 1, 1, ITEMS + 8 * 2)


def test_a_digest_of_it_asks_less(runs):
    """A question for each job and text, and one to merge what the jobs said of the text that they read as it is."""
    score, _, heard, calls = runs[1, "digest"]
    assert score == 16
    assert [[item for item, _, _ in one] for one in heard] == [[None]] * 3
    assert calls == ITEMS + 6 * 2 + 1


@pytest.mark.parametrize("batch", POLICIES)
def test_four_workers_give_the_same_graph(runs, batch):
    """Each variable and each operation, in the same order, with the same data."""
    assert runs[4, batch][1]["graph"] == runs[1, batch][1]["graph"]


@pytest.mark.parametrize("batch", POLICIES)
def test_four_workers_give_the_same_gradients(runs, batch):
    """Text by text, each of the same item, in the same order; and as many calls."""
    one, four = runs[1, batch], runs[4, batch]
    assert four[1]["gradients"] == one[1]["gradients"]
    assert four[2] == one[2]
    assert (four[0], four[3]) == (one[0], one[3])


def test_a_canonical_form_tells_graphs_apart(runs):
    """It forgets ids and nothing else: who reads what is still told."""
    tape = runs[1, "per_sample"][1]
    operation = next(one for one in tape["graph"]["operations"] if one["op"] == "concat")
    swapped = {**operation, "inputs": [*operation["inputs"][1:], operation["inputs"][0]]}
    operations = [swapped if one is operation else one for one in tape["graph"]["operations"]]
    other = {**tape, "graph": {**tape["graph"], "operations": operations}}
    assert canonical(other) != tape
    assert canonical(tape) == tape
