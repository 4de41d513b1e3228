"""`backtalk dead --queue results` on a real broker: answers that nobody took are found by the id of their request."""

import pytest
from typer.testing import CliRunner

from backtalk.cli.main import app
from backtalk.operate.dead import DeadLetters
from backtalk.operate.letters import RESULTS, Selection
from backtalk.transport.rabbitmq import declare
from backtalk.transport.topology import topology


class Desk:
    """A namespace whose unclaimed answers a program sees from outside any event loop."""

    def __init__(self, beside, stage):
        self.do, self.stage = beside, stage

    def run(self, *arguments, code=0):
        """Run a verb of `dead` on the answers and return what it printed."""
        options = ["--queue", "results", "--url", self.stage.url, "--namespace", self.stage.names.namespace]
        done = CliRunner().invoke(app, ["dead", *arguments, *options])
        assert done.exit_code == code, (done.output, done.exception)
        return done.output

    def answers(self, count):
        """Return so many answers, when they are there."""
        letters = DeadLetters(self.stage.url, self.stage.names)

        async def enough():
            look = await letters.look(Selection((RESULTS,)))
            return look.letters if look.total == count else None

        return {one.id: one for one in self.do(self.stage.until(enough, what=f"{count} answers"))}


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


def test_answers_that_nobody_took_are_listed_with_whose_they_are(desk, job):
    """By the id of the request, with how it ended and where it should have gone; then shown, then deleted."""
    desk.do(desk.stage.worker("forward"))
    desk.do(desk.stage.send(job(), message_id="no-address"))
    desk.do(desk.stage.send(job(), message_id="gone", correlation_id="c", reply_to="nobody-is-here"))
    desk.do(desk.stage.send({"model": "m", "messages": 1}, message_id="bad"))
    found = desk.answers(3)
    assert {id: (one.code, one.text) for id, one in found.items()} == {
        "no-address": ("completed", "its request named no address"),
        "gone": ("completed", "nobody-is-here did not take it"),
        "bad": ("invalid_message", "its request named no address"),
    }
    assert {one.type for one in found.values()} == {"completion.result.v1"}
    # the worker logs into the same output
    listed = [line.split() for line in desk.run("list", "--code", "completed").splitlines()]
    assert {words[1] for words in listed if words[0] == "results"} == {"no-address", "gone"}
    assert "correlation_id: c\n" in desk.run("show", "gone")
    assert "deleted 1 results letter\n" in desk.run("purge", "gone", "--yes")
    assert desk.answers(2).keys() == {"no-address", "bad"}


def test_what_is_no_answer_is_listed_all_the_same(desk):
    """Somebody may have put anything there."""
    for number, body in enumerate((b"\xff", b"[1]", b'{"id": 7, "error": {"code": []}}')):
        desk.do(desk.stage.send(body, key=desk.stage.names.kept_results, message_id=f"odd-{number}"))
    assert {id: one.code for id, one in desk.answers(3).items()} == dict.fromkeys(("odd-0", "odd-1", "odd-2"))


def test_an_empty_queue_and_mistakes_are_told(desk):
    """A queue that there is not, and a role where there is none."""
    assert "no answers that nobody took" in desk.run("list")
    assert "both workers" in desk.run("list", "--role", "forward", code=2)
    done = CliRunner().invoke(app, ["dead", "list", "--queue", "rung"])
    assert done.exit_code == 2
    assert "dead or results" in done.output
