"""Whatever comes in, a coded answer goes out: random messages through both workers, the undertaker and the client.

`BACKTALK_FUZZ_EXAMPLES` says how many of them there are altogether, and `BACKTALK_FUZZ_SEED` begins the same ones again.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from fixtures.fuzz.envelopes import envelopes
from fixtures.fuzz.graphs import feedbacks
from fixtures.fuzz.jobs import jobs
from fixtures.fuzz.large import large
from fixtures.fuzz.mutations import mutated
from fixtures.fuzz.replies import CHUNKS, GOOD, REPLIES, PlayedModel
from fixtures.fuzz.stage import LONGEST, answer_in, buried, called, worked_on
from fixtures.fuzz.texts import ANYTHING, written
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from structlog.processors import format_exc_info
from structlog.testing import capture_logs

from backtalk.client.inbox import Inbox
from backtalk.operate.contents import contents, printable
from backtalk.operate.letters import letter, revived
from backtalk.runtime.answered import BadBody, checked
from backtalk.runtime.opened import identify
from backtalk.runtime.streamed import Assembly, Broken
from backtalk.transport.envelope import REASON, Delivery, Envelope
from backtalk.wire.errors import Code, Refused

EXAMPLES = int(os.environ.get("BACKTALK_FUZZ_EXAMPLES", "2000"))
# hypothesis remembers what it tried: many rounds take no more memory than one
ROUND = 2000
ROUNDS = range(-(-EXAMPLES // ROUND))
SEED = os.environ.get("BACKTALK_FUZZ_SEED")
# of how many valid and mutated requests at least one is completed, so that the depths are reached
ONE_IN = 5
ROLES = st.sampled_from(("forward", "backward"))
DATA = Path(__file__).parents[1] / "data"


def gold(kind):
    """Return the strategy of what the repository keeps as examples of a kind."""
    return st.sampled_from([json.loads(path.read_bytes()) for path in sorted(DATA.glob(f"{kind}*.json"))])


def on_tapes(graph):
    """Return feedback on all that the last operation of a graph wrote."""
    outputs = graph["operations"][-1]["outputs"]
    return {"graph": graph, "feedback": [{"variable": id, "text": "Be more formal."} for id in outputs]}


VALID = {
    "forward": st.one_of(jobs(), jobs(), jobs(), gold("completion.job")),
    "backward": st.one_of(
        feedbacks(), feedbacks(), feedbacks(), gold("feedback"), gold("graph").map(on_tapes)
    ),
}
REQUESTS = {role: mutated(valid) for role, valid in VALID.items()}
ANSWERS = mutated(gold("completion.result") | gold("gradients") | gold("completion.chunk"))
ENDPOINT = st.one_of(*(st.lists(one, min_size=1, max_size=3) for one in (GOOD, GOOD, REPLIES)))


def fuzzed(share, turn):
    """Return what runs a property on its share of the examples of one round."""
    count = max(1, round(min(ROUND, EXAMPLES) * share))

    def decorate(check):
        check = settings(max_examples=count, suppress_health_check=list(HealthCheck), print_blob=True)(check)
        return check if SEED is None else seed(f"{SEED} {turn}")(check)

    return decorate


def bodies(drawn):
    """Return the strategy of a strategy's values as JSON."""
    return st.builds(lambda value, plain: written(value, plain=plain), drawn, st.booleans())


@pytest.fixture(scope="module")
def logged():
    """Return the lines that the workers log."""
    with capture_logs(processors=[format_exc_info]) as lines:
        yield lines


@pytest.fixture
def quiet(logged):
    """Return a check of what was logged since the last one: nothing is an error."""

    def check():
        errors = [line.get("exception", line) for line in logged if line["log_level"] == "error"]
        logged.clear()
        assert errors == []

    return check


def settled(fared, role, request, *, times=1):
    """Return the answer to a message, None where it comes again, after a look at what must hold of every one."""
    sent = fared.of(role)
    assert fared.troubles == []
    assert len(fared.acks) == times
    assert fared.seconds < LONGEST
    # who comes again while the first is settled is settled with it
    assert 1 <= len(sent["answers"]) + len(sent["again"]) <= times
    answers = [answer_in(role, one, request) for one in sent["answers"]]
    assert len({envelope.message_id for _, _, envelope in sent["answers"]}) <= 1
    assert len(sent["filed"]) in (0, len(answers))
    return answers[0] if answers else None


