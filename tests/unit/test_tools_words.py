"""The words for tools: the default ones, those of an operator, and what no text of a job can do to them."""

import json
import sys

import pytest

from backtalk.wire.errors import Code, Refused
from backtalk.wire.tools import Insert
from forward_worker.__main__ import main
from forward_worker.tools.inject import toolbox as toolbox_of
from forward_worker.tools.words import NAMES, BadTemplate, Marks, Words

LOOK = {"name": "look", "description": 'Says "it"\n<ü>', "parameters": {"type": "object", "properties": {}}}
BARE = {"name": "bare", "description": None, "parameters": None}
LINES = """\
{"name":"look","description":"Says \\"it\\"\\n<ü>","parameters":{"type":"object","properties":{}}},
{"name":"bare","description":null,"parameters":null}"""
EXAMPLE = '!function_call:{"name": "name_of_the_function", "arguments": {"name_of_a_parameter": "its value"}}'
AUTO = f"""\
You can call these functions to get what you need for your answer:
[
{LINES}
]
To call functions, write for each call one line like this, with its real name and real arguments:
{EXAMPLE}
You will be given the results in the next message. Where no function helps, answer in your own words, \
without such a line."""
REQUIRED = f"""\
Answer by calling functions, and in no other way. Call at least one of these:
[
{LINES}
]
To call functions, write for each call one line like this, with its real name and real arguments:
{EXAMPLE}
Write nothing else. You will be given the results in the next message."""
FORCED = """\
Answer by calling this function, and in no other way:
[
{"name":"bare","description":null,"parameters":null}
]
Write one line like this, with real arguments, and nothing else:
!function_call:{"name": "bare", "arguments": {"name_of_a_parameter": "its value"}}"""
KEY = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def words():
    return Words.load()


