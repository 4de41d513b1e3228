"""`backtalk dead` on a real broker: looking takes nothing, retrying loses nothing, purging takes what was meant."""

import asyncio
import gzip
import json
import time
from contextlib import AsyncExitStack, aclosing
from unittest.mock import AsyncMock

import pytest
from typer.testing import CliRunner

from backtalk.cli.main import app
from backtalk.operate import dead
from backtalk.operate.dead import DeadLetters
from backtalk.operate.letters import Selection
from backtalk.transport.envelope import QueueFull, TransportError
from backtalk.transport.rabbitmq import browsing, declare
from backtalk.transport.rabbitmq.browsing import BeingRead, NoQueue, browse
from backtalk.transport.topology import topology

# where a stage lives; verbs run in a loop of their own, outside any
beside_the_stage = pytest.mark.asyncio(loop_scope="module")
# more than an Erlang map keeps in order
MANY = 40


class Desk:
    """A namespace whose dead queues a program sees from outside any event loop."""

    def __init__(self, beside, stage):
        self.do, self.stage, self.names = beside, stage, stage.names

    def file(self, id, *, role="forward", body=b"{}", code="internal", **properties):
        """Put a letter into a dead queue, as workers do."""
        headers = {"x-backtalk-reason": code, "x-backtalk-reason-text": f"because of {code}"}
        headers |= properties.pop("headers", {})
        if "timestamp" in properties:
            properties["timestamp"] = time.gmtime(properties["timestamp"])
        sending = self.stage.send(
            body, key=self.names.dead(role), message_id=id, headers=headers, **properties
        )
        self.do(sending)

    def run(self, *arguments, given=None, code=0):
        """Run a verb of `dead` and return what it printed, as JSON where it is asked for."""
        options = ["--url", self.stage.url, "--namespace", self.names.namespace]
        done = CliRunner().invoke(app, ["dead", *arguments, *options], input=given)
        assert done.exit_code == code, (done.output, done.exception)
        return json.loads(done.stdout) if "--json" in arguments else done.output

    def fails(self, *arguments):
        """Run a verb that fails and return what `main` prints."""
        options = ["--url", self.stage.url, "--namespace", self.names.namespace]
        error = CliRunner().invoke(app, ["dead", *arguments, *options]).exception
        assert isinstance(error, TransportError)
        return str(error)

    def ids(self, *arguments):
        return [one["id"] for one in self.run("list", "--json", *arguments)["letters"]]

    def rest(self, queue):
        return self.do(self.stage.rest(queue))


@pytest.fixture(scope="module")
def place(beside, new_stage):
    stage = new_stage()
    beside(stage.__aenter__())
    beside(declare(stage.url, topology(stage.names), patience=10))
    yield Desk(beside, stage)
    beside(stage.__aexit__())


@pytest.fixture
def desk(place):
    """Return the namespace with nothing in its queues."""
    place.do(place.stage.clear())
    return place


def test_letters_of_both_workers_are_listed_with_the_oldest_first(desk):
    """With what one needs to tell them apart."""
    desk.file("later", timestamp=2000)
    desk.file("older", role="backward", timestamp=1000, code="worker_crashed", body=b"12345")
    listed = desk.run("list", "--json")
    assert [one["id"] for one in listed["letters"]] == ["older", "later"]
    assert listed["more"] == 0
    assert listed["letters"][0] == {
        "role": "backward",
        "position": 1,
        "id": "older",
        "sent": "1970-01-01T00:16:40Z",
        "code": "worker_crashed",
        "text": "because of worker_crashed",
        "type": None,
        "size": 5,
        "attempt": 0,
    }


def test_a_table_has_one_line_for_each_letter(desk):
    """Whatever somebody wrote into the reason, and however long it is."""
    desk.file("a" * 60, headers={"x-backtalk-reason-text": "one\ntwo\x1b[31m " + "long " * 60})
    head, row = desk.run("list").splitlines()
    assert head.split() == ["role", "id", "sent", "code", "text", "size", "attempt"]
    assert "a" * 60 in row
    assert "one two\\x1b[31m" in row


