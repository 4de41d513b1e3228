"""Functions of a program as steps of it: what is called with what, what is recorded, and what a failure leaves."""

import asyncio
import gc
import warnings

import pytest

from backtalk import FunctionFailed, Variable, function, no_grad
from backtalk.functional import Function
from backtalk.wire.codec import encode


@function("Makes a text loud.")
def loud(text: str) -> str:
    """Shout."""
    return text.upper()


@function("Says how long a text is, in a unit.", role="length")
def length(text: str, unit: str = "letters", *, factor: int = 1) -> str:
    return f"{len(text) * factor} {unit}"


@function("Reads a number.")
def number(text: str) -> int:
    return int(text)


@function("Waits, then makes a text loud.")
async def patiently_loud(text: str, mark: str = "!") -> str:
    await asyncio.sleep(0)
    if text == "quiet":
        raise ValueError("it will not be loud")
    return text.upper() + mark


@pytest.fixture
def text():
    return Variable("some words", role="text", requires_grad=True)


def graph_of(variable):
    return variable.graph().graph


def recorded(variable):
    """Return the operation that wrote a Variable."""
    graph = graph_of(variable)
    return graph.operations[graph.index.writers[variable.id]]


def failed(call, *args, **kwargs):
    """Return how a function failed."""
    with pytest.raises(FunctionFailed) as caught:
        call(*args, **kwargs)
    return caught.value


# ---- what is called


def test_a_function_gets_data_and_gives_a_variable(text):
    """It computes what it always did."""
    assert loud(text).data == "SOME WORDS"
    assert isinstance(loud(text), Variable)


def test_a_function_stays_known_by_its_name_and_its_words():
    """The wrapper takes them over, and keeps what it was told."""
    assert isinstance(loud, Function)
    assert (loud.__name__, loud.__doc__, loud.name) == ("loud", "Shout.", "loud")
    assert (loud.description, loud.role, length.role) == ("Makes a text loud.", "output of loud", "length")


def test_arguments_are_given_as_to_the_function_itself(text):
    """By position, by name, or by their defaults; what is no Variable will do."""
    assert length(text).data == "10 letters"
    assert length(text, "characters").data == "10 characters"
    assert length(unit="bits", text=text, factor=8).data == "80 bits"
    assert length(text, factor=Variable(2)).data == "20 letters"
    for wrong in ((), (text, "a", "b"), (text, "a", 1)):
        with pytest.raises(TypeError):
            length(*wrong)
    with pytest.raises(TypeError, match="unknown"):
        length(text, unknown=1)


def test_of_a_batch_it_is_called_item_by_item():
    """A scalar serves every item; an item that failed before stays failed, and nothing is called for it."""
    calls = []

    @function("Joins.")
    def joined(x: str, y: str) -> str:
        calls.append((x, y))
        return x + y

    made = joined(Variable(["a", None, "c"], requires_grad=True), Variable("!"))
    assert made.data == ["a!", None, "c!"]
    assert calls == [("a", "!"), ("c", "!")]
    assert joined(Variable(["a", "b"]), Variable(["1", "2"])).data == ["a1", "b2"]


def test_lists_of_a_batch_have_one_length(text):
    """As everywhere else."""
    with pytest.raises(ValueError, match="shapes differ: a list of 2, a list of 3"):
        length(Variable(["a", "b"]), Variable(["c", "d", "e"]))


@pytest.mark.parametrize(
    "result", [None, {"a": 1}, object(), ["a", 1]], ids=["none", "dict", "object", "mixed"]
)
def test_a_result_that_is_no_data_is_refused(text, result):
    """With the words for data; nothing is recorded."""

    @function("Returns something.")
    def something(text: str):
        return result

    with pytest.raises(TypeError, match=r"something returned .* a text or a number for each item"):
        something(text)


@pytest.mark.parametrize(
    "result", [None, {"a": 1}, ["a"], ("a",), object()], ids=lambda one: type(one).__name__
)
async def test_a_result_that_is_no_data_is_refused_of_a_batch_and_awaited_as_well(result):
    """By the name of the function and the type of the result."""

    @function("Returns something.")
    async def something(text: str):
        return result if text == "odd" else text

    plain = function("Returns something.")(lambda text: result if text == "odd" else text)
    told = f"returned {type(result).__name__}; it must return a text or a number for each item"
    for given in (Variable("odd", requires_grad=True), Variable(["fine", "odd"], requires_grad=True)):
        with pytest.raises(TypeError, match=f"something {told}"):
            await something.acall(given)
        with pytest.raises(TypeError, match=told):
            plain(given)


