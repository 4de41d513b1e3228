"""Graphs of all shapes, judged at their end: who hears how often, and how many calls that takes at the endpoint."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from fixtures.tapes import call, feedback, param, step, tape

pytestmark = pytest.mark.asyncio(loop_scope="module")

BAD = "It should be shorter."


async def answered(stage, graph, said, **fields):
    """Send feedback and return the answer, which is to be complete."""
    answer = (await stage.ask(feedback(graph, said, **fields), role="backward")).json
    assert answer["status"] == "completed", answer
    assert answer["usage"].get("calls") == stage.model.total
    return answer["gradients"]


def readers(entries):
    return [entry["operation"] for entry in entries]


def tokens(call):
    """About how many tokens a prompt takes, as the policy counts them."""
    return sum(-(-len(message["content"].encode()) // 4) for message in call.messages)


# ---- diamonds


async def test_what_is_read_at_both_ends_hears_from_both(pair):
    """A parameter read by the first and by the last call has an entry of each, in tape order (P4)."""
    graph = tape(
        {"a": param()}, call("1", "a", "b"), call("2", "b", "c"), call("3", "c", "d"), call("4", "d a", "e")
    )
    gradients = await answered(pair, graph, {"e": BAD})
    assert readers(gradients["a"]) == ["1", "4"]
    assert [entry["how"] for entry in gradients["a"]] == ["model", "model"]
    assert pair.model.total == 5


async def test_a_diamond_asks_about_its_stem_once_with_both_criticisms(pair):
    """Both branches stand before the question about what they share."""
    graph = tape(
        {"p": param()}, call("s", "p", "x"), call("l", "x", "y"), call("r", "x", "z"), call("j", "y z", "o")
    )
    gradients = await answered(pair, graph, {"o": BAD}, wrt=["p", "x"])
    assert (readers(gradients["x"]), readers(gradients["p"])) == (["l", "r"], ["s"])
    assert pair.model.total == 5
    last = pair.model.calls[-1].messages[-1]["content"]
    assert last.count('kind="feedback"') == 2


async def test_stacked_diamonds_take_calls_in_their_number(pair):
    """Of 256 ways through eight diamonds none is gone twice: four calls each, two entries for each stem."""
    operations = []
    for at in range(8):
        operations += [
            call(f"l{at}", f"n{at}", f"y{at}"),
            call(f"r{at}", f"n{at}", f"z{at}"),
            call(f"j{at}", f"y{at} z{at}", f"n{at + 1}"),
        ]
    graph = tape({"n0": param()}, *operations)
    stems = [f"n{at}" for at in range(8)]
    gradients = await answered(pair, graph, {"n8": BAD}, wrt=stems)
    assert [readers(gradients[stem]) for stem in stems] == [[f"l{at}", f"r{at}"] for at in range(8)]
    assert pair.model.total == 32


# ---- what flows


@pytest.mark.parametrize("requires_grad", [True, False])
async def test_what_is_not_trained_transmits(pair, requires_grad):
    """A variable on the way passes the criticism on, whatever it states, and has no entry of its own (P18)."""
    middle = {"data": "Text.", "requires_grad": requires_grad}
    graph = tape({"p": param(), "x": middle, "q": "Fixed."}, call("1", "p q", "x"), call("2", "x q", "y"))
    gradients = await answered(pair, graph, {"y": BAD})
    assert {id: readers(entries) for id, entries in gradients.items()} == {"p": ["1"]}
    assert pair.model.total == 2


async def test_only_trained_ancestors_are_reported(pair):
    """Who is no ancestor of what was criticised has an empty list, and nobody is asked about it (P9)."""
    graph = tape({"p": param(), "q": param()}, call("1", "p", "x"), call("2", "q", "y"))
    gradients = await answered(pair, graph, {"x": BAD})
    assert {id: len(entries) for id, entries in gradients.items()} == {"p": 1, "q": 0}
    assert pair.model.total == 1


async def test_nothing_to_criticise_costs_nothing_and_is_recorded(pair):
    """Empty feedback is passed down the whole way as the empty gradient, without a call (P17, P19)."""
    graph = tape({"p": param()}, call("1", "p", "x"), step("edit", "2", "x", "y"), call("3", "y p", "z"))
    gradients = await answered(pair, graph, {"z": ""}, wrt=["p", "x", "y"])
    found = {id: [(one["operation"], one["how"], one["text"]) for one in gradients[id]] for id in gradients}
    assert found == {
        "p": [("1", "empty", ""), ("3", "empty", "")],
        "x": [("2", "empty", "")],
        "y": [("3", "empty", "")],
    }
    assert gradients["p"][0]["feedback"] == ["feedback/0"]
    assert pair.model.total == 0


async def test_a_call_that_finds_nothing_ends_the_questions_behind_it(pair):
    """The step before is not asked about a criticism that nobody made."""
    pair.model.rule(reply="NO FEEDBACK")
    graph = tape({"p": param()}, call("1", "p", "x"), call("2", "x", "y"))
    gradients = await answered(pair, graph, {"y": BAD})
    assert [(one["how"], one["text"]) for one in gradients["p"]] == [("empty", "")]
    assert pair.model.total == 1


@pytest.mark.parametrize(("batch", "count"), [("per_sample", 33), ("digest", 1)])
@pytest.mark.parametrize("text", ["", [""] * 33, None], ids=["one", "each", "evaluated"])
async def test_a_batch_that_is_all_right_costs_nothing(pair, batch, count, text):
    """33 of 33 are right: the empty gradient, for each sample or once, and no call (P34, P35)."""
    samples = [f"{at}" for at in range(33)]
    score = step(
        "evaluate",
        "eval",
        "y",
        "score why",
        purpose="exact match",
        scores=[1] * 33,
        explanations=[""] * 33,
        succeeded=[True] * 33,
        reduction="mean",
    )
    graph = tape({"p": param(), "x": samples, "y": samples, "score": 1.0}, call("1", "p x", "y"), score)
    said = {"score": None} if text is None else {"y": text}
    gradients = await answered(pair, graph, said, policy={"batch": batch})
    assert [(one["how"], one["text"]) for one in gradients["p"]] == [("empty", "")] * count
    assert pair.model.total == 0


# ---- sums, and one parameter twice


@pytest.mark.parametrize("op", ["add", "sum"])
async def test_two_texts_together_get_one_gradient_each(pair, op):
    """It names what it was said of, and costs no call (P1, P13)."""
    graph = tape({"a": param("abc"), "b": param("def"), "o": "abc\ndef"}, step(op, "1", "a b", "o"))
    gradients = await answered(pair, graph, {"o": BAD})
    told = f'Said of "role of o", of which this text is a part: {BAD}'
    for at, id in enumerate("ab"):
        assert [(one["text"], one["how"], one["input"]) for one in gradients[id]] == [
            (told, "copied", f"inputs/{at}")
        ]
    assert pair.model.total == 0


@pytest.mark.parametrize(("calls", "made"), [("per_variable", 2), ("per_operation", 1)])
async def test_a_parameter_that_is_read_twice_has_two_gradients(pair, calls, made):
    """One for each position, in their order (P15)."""
    graph = tape({"p": param()}, call("1", "p p", "x"))
    gradients = await answered(pair, graph, {"x": BAD}, policy={"calls": calls})
    assert [one["input"] for one in gradients["p"]] == ["messages/0/content/0", "messages/0/content/1"]
    assert pair.model.total == made


@pytest.mark.parametrize("op", ["add", "sum"])
async def test_a_parameter_that_is_added_to_itself_has_two_gradients(pair, op):
    """Also where no model is asked (P15)."""
    gradients = await answered(pair, tape({"p": param()}, step(op, "1", "p p", "x")), {"x": BAD})
    assert [one["input"] for one in gradients["p"]] == ["inputs/0", "inputs/1"]
    assert pair.model.total == 0


# ---- the gate


@pytest.mark.parametrize(("score", "made"), [(0.95, 0), (0.9, 0), (0.5, 2), (None, 2)])
async def test_what_scored_enough_is_not_asked_about(pair, score, made):
    """From the gate on no call and the empty gradient; below, a call for each trained input (P40)."""
    graph = tape({"p": param(), "q": param(), "r": "Fixed."}, call("1", "p q r", "x"))
    item = {"variable": "x", "text": BAD, **({"score": score} if score is not None else {})}
    gradients = await answered(pair, graph, [item], policy={"gate": 0.9})
    assert [one["how"] for id in "pq" for one in gradients[id]] == ["model" if made else "empty"] * 2
    assert pair.model.total == made


async def test_the_gate_looks_at_each_sample(pair):
    """Of a batch only the items below it are asked about."""
    graph = tape({"p": param(), "x": ["a", "b", "c"], "y": ["A", "B", "C"]}, call("1", "p x", "y"))
    item = {"variable": "y", "text": BAD, "score": [1, 0.2, None]}
    gradients = await answered(pair, graph, [item], policy={"gate": 0.9})
    assert [(one["sample"], one["how"]) for one in gradients["p"]] == [
        (0, "empty"),
        (1, "model"),
        (2, "model"),
    ]
    assert pair.model.total == 2


# ---- many at once


async def test_64_calls_into_one_sum_are_64_questions(pair):
    """The parameter that all of them read has 64 entries in tape order."""
    calls = [call(f"c{at}", "p", f"y{at}") for at in range(64)]
    all_outputs = " ".join(f"y{at}" for at in range(64))
    graph = tape({"p": param(), "o": "All."}, *calls, step("sum", "s", all_outputs, "o"))
    gradients = await answered(pair, graph, {"o": BAD})
    assert readers(gradients["p"]) == [f"c{at}" for at in range(64)]
    assert pair.model.total == 64


def fan(width):
    """One text that many calls read, and their answers in one sum."""
    calls = [call(f"c{at}", "x", f"y{at}") for at in range(width)]
    outputs = " ".join(f"y{at}" for at in range(width))
    return tape({"p": param(), "o": "All."}, call("w", "p", "x"), *calls, step("sum", "s", outputs, "o"))


@pytest.mark.parametrize(("prompt_tokens", "cut"), [(60_000, 0), (20_000, 64), (8000, 64)])
async def test_64_readers_of_one_text_stand_in_one_prompt_within_its_budget(pair, prompt_tokens, cut):
    """Long criticisms lose their middle, with a mark; none of them is left out."""
    for at in range(64):
        reply = f"Criticism {at}: {'much to say ' * 150}. End of {at}."
        pair.model.rule(match=f"Text of y{at}.", reply=reply)
    policy = {"prompt_tokens": prompt_tokens}
    gradients = await answered(pair, fan(64), {"o": BAD}, wrt=["p", "x"], policy=policy)
    assert readers(gradients["x"]) == [f"c{at}" for at in range(64)]
    assert all(entry["text"].endswith(f"End of {at}.") for at, entry in enumerate(gradients["x"]))
    assert len(gradients["p"]) == 1
    assert pair.model.total == 65
    last = pair.model.calls[-1]
    shown = last.messages[-1]["content"]
    assert shown.count('kind="feedback"') == 64
    assert all(f"Criticism {at}" in shown for at in range(64))
    assert shown.count("characters left out") == cut
    assert tokens(last) <= prompt_tokens


# ---- layers


def layered(rng, layers, width):
    """A network whose nodes read the layer before and, now and then, one further back; a sum at the end."""
    names = [[f"n{layer}_{at}" for at in range(width)] for layer in range(layers)]
    operations = []
    for layer in range(1, layers):
        for name in names[layer]:
            reads = rng.sample(names[layer - 1], rng.randint(1, min(3, width)))
            earlier = [one for row in names[: layer - 1] for one in row]
            reads += rng.sample(earlier, min(len(earlier), rng.randint(0, 2)))
            made = call if rng.random() < 0.6 else lambda *given: step("sum", *given)
            operations.append(made(f"op_{name}", " ".join(reads), name))
    operations.append(step("sum", "end", " ".join(names[-1]), "out"))
    return tape({name: param(f"Text of {name}.") for name in names[0]}, *operations)


def reads_of(operation):
    return operation["messages"][0]["content"] if "messages" in operation else operation["inputs"]


@pytest.mark.parametrize(("layers", "width"), [(3, 2), (4, 4), (6, 6), (12, 4)])
@pytest.mark.parametrize("seed", [0, 1])
async def test_in_a_layered_network_every_node_hears_once_from_each_reader(pair, layers, width, seed):
    """Skips or not: an entry for each read on the way to the end, and a call for each read of a call."""
    graph = layered(random.Random(f"{layers} {width} {seed}"), layers, width)
    reached, expected, asked = {"out"}, {}, Counter()
    for operation in reversed(graph["operations"]):
        if reached & set(operation["outputs"]):
            for id in reads_of(operation):
                reached.add(id)
                expected.setdefault(id, []).insert(0, operation["id"])
                asked[operation["op"]] += 1
    every = [variable["id"] for variable in graph["variables"] if variable["id"] != "out"]
    gradients = await answered(pair, graph, {"out": BAD}, wrt=every)
    assert {id: readers(entries) for id, entries in gradients.items()} == {
        id: expected.get(id, []) for id in every
    }
    assert pair.model.total == asked["chat_completion"]


# ---- chains


async def test_a_chain_of_5000_steps_is_an_ordinary_input(pair):
    """No recursion: the criticism arrives at the other end, told of what it was said of (P20)."""
    edits = [step("edit", f"e{at}", f"x{at}", f"x{at + 1}") for at in range(5000)]
    gradients = await answered(pair, tape({"x0": param()}, *edits), {"x5000": BAD})
    (entry,) = gradients["x0"]
    assert entry["text"] == f'Said of "role of x5000", which the program made of this text: {BAD}'
    assert entry["operation"] == "e0"
    assert pair.model.total == 0


@pytest.mark.parametrize("calls", ["per_variable", "per_operation"])
async def test_a_chain_of_50_calls_is_gone_back_one_by_one(pair, calls):
    """Each call once, from the last to the first, and the criticism does not get lost in between."""
    chain = [call(f"c{at}", f"x{at}", f"x{at + 1}") for at in range(50)]
    gradients = await answered(pair, tape({"x0": param()}, *chain), {"x50": BAD}, policy={"calls": calls})
    (entry,) = gradients["x0"]
    assert BAD in entry["text"]
    asked = [one.messages[-1]["content"].partition("# Your task")[2] for one in pair.model.calls]
    assert len(asked) == pair.model.total == 50
    expected = [*(f"\nText of x{at}.\n" for at in range(49, 0, -1)), "\nBe brief.\n"]
    assert all(text in prompt for text, prompt in zip(expected, asked, strict=True))


async def test_a_chain_of_50_calls_shows_the_root_to_each_with_context(pair):
    """Also far from the end the question shows what the program made and what was said of it."""
    chain = [call(f"c{at}", f"x{at}", f"x{at + 1}") for at in range(50)]
    graph = tape({"x0": param(), "x50": "The whole result."}, *chain)
    await answered(pair, graph, {"x50": BAD}, policy={"context": True})
    shown = ["The whole result." in one.messages[-1]["content"] for one in pair.model.calls]
    assert shown == [True] * 50