def test_a_list_may_be_narrowed_and_says_how_many_it_leaves_out(desk):
    """By role, by code, by number."""
    for number in range(3):
        desk.file(f"crash-{number}", code="worker_crashed")
    desk.file("other")
    desk.file("back", role="backward")
    assert desk.ids("--code", "worker_crashed", "--limit", "2") == ["crash-0", "crash-1"]
    assert desk.run("list", "--code", "worker_crashed", "--limit", "2", "--json")["more"] == 1
    assert desk.ids("--role", "backward") == ["back"]
    assert "4 more" in desk.run("list", "--limit", "1")


def test_no_letters_are_no_fault(desk):
    """It says so."""
    assert "no dead letters" in desk.run("list")
    assert desk.run("list", "--json") == {"letters": [], "more": 0}


def test_a_queue_that_is_not_there_is_told_with_the_remedy(desk):
    """Most often the namespace is another one."""
    done = CliRunner().invoke(app, ["dead", "list", "--url", desk.stage.url, "--namespace", "nobody-is-here"])
    assert isinstance(done.exception, NoQueue)
    assert "BACKTALK_NAMESPACE" in str(done.exception)


@beside_the_stage
async def test_looking_thirty_times_neither_loses_nor_moves_a_letter(stage):
    """A limit of deliveries that looking could reach, or an order that it changes, would make it dangerous."""
    await declare(stage.url, topology(stage.names), patience=10)
    filed = [str(number) for number in range(MANY)]
    for id in filed:
        await stage.send(b"{}", key=stage.names.dead("forward"), message_id=id)
    letters = DeadLetters(stage.url, stage.names)
    for limit in [None, 3] * 15:
        look = await letters.look(Selection(("forward",)), limit)
        assert look.total == MANY
        assert [one.id for one in look.letters] == filed[:limit]
    assert [one.id for one in await stage.rest(stage.names.dead("forward"))] == filed


@beside_the_stage
async def test_a_reader_that_gives_up_in_the_middle_leaves_the_order_as_it_was(stage):
    """What it has not seen yet does not overtake what it has."""
    await declare(stage.url, topology(stage.names), patience=10)
    queue = stage.names.dead("forward")
    for number in range(40):
        await stage.send(b"{}", key=queue, message_id=str(number))
    for _ in range(2):
        async with browse(stage.url, queue, patience=5) as browser, aclosing(browser.deliveries()) as all_:
            async for delivery in all_:
                if delivery.envelope.message_id == "20":
                    break
    assert [one.id for one in await stage.rest(queue)] == [str(number) for number in range(40)]


@beside_the_stage
async def test_two_who_look_at_once_both_see_everything(stage):
    """One after the other: what one holds the other could not see."""
    await declare(stage.url, topology(stage.names), patience=10)
    for number in range(20):
        await stage.send(b"{}", key=stage.names.dead("forward"), message_id=str(number))
    letters = DeadLetters(stage.url, stage.names)
    looks = await asyncio.gather(*(letters.look(Selection(("forward",))) for _ in range(4)))
    assert [look.total for look in looks] == [20] * 4


@beside_the_stage
async def test_a_reader_that_does_not_end_is_told_to_the_next(stage, monkeypatch):
    """Rather than an empty list."""
    monkeypatch.setattr(browsing, "TURN_SECONDS", 0.1)
    await declare(stage.url, topology(stage.names), patience=10)
    queue = stage.names.dead("forward")
    async with AsyncExitStack() as open_:
        await open_.enter_async_context(browse(stage.url, queue, patience=5))
        with pytest.raises(BeingRead, match="somebody else"):
            await open_.enter_async_context(browse(stage.url, queue, patience=5))


@beside_the_stage
async def test_others_who_take_letters_are_counted(stage):
    """What they hold cannot be listed."""
    await declare(stage.url, topology(stage.names), patience=10)
    source = await (await stage.channel()).get_queue(stage.names.dead("forward"), ensure=False)
    await source.consume(AsyncMock())
    await stage.until(lambda: stage.consumers(stage.names.dead("forward")))
    assert (await DeadLetters(stage.url, stage.names).look(Selection(("forward",)))).consumers == 1