@pytest.mark.parametrize(
    "constant", [None, {"a": [1]}, ["b", "c"], (1, 2), object()], ids=lambda one: type(one).__name__
)
async def test_what_is_no_text_and_no_number_is_a_constant(text, constant):
    """The function gets that very object, for each item of a batch; what is recorded names Variables only."""
    seen = []

    @function("Looks something up.")
    def looked_up(known, text: str, table=None, *, mark: str = "!") -> str:
        seen.append((known, table))
        return text + mark

    single = looked_up(constant, text, constant)
    batch = looked_up(known=constant, text=Variable(["a", None, "b"], requires_grad=True))
    awaited = await looked_up.acall(constant, text, mark="?")
    assert (single.data, batch.data, awaited.data) == ("some words!", ["a!", None, "b!"], "some words?")
    assert [known is constant for known, _ in seen] == [True] * 4
    assert seen[0][1] is constant
    assert [table for _, table in seen[1:]] == [None] * 3
    for made in (single, batch, awaited):
        assert recorded(made).parameters == ("text", "mark")
        assert len(recorded(made).inputs) == 2
        assert made.graph().as_json()


def test_constants_leave_one_input_one(text):
    """So a gradient still passes as it is."""

    @function("Looks something up.")
    def looked_up(text: str, table=None) -> str:
        return text

    assert recorded(looked_up(text, {"a": 1})).transmit == "verbatim"
    assert len(looked_up(text, ["a"]).grad_fn.next_functions) == 1


@pytest.mark.parametrize("given", [(None,), ({"a": 1},), (["a"],), (["a"], None)])
async def test_a_function_that_gets_constants_alone_is_refused(given):
    """By its name, before it is called."""
    calls = []

    @function("Looks something up.")
    def looked_up(known, table=None) -> str:
        calls.append(known)
        return "x"

    with pytest.raises(TypeError, match="looked_up gets no Variable, so no gradient can pass through it"):
        looked_up(*given)
    with pytest.raises(TypeError, match="looked_up gets no Variable"):
        await looked_up.acall(*given)
    assert calls == []


class Shouter:
    def __init__(self, mark):
        self.mark = mark

    @function("Makes a text loud.", role="shout")
    def loud(self, text: str, times: int = 1) -> str:
        """Shout."""
        return text.upper() + self.mark * times

    @function("Waits, then makes a text loud.")
    async def slowly(self, text: str) -> str:
        await asyncio.sleep(0)
        return text.upper() + self.mark


async def test_a_function_may_be_a_method(text):
    """Each object has its own, and `self` is no parameter of it."""
    first, second = Shouter("!"), Shouter("?")
    made = [
        first.loud(text, times=2),
        second.loud(text),
        await first.loud.acall(text),
        await second.slowly.acall(text),
    ]
    assert [one.data for one in made] == ["SOME WORDS!!", "SOME WORDS?", "SOME WORDS!", "SOME WORDS?"]
    assert [recorded(one).parameters for one in made] == [("text", "times")] * 3 + [("text",)]
    assert (recorded(made[0]).name, made[0].role, made[3].role) == ("loud", "shout", "output of slowly")
    assert first.loud(Variable(["a", "b"], requires_grad=True)).data == ["A!", "B!"]
    assert (first.loud.__doc__, Shouter.loud.description) == ("Shout.", "Makes a text loud.")
    with pytest.raises(TypeError, match=r"slowly is a coroutine function; await slowly\.acall"):
        first.slowly(text)


def test_a_function_needs_its_description():
    """Without brackets the error shows how it is written."""
    with pytest.raises(TypeError, match=r"write @function\(.what it does, in words.\), with brackets"):

        @function
        def loud(text: str) -> str:
            return text.upper()

    with pytest.raises(TypeError, match="with brackets"):
        function(None)


