"""Partial output on its way out: in order, joined where it waits, and given up rather than in the way."""

from __future__ import annotations

import asyncio

import pytest

from backtalk.runtime import emit
from backtalk.runtime.emit import Emitter, NotTaken
from backtalk.wire.chunk import CompletionChunk


class Address:
    """Where chunks are published: keeps what it takes while it is open, and fails when told to."""

    def __init__(self, *, opened=True):
        self.open = asyncio.Event()
        self.taken = []
        self.asked = 0
        self.failure = None
        self.at_once = 0
        self.warnings = []
        if opened:
            self.open.set()

    async def publish(self, chunk):
        self.asked += 1
        self.at_once += 1
        assert self.at_once == 1
        try:
            await self.open.wait()
        finally:
            self.at_once -= 1
        if self.failure:
            raise self.failure
        self.taken.append(chunk)

    @property
    def emitter(self):
        return Emitter(self.publish, self.warnings.append)

    @property
    def texts(self):
        return [chunk.text for chunk in self.taken]

    @property
    def numbers(self):
        return [(chunk.run, chunk.sequence) for chunk in self.taken]


def chunk(text=None, *, run="run", item=0, choice=0, usage=None, delta=None, **about):
    said = {"content": text} if delta is None else delta
    choices = [{"index": choice, "delta": said, "finish_reason": None, **about}]
    return CompletionChunk(run=run, item=item, choice=choice, choices=choices, usage=usage, id=f"of {text}")


async def emitted(*chunks):
    """Return what becomes of chunks that are emitted at once."""
    address = Address()
    emitter = address.emitter
    for one in chunks:
        emitter(one)
    await emitter.close()
    assert address.warnings == []
    return address


def others():
    """Return the tasks beside the test's own."""
    return asyncio.all_tasks() - {asyncio.current_task()}


# ---- joining


async def test_text_that_waits_leaves_as_one_chunk():
    """Whatever else OpenAI says of a chunk is taken from the first."""
    address = await emitted(chunk("a"), chunk("b"), chunk(""), chunk("c"))
    (whole,) = address.taken
    assert (whole.text, whole.sequence, whole.model_extra) == ("abc", 0, {"id": "of a"})
    assert whole.choices == [{"index": 0, "delta": {"content": "abc"}, "finish_reason": None}]


async def test_what_was_emitted_is_not_changed_by_joining():
    """A handler may keep its chunks."""
    first, second = chunk("a"), chunk("b")
    await emitted(first, second)
    assert (first.text, first.sequence, second.text) == ("a", 0, "b")


async def test_null_beside_a_text_says_nothing():
    """Some endpoints write every field of a delta each time."""
    delta = {"content": "a", "role": None, "tool_calls": None}
    address = await emitted(chunk(delta=delta, logprobs=None), chunk("b"))
    assert address.texts == ["ab"]
    assert address.taken[0].choices[0]["delta"] == {**delta, "content": "ab"}


@pytest.mark.parametrize(
    "apart",
    [
        chunk("b", finish_reason="stop"),
        chunk("b", logprobs={"content": []}),
        chunk("b", usage={"total_tokens": 1}),
        chunk(delta={"role": "assistant", "content": "b"}),
        chunk(delta={"content": "b", "refusal": "no"}),
        chunk(delta={"tool_calls": [{"index": 0}]}),
        chunk(delta={"content": None}),
        chunk(delta={"content": ["b"]}),
        chunk(delta={}),
        CompletionChunk(run="run", item=0, choice=0, choices=[{"index": 0, "delta": None}]),
        CompletionChunk(run="run", item=0, choice=0, choices=[{"index": 0}]),
        CompletionChunk(run="run", item=0, choice=0),
    ],
    ids=lambda one: one.model_dump_json(exclude={"schema_version", "sequence", "id"}),
)
async def test_a_chunk_that_says_anything_else_stays_alone(apart):
    """It is neither joined to the text before nor to the text after, and comes as it is."""
    address = await emitted(chunk("1"), chunk("2"), apart, chunk("3"), chunk("4"))
    first, second, third = address.taken
    assert (first.choices[0]["delta"], third.choices[0]["delta"]) == ({"content": "12"}, {"content": "34"})
    assert second == apart.model_copy(update={"sequence": second.sequence})


@pytest.mark.parametrize(
    "other",
    [
        chunk("b", run="other"),
        chunk("b", item=1),
        chunk("b", choice=1),
        CompletionChunk(run="run", item=0, choice=None, usage={"total_tokens": 1}),
    ],
    ids=["run", "item", "choice", "usage"],
)
async def test_the_text_of_a_choice_is_joined_across_what_others_say(other):
    """Choices and items alternate in a stream; only within one of them the order counts."""
    address = await emitted(chunk("1"), chunk("2"), other, chunk("3"), chunk("4"))
    first, second = address.taken
    assert first.choices[0]["delta"] == {"content": "1234"}
    assert second == other.model_copy(update={"sequence": second.sequence})


