"""How the backward prompt shows the texts of tools: the block, the place in it, and the replies that were sent back."""

import pytest

from backward_worker.ask import ModelAsker
from backward_worker.backward import backward
from backward_worker.gradient import TextGradient
from backward_worker.inquiry import Desk
from backward_worker.place import THE_TEXT
from backward_worker.rules import rules
from backward_worker.step import Contribution

TOOLS = [
    {"type": "function", "function": {"name": "f", "description": {"variable": "about"}}},
    {"type": "function", "function": {"name": "g", "description": "plain"}},
]
BLOCK = [
    {"variable": "before", "form": "words"},
    '\n[\n{"name":"f","description":"',
    {"variable": "about", "form": "json"},
    '"}\n]',
]
INJECTED = {"mode": "inject", "call_token": "!call:", "block": BLOCK}
FIELDS = {"tools": TOOLS, "tool_templates": {"function_list": {"prefix": {"variable": "before"}}}}


@pytest.fixture
def graph(graph_of):
    def build(**fields):
        variables = {
            "u": "What?",
            "about": {"data": 'Says "it"', "requires_grad": True},
            "before": {"data": "Use {{func_call_token}} now", "requires_grad": True},
            "out": "!call:{}",
        }
        return graph_of(variables, ("op", "u", "out", {**FIELDS, "injected": INJECTED, **fields}))

    return build


async def prompts(graph, model, wanted=("about", "before")):
    """Return what was asked about each wanted variable."""
    asker = ModelAsker(model, None, None, {})
    seeds = {"out": [Contribution(TextGradient("Wrong call.", "copied"))]}
    await backward(graph, seeds, wanted, rules(Desk(asker)))
    return dict(zip(wanted, (body["messages"][1]["content"] for body in model.bodies), strict=True))


async def test_the_message_is_shown_with_the_block_in_it(graph, scripted):
    """As the model saw it: the description inside of JSON, the token in its place."""
    asked = await prompts(graph(), scripted("fine"))
    shown = 'Use !call: now\n[\n{"name":"f","description":"Says \\"it\\""}\n]\n\nWhat?'
    assert all(shown in prompt for prompt in asked.values())


async def test_the_place_of_the_text_is_marked(graph, scripted):
    """Each question shows what stood around its own text, and leaves the text itself out."""
    asked = await prompts(graph(), scripted("fine"))
    assert f'Use !call: now\n[\n{{"name":"f","description":"{THE_TEXT}"}}\n]' in asked["about"]
    assert f'{THE_TEXT}\n[\n{{"name":"f","description":"Says \\"it\\""}}\n]' in asked["before"]


async def test_the_variable_itself_is_shown_as_it_stands(graph, scripted):
    """Advice is about the text that can be changed, not about what became of it."""
    asked = await prompts(graph(), scripted("fine"))
    assert '\nSays "it"\n</fence-' in asked["about"]
    assert "\nUse {{func_call_token}} now\n</fence-" in asked["before"]


async def test_positions_name_tools_and_templates(graph, scripted):
    """The gradients say where the text stands; tools come before templates."""
    asker = ModelAsker(scripted("fine"), None, None, {})
    seeds = {"out": [Contribution(TextGradient("Wrong.", "copied"))]}
    result = await backward(graph(), seeds, ("about", "before"), rules(Desk(asker)))
    assert [said.input for one in result.contributions.values() for said in one] == [
        "tools/0/function/description",
        "tool_templates/function_list/prefix",
    ]


async def test_native_tools_are_shown_among_the_settings_with_their_texts(graph, scripted):
    """The endpoint got them, so there is no block; the description stands where it was sent."""
    native = graph(injected=None, tool_templates=None)
    asked = await prompts(native, scripted("fine"), wanted=("about",))
    assert '"description": "Says \\"it\\""' in asked["about"]
    assert THE_TEXT not in asked["about"]


async def test_injected_tools_are_not_shown_twice(graph, scripted):
    """They stand in the message; the endpoint was sent no tools."""
    asked = await prompts(graph(), scripted("fine"), wanted=("about",))
    assert '"tools"' not in asked["about"]
    assert asked["about"].count('"name":"f"') == 2  # the message, and the place


async def test_a_text_that_the_model_did_not_see_is_not_asked_about(graph, scripted):
    """Of a forced call the other functions were left out: nothing they say can have done harm."""
    hidden = graph(injected={**INJECTED, "block": ["[]"]})
    model = scripted("fine")
    asker = ModelAsker(model, None, None, {})
    seeds = {"out": [Contribution(TextGradient("Wrong.", "copied"))]}
    result = await backward(hidden, seeds, ("about",), rules(Desk(asker)))
    assert (result.contributions, model.bodies) == ({"about": ()}, [])


async def test_replies_that_were_sent_back_are_shown_in_their_order(graph, scripted):
    """What the model saw before its answer is what it said first and what it was told."""
    turns = [
        {"choice": 0, "reply": "first try", "told": "first answer to it"},
        {"choice": 0, "reply": "second try", "told": "second answer to it"},
        {"choice": 1, "reply": "of another choice", "told": "and its answer"},
    ]
    asked = await prompts(graph(injected={**INJECTED, "turns": turns}), scripted("fine"), wanted=("about",))
    prompt = asked["about"]
    places = [prompt.index(text) for turn in turns[:2] for text in (turn["reply"], turn["told"])]
    assert places == sorted(places)
    assert places[-1] < prompt.index("\n!call:{}\n")
    assert "of another choice" not in prompt