def test_functions_without_names_for_their_arguments_are_refused_at_once():
    """*args and **kwargs, no arguments at all, and a transmit that does not exist; the message says which."""
    with pytest.raises(TypeError, match=r"\*args and \*\*kwargs cannot be recorded"):

        @function("Prints.")
        def printed(*texts):
            pass

    with pytest.raises(ValueError, match=r"transmit is .by post.; it must be .verbatim. or .model."):
        function("Sends.", transmit="by post")(str.upper)

    @function("Gives five.")
    def five():
        return 5

    with pytest.raises(TypeError, match="five gets no Variable, so no gradient can pass through it"):
        five()


# ---- what is recorded


def test_only_words_of_a_function_are_recorded(text):
    """Name, description, parameters and inputs; defaults become Variables named after their parameters."""
    made = length(text, factor=2)
    operation = recorded(made)
    assert operation.model_dump(exclude={"id", "inputs"}) == {
        "op": "function",
        "name": "length",
        "description": "Says how long a text is, in a unit.",
        "parameters": ("text", "unit", "factor"),
        "outputs": (made.id,),
        "transmit": "model",
    }
    inputs = [graph_of(made).index.variables[id] for id in operation.inputs]
    assert [(one.data, one.role) for one in inputs] == [
        ("some words", "text"),
        ("letters", "unit"),
        (2, "factor"),
    ]
    assert (made.role, made.grad_fn.name(), made.requires_grad) == ("length", "FunctionBackward", True)


def test_a_gradient_passes_as_it_is_where_there_is_one_input(text):
    """Otherwise by a question; what the function says of itself comes first."""
    asked = function("Makes a text loud.", transmit="model")(loud.__wrapped__)
    copied = function("Says how long.", transmit="verbatim")(length.__wrapped__)
    assert recorded(loud(text)).transmit == "verbatim"
    assert recorded(length(text)).transmit == "model"
    assert recorded(asked(text)).transmit == "model"
    assert recorded(copied(text)).transmit == "verbatim"


def test_nothing_is_recorded_where_nothing_wants_a_gradient(text):
    """The value is the same."""
    with no_grad():
        made = loud(text)
    for one in (made, loud(Variable("some words")), loud("some words")):
        assert (one.data, one.is_leaf, one.requires_grad) == ("SOME WORDS", True, False)


def test_edges_of_a_function_keep_their_places(text):
    """One for each parameter."""
    edges = length(Variable("x"), text).grad_fn.next_functions
    assert [node and node.name() for node, _ in edges] == [None, "AccumulateGrad", None]


def test_one_variable_may_be_two_arguments(text):
    """And is read twice."""
    assert recorded(length(text, text)).inputs[:2] == (text.id, text.id)


# ---- where it fails


def test_a_failure_is_recorded_with_its_error(text):
    """The exception says what happened, and holds the Variable to give feedback on."""
    failure = failed(number, text)
    told = "ValueError: invalid literal for int() with base 10: 'some words'"
    assert str(failure) == f"number failed: {told}"
    assert isinstance(failure.__cause__, ValueError)
    output = failure.output
    assert (output.data, output.requires_grad, output.is_leaf) == (told, True, False)
    assert recorded(output).errors == (told,)
    assert recorded(output).inputs == (text.id,)


def test_a_failure_in_a_batch_leaves_what_the_others_gave():
    """Errors stand beside results, both aligned with the items."""
    read = Variable(["1", "two", None, "four"], role="text", requires_grad=True)

    @function("Reads a number, and says it in words.")
    def said(text: str) -> str:
        return f"number {int(text)}"

    failure = failed(said, read)
    output, errors = failure.output, recorded(failure.output).errors
    assert "'two'" in str(failure)
    assert output.data == ["number 1", errors[1], None, errors[3]]
    assert (errors[0], errors[2]) == (None, None)
    assert errors[1].startswith("ValueError: ")


def test_a_failure_among_numbers_is_told_as_well():
    """A batch of numbers of which one could not be read has an error where that one would be."""
    failure = failed(number, Variable(["1", "two"], requires_grad=True))
    assert "two" in str(failure)
    assert recorded(failure.output).errors[0] is None