@pytest.mark.parametrize("role", ["forward", "backward"])
# what ends a schema that takes too long may do so where exceptions are swallowed, and comes again
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("turn", ROUNDS)
def test_any_request_is_answered_once_and_with_a_code(turn, role, quiet):
    """Valid or not so valid, whatever the model says to it; and a good part of them is completed."""
    statuses = Counter()

    @fuzzed(0.3, turn)
    @given(
        drawn=REQUESTS[role],
        plain=st.booleans(),
        replies=ENDPOINT,
        data=st.data(),
        times=st.sampled_from((1, 1, 2)),
    )
    def check(drawn, plain, replies, data, times):
        value, _ = drawn
        envelope = data.draw(envelopes(st.just(written(value, plain=plain)), role))
        fared = worked_on(role, envelope, PlayedModel(replies), times=times)
        quiet()
        answer = settled(fared, role, envelope, times=times)
        statuses[answer.status if answer else "again"] += 1

    check()
    if statuses.total() >= 300:
        assert statuses["completed"] * ONE_IN > statuses.total(), statuses


@pytest.mark.parametrize("turn", ROUNDS)
def test_any_bytes_are_answered_once_and_with_a_code(turn, quiet):
    """They need not be JSON, nor have anything to do with a request; a repeat is answered under the same id."""

    @fuzzed(0.15, turn)
    @given(role=ROLES, data=st.data(), replies=ENDPOINT)
    def check(role, data, replies):
        envelope = data.draw(envelopes(ANYTHING, role))
        first, second = (worked_on(role, envelope, PlayedModel(replies)) for _ in range(2))
        quiet()
        for fared in (first, second):
            settled(fared, role, envelope)
        assert [sent[2].message_id for sent in first.of(role)["answers"]] == [
            sent[2].message_id for sent in second.of(role)["answers"]
        ]

    check()


@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("turn", ROUNDS)
def test_large_messages_are_answered_in_time_too(turn, quiet):
    """A few megabytes of one thing, in the message or in what the model says to it."""

    @fuzzed(0.0025, turn)
    @given(one=large())
    def check(one):
        envelope = Envelope(one.body, message_id="large", reply_to="mine", content_encoding=one.encoding)
        fared = worked_on(one.role, envelope, PlayedModel([one.reply]))
        quiet()
        settled(fared, one.role, envelope)

    check()


@pytest.mark.parametrize("turn", ROUNDS)
def test_whatever_killed_a_worker_is_buried(turn, quiet):
    """Its sender hears of it once, people get the letter, and can read it and send it again."""

    @fuzzed(0.05, turn)
    @given(role=ROLES, data=st.data())
    def check(role, data):
        envelope = data.draw(envelopes(ANYTHING | bodies(VALID[role]), role))
        fared = buried(role, envelope)
        quiet()
        answer = settled(fared, role, envelope)
        assert answer.error.code in (Code.WORKER_CRASHED, Code.DEADLINE_EXCEEDED)
        (filed,) = fared.of(role)["filed"]
        assert letter(filed, role, 1).id == answer.id
        assert (letter(filed, role, 1).code, filed.headers[REASON]) == (answer.error.code,) * 2
        assert REASON not in revived(filed).headers

    check()


@pytest.mark.parametrize("turn", ROUNDS)
def test_any_message_can_be_read_by_a_client_and_by_people(turn, caplog):
    """It is an answer, or refused; a letter is shown, whatever is in it."""
    caplog.set_level("CRITICAL")

    @fuzzed(0.1, turn)
    @given(data=st.data(), role=ROLES)
    def check(data, role):
        envelope = data.draw(envelopes(ANYTHING | bodies(ANSWERS.map(lambda drawn: drawn[0])), "client"))
        with suppress(Refused):
            called(envelope)
        Inbox()._first(envelope)
        known = letter(envelope, role, 1)
        assert identify(Delivery(revived(envelope), "queue", redelivered=False, ack=None)).id == known.id
        assert all(one.isprintable() or one in "\n\t" for one in printable(contents(envelope).text))

    check()


@pytest.mark.parametrize("turn", ROUNDS)
def test_any_chunks_spell_a_completion_or_are_broken(turn):
    """No other exception, and what they spell is what a whole answer would be."""

    @fuzzed(0.1, turn)
    @given(chunks=CHUNKS)
    def check(chunks):
        assembly = Assembly()
        with suppress(Broken, BadBody):
            for chunk in chunks:
                assembly.add(chunk)
            checked(assembly.whole(), "openai")

    check()