def test_a_letter_is_shown_whole(desk):
    """Properties, headers and the unpacked body."""
    desk.file(
        "packed",
        body=gzip.compress('{"text":"Grüße"}'.encode()),
        content_encoding="gzip",
        reply_to="answers",
        correlation_id="c",
        headers={"traceparent": "00-1"},
    )
    (shown,) = desk.run("show", "packed", "--json")["letters"]
    assert shown["body"] == {"text": "Grüße"}
    assert (shown["reply_to"], shown["correlation_id"], shown["problem"]) == ("answers", "c", None)
    assert shown["headers"]["traceparent"] == "00-1"
    text = desk.run("show", "packed")
    assert "correlation_id: c\n" in text
    assert '"text": "Grüße"' in text


def test_a_letter_that_somebody_put_there_by_hand_is_reached(desk):
    """By the id it is listed under, however odd its body is."""
    desk.do(desk.stage.send_bare(b"\xff\x1b[31m no json", role="forward.dead"))
    desk.do(desk.stage.until(lambda: desk.stage.depth(desk.names.dead("forward")), what="the letter"))
    (id,) = desk.ids()
    assert "\\xff\\x1b[31m no json" in desk.run("show", id)
    assert desk.run("purge", id, "--yes") == "deleted 1 forward letter\n"
    assert desk.ids() == []


def test_a_letter_that_is_not_there_is_told_with_where_to_look(desk):
    """And what else was named is done all the same."""
    assert "no such letter: nobody" in desk.fails("show", "nobody")
    desk.file("known")
    assert "no such letter: nobody" in desk.fails("retry", "known", "nobody")
    assert [one.id for one in desk.rest(desk.names.work("forward"))] == ["known"]


def test_a_retried_letter_is_work_again_without_its_past(desk):
    """Under its id, with what the sender gave it, and with new attempts."""
    desk.file(
        "job",
        body={"model": "m"},
        reply_to="answers",
        correlation_id="c",
        type="completion.job.v1",
        timestamp=1000,
        headers={"x-backtalk-attempt": 4, "traceparent": "00-1", "x-death": "x"},
    )
    desk.file("other")
    assert desk.run("retry", "job") == "retried 1 forward letter\n"
    (work,) = desk.rest(desk.names.work("forward"))
    assert (work.id, work.json, work.message.reply_to) == ("job", {"model": "m"}, "answers")
    assert (work.message.correlation_id, work.message.type) == ("c", "completion.job.v1")
    # the broker may count deliveries from the first on
    assert work.headers in ({"traceparent": "00-1"}, {"traceparent": "00-1", "x-delivery-count": 0})
    assert desk.ids() == ["other"]


def test_all_letters_of_an_id_are_retried(desk):
    """Each to the queue of its own role."""
    for _ in range(2):
        desk.file("twice")
    desk.file("twice", role="backward")
    assert len(desk.run("retry", "twice", "--json")["retried"]) == 3
    assert [one.id for one in desk.rest(desk.names.work("forward"))] == ["twice", "twice"]
    assert [one.id for one in desk.rest(desk.names.work("backward"))] == ["twice"]


def test_all_may_be_narrowed_to_what_can_be_expected_to_succeed(desk):
    """By code and role."""
    desk.file("crash", code="worker_crashed")
    desk.file("crash-back", code="worker_crashed", role="backward")
    desk.file("bad", code="invalid_message")
    desk.run("retry", "--all", "--code", "worker_crashed", "--role", "forward")
    assert [one.id for one in desk.rest(desk.names.work("forward"))] == ["crash"]
    assert sorted(desk.ids()) == ["bad", "crash-back"]


@pytest.mark.parametrize("arguments", [("retry",), ("purge",), ("retry", "id", "--all")])
def test_nothing_is_done_to_letters_that_nobody_named(desk, arguments):
    """Neither ids nor --all, and both, are mistakes."""
    desk.file("safe")
    assert "--all" in desk.run(*arguments, code=2)
    assert desk.ids() == ["safe"]


@beside_the_stage
async def test_letters_that_a_full_work_queue_refuses_stay(stage):
    """What was not confirmed is not acknowledged, and the order is kept."""
    work, letters = stage.names.work("forward"), stage.names.dead("forward")
    await stage.mailbox(work, **{"x-max-length": 2, "x-overflow": "reject-publish"})
    await stage.mailbox(letters)
    for number in range(40):
        await stage.send(b"{}", key=letters, message_id=str(number))
    done = []
    with pytest.raises(QueueFull):
        await DeadLetters(stage.url, stage.names).retry(
            Selection(("forward",)), lambda letter: done.append(letter.id)
        )
    assert 2 <= len(done) < 40
    assert [one.id for one in await stage.rest(work)] == done
    assert [*done, *(one.id for one in await stage.rest(letters))] == [str(number) for number in range(40)]