async def test_an_error_may_hold_half_of_a_character(text):
    """It becomes a question mark, so that the failure can be recorded and sent."""

    @function("Fails.")
    def fails(text: str) -> str:
        raise ValueError("bad byte \ud83d here")

    for failure in (failed(fails, text), failed(fails, Variable(["a", "b"], requires_grad=True))):
        assert str(failure) == "fails failed: ValueError: bad byte ? here"
        assert set(recorded(failure.output).errors) == {"ValueError: bad byte ? here"}
        assert encode(graph_of(failure.output))
    with pytest.raises(FunctionFailed, match=r"bad byte \? here"):
        await fails.acall(text)


def test_an_unrecorded_failure_holds_its_error_too(text):
    """As a leaf that wants nothing."""
    with no_grad():
        output = failed(number, text).output
    assert (output.data.startswith("ValueError"), output.is_leaf) == (True, True)


def test_what_ends_the_program_ends_it(text):
    """An interrupt is no failure of the function's, and is not recorded."""

    @function("Waits.")
    def waits(text: str) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        waits(text)


# ---- awaited


async def test_a_coroutine_function_is_awaited(text):
    """With defaults and batches as ever."""
    assert (await patiently_loud.acall(text)).data == "SOME WORDS!"
    assert (await patiently_loud.acall(text, mark="?")).data == "SOME WORDS?"
    batch = await patiently_loud.acall(Variable(["a", None, "b"], requires_grad=True))
    assert batch.data == ["A!", None, "B!"]
    assert recorded(batch).parameters == ("text", "mark")


async def test_a_coroutine_function_may_fail():
    """It is recorded and raised in the same way."""
    with pytest.raises(
        FunctionFailed, match=r"^patiently_loud failed: ValueError: it will not be loud$"
    ) as caught:
        await patiently_loud.acall(Variable(["a", "quiet"], requires_grad=True))
    assert caught.value.output.data == ["A!", "ValueError: it will not be loud"]


@pytest.mark.filterwarnings("ignore:coroutine 'patiently_loud' was never awaited")
def test_a_coroutine_function_that_is_not_awaited_says_how(text):
    """The message names acall."""
    told = ""
    try:
        patiently_loud(text)
    except TypeError as error:
        told = str(error)
    gc.collect()
    assert "acall" in told


async def test_a_plain_function_may_be_awaited_or_says_that_it_cannot(text):
    """Who awaits everything is told so, not that something of theirs failed."""
    try:
        assert (await loud.acall(text)).data == "SOME WORDS"
    except TypeError as error:
        assert "acall" in str(error)  # noqa: PT017


async def test_what_is_recorded_is_what_the_function_was_called_with(text):
    """Though the program changes the Variable while the function is still at work."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    @function("Waits, then makes a text loud.")
    async def slowly_loud(text: str) -> str:
        begun.set()
        await go_on.wait()
        return text.upper()

    first = text.id
    call = asyncio.create_task(slowly_loud.acall(text))
    await begun.wait()
    text.data = "other words"
    go_on.set()
    made = await call
    assert made.data == "SOME WORDS"
    assert recorded(made).inputs == (first,)
    assert graph_of(made).index.variables[first].data == "some words"


async def test_a_batch_that_is_given_up_leaves_nothing_that_was_never_awaited():
    """Where its task is cancelled during the first item, the others are not begun."""
    begun = asyncio.Event()

    @function("Waits for ever.")
    async def waits(text: str) -> str:
        begun.set()
        await asyncio.Event().wait()
        return text

    call = asyncio.create_task(waits.acall(Variable(["a", "b", "c"], requires_grad=True)))
    await begun.wait()
    call.cancel()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(asyncio.CancelledError):
            await call
        del call
        gc.collect()
    assert [str(one.message) for one in caught] == []


async def test_calls_stand_in_the_order_in_which_they_were_begun(text):
    """And not in the order in which they were done."""
    later = asyncio.Event()

    @function("Waits for the other.")
    async def first(text: str) -> str:
        await later.wait()
        return text

    @function("Is done at once.")
    async def second(text: str) -> str:
        later.set()
        return text

    one, two = await asyncio.gather(first.acall(text), second.acall(text))
    assert [operation.name for operation in graph_of(two + one).operations[:2]] == ["first", "second"]