async def test_joining_ends_before_a_body_is_too_large():
    """However long the broker was away, each chunk is small."""
    address = await emitted(*[chunk("x" * 1000)] * 100)
    assert "".join(address.texts) == "x" * 100_000
    assert max(map(len, address.texts)) < emit._MAX_JOINED + 1000


# ---- order


async def test_each_run_is_numbered_from_zero():
    """Whatever number a handler gave."""
    runs = [chunk("a"), chunk("b", run="other"), chunk("c"), chunk("d", run="other"), chunk("e", run="other")]
    address = await emitted(*(one.model_copy(update={"sequence": 7}) for one in runs))
    assert address.texts == ["ac", "bde"]
    assert address.numbers == [("run", 0), ("other", 0)]


async def test_a_chunk_waits_until_the_one_before_is_confirmed():
    """What is emitted meanwhile is joined: a slow broker gets fewer messages."""
    address = Address(opened=False)
    emitter = address.emitter
    for text in "abcd":
        emitter(chunk(text))
        await asyncio.sleep(0)
    assert (address.asked, address.taken) == (1, [])
    address.open.set()
    await emitter.close()
    assert address.texts == ["a", "bcd"]


async def test_what_is_emitted_later_is_published_as_well():
    """Silence between two chunks is no end, and no task waits in it."""
    address = Address()
    emitter = address.emitter
    for text in "ab":
        emitter(chunk(text))
        for _ in range(5):
            await asyncio.sleep(0)
        assert others() == set()
    assert (address.texts, address.numbers) == (["a", "b"], [("run", 0), ("run", 1)])


# ---- the end


async def test_after_the_end_nothing_is_emitted():
    """Closing publishes what is left; to close once more is nothing."""
    address = await emitted(chunk("a"))
    emitter = address.emitter
    await emitter.close()
    emitter(chunk("b"))
    await emitter.close()
    assert (address.texts, others()) == (["a"], set())


async def test_without_an_address_nothing_is_done():
    """Nobody has to look whether there is one."""
    warnings = []
    emitter = Emitter(None, warnings.append)
    emitter(chunk("a"))
    assert others() == set()
    await emitter.close()
    assert warnings == []


async def test_the_first_failure_is_the_last():
    """One warning, no more attempts, and nothing raised."""
    address = Address()
    address.failure = NotTaken("Unroutable")
    emitter = address.emitter
    for text in "abc":
        emitter(chunk(text))
        emitter(chunk(text, item=1))
        for _ in range(5):
            await asyncio.sleep(0)
    address.failure = None
    emitter(chunk("d"))
    await emitter.close()
    assert (address.asked, address.taken, address.warnings) == (1, [], ["Unroutable"])
    assert others() == set()


async def test_closing_gives_up_after_a_while(monkeypatch):
    """The answer does not wait for ever, and nothing comes after it."""
    monkeypatch.setattr(emit, "CLOSE_SECONDS", 0.05)
    address = Address(opened=False)
    emitter = address.emitter
    emitter(chunk("a"))
    await asyncio.sleep(0)
    await emitter.close()
    assert (len(address.warnings), others()) == (1, set())
    address.open.set()
    await asyncio.sleep(0)
    assert address.taken == []


async def test_closing_gives_up_even_on_a_publish_that_cannot_be_cancelled(monkeypatch):
    """A little later, and without a second warning when that fails in the end."""
    monkeypatch.setattr(emit, "CLOSE_SECONDS", 0.05)
    monkeypatch.setattr(emit, "_END_SECONDS", 0.05)
    address = Address(opened=False)
    ended = asyncio.Event()

    async def stubborn(one):
        try:
            await address.publish(one)
        except asyncio.CancelledError:
            await ended.wait()
            raise NotTaken("late") from None

    emitter = Emitter(stubborn, address.warnings.append)
    emitter(chunk("a"))
    emitter(chunk("b", item=1))
    await asyncio.wait_for(emitter.close(), 5)
    ended.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (address.asked, len(address.warnings), others()) == (1, 1, set())


async def test_a_close_that_is_cancelled_leaves_nothing_behind():
    """Neither a task nor a chunk that comes later."""
    address = Address(opened=False)
    emitter = address.emitter
    emitter(chunk("a"))
    emitter(chunk("b", item=1))
    closing = asyncio.ensure_future(emitter.close())
    await asyncio.sleep(0.01)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    address.open.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (address.taken, address.warnings, others()) == ([], [], set())