@beside_the_stage
async def test_a_crash_between_sending_and_taking_leaves_a_letter_in_both_queues(stage, monkeypatch):
    """It may be worked on twice, and is never lost."""

    async def crash(*_):
        raise OSError

    monkeypatch.setattr(dead, "_taken", crash)
    await declare(stage.url, topology(stage.names), patience=10)
    await stage.send(b"{}", key=stage.names.dead("forward"), message_id="only")
    with pytest.raises(TransportError):
        await DeadLetters(stage.url, stage.names).retry(Selection(("forward",)), lambda _: None)
    assert [one.id for one in await stage.rest(stage.names.work("forward"))] == ["only"]
    assert [one.id for one in await stage.rest(stage.names.dead("forward"))] == ["only"]


@beside_the_stage
async def test_a_work_queue_that_is_gone_loses_no_letter(stage):
    """The letter is sent first and taken out last."""
    await declare(stage.url, topology(stage.names), patience=10)
    await stage.send(b"{}", key=stage.names.dead("forward"), message_id="only")
    await stage.delete(stage.names.work("forward"))
    letters = DeadLetters(stage.url, stage.names, patience=5)
    with pytest.raises(TransportError):
        await letters.retry(Selection(("forward",)), lambda _: None)
    assert [one.id for one in (await letters.look(Selection(("forward",)))).letters] == ["only"]
    await declare(stage.url, topology(stage.names), patience=10)


def test_purging_asks_first(desk):
    """Whoever says no, or cannot be asked, keeps everything."""
    desk.file("a")
    desk.file("b", role="backward")
    assert "Delete 1 forward and 1 backward letters for ever?" in desk.run(
        "purge", "--all", given="n\n", code=1
    )
    desk.run("purge", "--all", given="", code=1)
    assert sorted(desk.ids()) == ["a", "b"]
    desk.run("purge", "--all", given="y\n")
    assert desk.ids() == []


def test_purging_takes_what_was_named_and_nothing_else(desk):
    """By id, all of its copies, in any role that was not left out."""
    for id in ("a", "b", "a", "c"):
        desk.file(id)
    desk.file("a", role="backward")
    assert len(desk.run("purge", "a", "--role", "forward", "--yes", "--json")["deleted"]) == 2
    assert desk.ids("--role", "forward") == ["b", "c"]
    assert desk.ids("--role", "backward") == ["a"]


@beside_the_stage
async def test_a_letter_that_is_filed_while_somebody_is_asked_stays(stage):
    """Also one that fits what was said, and bears an id that was named."""
    await declare(stage.url, topology(stage.names), patience=10)
    queue = stage.names.dead("forward")
    await stage.send(b"old", key=queue, message_id="a")
    letters = DeadLetters(stage.url, stage.names)
    look = await letters.look(Selection())
    await stage.send(b"new", key=queue, message_id="a")
    await stage.send(b"old", key=queue, message_id="a")
    gone = []
    await letters.purge(look.letters, gone.append)
    assert len(gone) == 1
    assert [one.content for one in await stage.rest(queue)] == [b"new", b"old"]


@beside_the_stage
async def test_a_dead_letter_of_a_worker_comes_back_to_it(stage, job):
    """The whole way: filed with its reason, retried, answered."""
    await stage.worker("forward")
    answer = await stage.ask({"model": "m", "messages": "none"}, message_id="bad")
    assert answer.error["code"] == "invalid_message"
    letters = DeadLetters(stage.url, stage.names)
    look = await stage.until(lambda: _some(letters), what="the letter")
    assert [(one.id, one.code) for one in look.letters] == [("bad", "invalid_message")]
    await letters.retry(Selection(ids=frozenset({"bad"})), lambda _: None)
    again = await stage.take(stage._inbox)
    assert (again.id, again.error["code"]) == (answer.id, "invalid_message")


async def _some(letters):
    look = await letters.look(Selection())
    return look if look.total else None