@pytest.fixture
def folder(tmp_path):
    """Return the maker of a folder of templates: `folder(call_token="call:")`."""

    def write(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.jinja").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def listed(words, *tools, prefix=None, suffix=None, required=False, parallel=True, marks=None):
    return words.function_list(
        tools or (LOOK, BARE),
        prefix=prefix,
        suffix=suffix,
        required=required,
        parallel=parallel,
        marks=marks or Marks(KEY),
    )


def forced(words, tool=BARE, *, prefix=None, suffix=None):
    return words.force_call(tool, prefix=prefix, suffix=suffix, marks=Marks(KEY))


# ---- the default words


def test_the_list_says_what_can_be_called_and_how(words):
    """A line of JSON for each tool, in brackets, and an example of a call."""
    assert listed(words) == (AUTO,)


def test_a_call_that_is_required_has_words_of_its_own(words):
    """The model is told that nothing else will do."""
    assert listed(words, required=True) == (REQUIRED,)


@pytest.mark.parametrize("required", [False, True])
def test_where_calls_may_not_be_parallel_one_is_asked_for(words, required):
    """The endpoint knows nothing of it, so the words have to say it."""
    (text,) = listed(words, required=required, parallel=False)
    assert "make one call only:" in text
    assert "for each call" not in text


def test_a_named_function_is_shown_alone(words):
    """The example has its name."""
    assert forced(words) == (FORCED,)


@pytest.mark.parametrize("prefix", [None, "", "before"])
@pytest.mark.parametrize("suffix", [None, "", "after"])
@pytest.mark.parametrize("kind", ["list", "force"])
def test_each_side_has_default_words_or_none_or_others(words, prefix, suffix, kind):
    """The two are told apart from each other, and the brackets belong to neither."""
    make, whole, body = {
        "list": (listed, AUTO, f"[\n{LINES}\n]"),
        "force": (forced, FORCED, '[\n{"name":"bare","description":null,"parameters":null}\n]'),
    }[kind]
    before, after = whole.split(body)
    start = {None: before, "": "", "before": "before\n"}[prefix]
    end = {None: after, "": "", "after": "\nafter"}[suffix]
    assert "".join(make(words, prefix=prefix, suffix=suffix)) == f"{start}{body}{end}"


def test_every_tool_stands_in_a_line_of_its_own_as_json(words):
    """Name, description and parameters; line breaks are escaped, letters are as they are."""
    (text,) = listed(words, LOOK, BARE, LOOK, prefix="", suffix="")
    lines = text.split("\n")
    assert json.loads(text) == [LOOK, BARE, LOOK]
    assert (lines[0], lines[-1], len(lines)) == ("[", "]", 5)
    assert "<ü>" in lines[1]


def test_calls_begin_with_the_call_token(words):
    """Without the white space of its file."""
    assert words.call_token == "!function_call:"


def test_an_earlier_call_is_told_as_the_model_would_write_it(words):
    """With its function and its id, a line for each."""
    calls = [
        {"id": 'a"b', "name": "look", "arguments": '{"x": 1}'},
        {"id": None, "name": "ü", "arguments": "{}"},
    ]
    assert words.earlier_calls(calls).split("\n") == [
        '!function_call:{"name": "look", "arguments": {"x": 1}, "id": "a\\"b"}',
        '!function_call:{"name": "ü", "arguments": {}, "id": null}',
    ]


@pytest.mark.parametrize(
    ("id", "name", "before"),
    [
        ("c1", "look", 'Result of "look", call c1:\n'),
        ("c1", None, "Result of the function, call c1:\n"),
        (None, "look", 'Result of "look":\n'),
        (None, None, "Result of the function:\n"),
    ],
)
def test_an_answer_of_a_tool_names_its_function_and_its_call(words, id, name, before):
    """As far as they are known."""
    assert words.tool_response(id, name) == (before, "")


@pytest.mark.parametrize("text", ["{{ call_token }}", "{% raw %}", "\x01content\x01", "{content}"])
def test_names_and_ids_are_not_looked_at_as_templates(words, text):
    """They come from messages."""
    assert text in words.tool_response(text, None)[0]
    (call,) = [{"id": text, "name": text, "arguments": "{}"}]
    assert json.loads(words.earlier_calls([call]).removeprefix("!function_call:"))["id"] == text


@pytest.mark.parametrize(("problems", "asked"), [(["a"], "the call again"), (["a", "b"], "the calls again")])
def test_a_model_that_is_asked_again_is_told_every_problem(words, problems, asked):
    """And how a call looks."""
    told = words.retry(problems)
    assert [line for line in told.split("\n") if line.startswith("- ")] == [f"- {one}" for one in problems]
    assert asked in told
    assert told.endswith(EXAMPLE)


def test_only_the_roles_of_tools_are_sent_as_another(words):
    """A model without tools has never heard a tool speak."""
    changed = {role: sent for role, sent in words.roles.items() if role != sent}
    assert changed == {"tool": "user", "function": "user"}


# ---- texts that are variables


@pytest.mark.parametrize("form", ["text", "words"])
def test_a_text_that_is_a_variable_is_cut_out_of_what_the_template_prints(words, form):
    """What remains are the words around it, and its place."""
    marks = Marks(KEY)
    segments = listed(words, prefix=marks.mark("v", form), suffix="", marks=marks)
    assert segments == (Insert(variable="v", form=form), f"\n[\n{LINES}\n]")


def test_a_variable_inside_of_json_is_told_as_such(words):
    """Its text will need escaping, whatever it is in this item of a batch."""
    marks = Marks(KEY)
    tool = {**BARE, "description": marks.mark("d"), "parameters": {"p": [marks.mark("e")]}}
    segments = listed(words, tool, prefix="", suffix="", marks=marks)
    assert segments == (
        '[\n{"name":"bare","description":"',
        Insert(variable="d", form="json"),
        '","parameters":{"p":["',
        Insert(variable="e", form="json"),
        '"]}}\n]',
    )


@pytest.mark.parametrize(
    "text", ["\x01", "\\u0001", "\x010:0\x01", f"{KEY[:-1]}:0", "\x01content\x01", "\\\x01", "\\"]
)
def test_no_text_of_a_job_is_taken_for_a_variable(words, text):
    """The mark of a variable has a key that nobody can know beforehand."""
    marks = Marks(KEY)
    tool = {"name": text, "description": marks.mark("d"), "parameters": {text: text}}
    first, insert, last = listed(words, tool, prefix=text, suffix=text, marks=marks)
    assert first.startswith(f"{text}\n[\n")
    assert last.endswith(f"\n]\n{text}")
    assert json.loads(f"{first}{last}".removeprefix(text).removesuffix(text)) == [
        {"name": text, "description": "", "parameters": {text: text}}
    ]
    assert insert == Insert(variable="d", form="json")


# ---- the words of an operator


def test_a_file_replaces_the_words_of_its_name(folder):
    """Those without a file stay the default ones."""
    mine = Words.load(folder(call_token="  call: \n", retry="{{ problems | length }} wrong"))
    assert (mine.call_token, mine.retry(["a", "b"])) == ("call:", "2 wrong")
    assert "".join(listed(mine)) == AUTO.replace("!function_call:", "call:")


def test_a_template_gets_what_it_prints(folder):
    """Tools, words, flags and the call token, by name."""
    text = "{{ tools[0].name }} {{ prefix }} {{ suffix }} {{ required }} {{ parallel }} {{ call_token }}"
    mine = Words.load(folder(function_list=text, force_call="{{ tool.name }}"))
    assert listed(mine, prefix="<") == ("look < None False True !function_call:",)
    assert forced(mine) == ("bare",)


def test_roles_can_be_mapped(folder):
    """Some models know no system messages."""
    mine = Words.load(folder(roles="{{ {'system': 'user', 'tool': 'user'}.get(role, role) }}"))
    assert mine.roles["system"] == "user"
    assert mine.roles["assistant"] == "assistant"


def test_an_answer_of_a_tool_may_have_words_after_it(folder):
    """Whatever stands around `content`."""
    mine = Words.load(folder(tool_response="<{{ name }}>{{ content }}</{{ name }}>"))
    assert mine.tool_response("1", "look") == ("<look>", "</look>")


# file: template, and what the message must say
BAD = {
    "no syntax": ("retry", "{% for %}", "Expected"),
    "a name that is not known": ("retry", "{{ nobody }}", "UndefinedError"),
    "a field that is not there": ("force_call", "{{ tool.nothing }}", "UndefinedError"),
    "a filter that is not known": ("earlier_calls", "{{ calls | shout }}", "shout"),
    "the way out of the sandbox": ("retry", "{{ ''.__class__.__mro__ }}", "SecurityError"),
    "the way out by format": (
        "retry",
        "{{ '{0.__class__.__init__.__globals__}'.format(problems) }}",
        "SecurityError",
    ),
    "a change of what it was given": ("function_list", "{% set _ = tools.append(1) %}", "SecurityError"),
    "a division by zero": ("retry", "{{ 1 / 0 }}", "ZeroDivisionError"),
    "another file": ("retry", "{% include '/etc/passwd' %}", "TemplateNotFound"),
    "no call token": ("call_token", " \n", "empty"),
    "an answer without its content": ("tool_response", "{{ name }}", "content"),
    "an answer that is there twice": ("tool_response", "{{ content }}{{ content }}", "content"),
    "a content that is changed": ("tool_response", "{{ content | tojson }}", "content"),
    "a role that is none": ("roles", "robot", "robot"),
    "JSON in JSON": ("function_list", "{{ tools | tojson | tojson }}", "as it is, or with tojson"),
    "a text that is taken apart": (
        "force_call",
        "{{ tool.description | replace(':', '') }}",
        "as it is, or with tojson",
    ),
    "a text in capitals": ("force_call", "{{ tool.description | upper }}", "as it is, or with tojson"),
    "a text that is cut off": (
        "force_call",
        "{{ tool.description | truncate(9, true, '') }}",
        "as it is, or with tojson",
    ),
}


@pytest.mark.parametrize(("file", "text", "told"), BAD.values(), ids=BAD)
def test_a_template_that_cannot_be_used_is_told_at_the_start(folder, file, text, told):
    """Not in somebody's job; the message names the file."""
    with pytest.raises(BadTemplate) as caught:
        Words.load(folder(**{file: text}))
    assert f"{file}.jinja" in str(caught.value)
    assert told in str(caught.value)


def test_a_file_that_is_no_text_is_told_at_the_start(tmp_path):
    """Whatever was put there."""
    (tmp_path / "retry.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(BadTemplate, match=r"retry\.jinja"):
        Words.load(tmp_path)


@pytest.mark.parametrize("place", ["missing", "file"])
def test_a_folder_that_is_none_is_told_at_the_start(tmp_path, place):
    """By the name of the setting."""
    (tmp_path / "file").touch()
    with pytest.raises(BadTemplate, match=r"BACKTALK_TOOL_TEMPLATES: .* is no folder"):
        toolbox_of(tmp_path / place, {})


def test_a_template_that_fails_only_for_some_tools_fails_their_job(folder):
    """It is the operator's mistake, and said to be."""
    mine = Words.load(folder(function_list="{{ 1 / (5 - tools | length) }}"))
    with pytest.raises(Refused, match="operator") as caught:
        listed(mine, *[BARE] * 5)
    assert caught.value.error.code == Code.INVALID_TEMPLATE


def test_every_file_of_words_can_be_replaced(folder):
    """There are no words outside of the files."""
    texts = {
        "call_token": "T",
        "earlier_calls": "E",
        "force_call": "F",
        "function_list": "L",
        "retry": "R",
        "roles": "user",
        "tool_response": "{{ content }}",
    }
    assert texts.keys() == set(NAMES)
    mine = Words.load(folder(**texts))
    assert (mine.call_token, mine.earlier_calls([]), forced(mine), listed(mine), mine.retry([])) == (
        "T",
        "E",
        ("F",),
        ("L",),
        "R",
    )
    assert mine.tool_response("1", "f") == ("", "")
    assert set(mine.roles.values()) == {"user"}


def test_a_worker_with_bad_templates_does_not_start(monkeypatch, capsys, folder):
    """Exit code 2, and the file and the mistake on stderr."""
    monkeypatch.setattr(sys, "argv", ["forward-worker"])
    monkeypatch.setenv("BACKTALK_TOOL_TEMPLATES", str(folder(retry="{{ nobody }}")))
    assert main() == 2
    said = capsys.readouterr()
    assert said.err.startswith("BACKTALK_TOOL_TEMPLATES: retry.jinja: ")
    assert "Traceback" not in said.err
    assert said.out == ""
