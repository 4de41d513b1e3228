"""Feedback on a batch in parts, and the answers to the parts as one."""

import pytest

from backtalk.client.split import parts_of, whole
from backtalk.wire.codec import decode, encode, validate
from backtalk.wire.errors import Code, Refused
from backtalk.wire.feedback import Call, Entry, Failure, Feedback, Gradients

SEVEN = [f"{at}" for at in range(7)]


@pytest.fixture
def graph(graph_of):
    """Two calls for a batch of seven; the second reads the shared text at its two ends."""
    return graph_of(
        {"p": {"data": "Be kind.", "requires_grad": True}, "x": SEVEN, "y": SEVEN, "z": SEVEN, "one": "1"},
        ("first", "p x", "y"),
        ("second", "p y p", "z"),
    )


@pytest.fixture
def asked(graph):
    """Return the maker of feedback on the graph."""

    def made(said="Too long.", **fields):
        items = [{"variable": "z", "text": said}] if not isinstance(said, list) else said
        return validate({"graph": graph.model_dump(mode="json"), "feedback": items, **fields}, Feedback)

    return made


@pytest.mark.parametrize(
    ("count", "ranges"),
    [
        (1, [(0, 7)]),
        (2, [(0, 3), (3, 7)]),
        (3, [(0, 2), (2, 4), (4, 7)]),
        (7, [(at, at + 1) for at in range(7)]),
        (100, [(at, at + 1) for at in range(7)]),
    ],
)
def test_the_parts_share_the_samples_evenly_and_in_order(graph, asked, count, ranges):
    """There are no more parts than samples, and none is empty."""
    assert [part.samples for part in parts_of(asked(), graph, count)] == ranges


def test_the_parts_say_all_that_the_whole_said(graph, asked):
    """But for samples and policy they are the same message; what a worker decides stays with it."""
    whole = asked(wrt=["p"], model="m", policy={"calls": "per_operation"}, backtalk={"metadata": {"a": 1}})
    for part in parts_of(whole, graph, 3):
        assert part.model_copy(update={"samples": None, "policy": whole.policy}) == whole
        assert part.policy.model_dump() == {
            "calls": "per_operation",
            "batch": "per_sample",
            "summary": False,
        }
        assert decode(encode(part), Feedback) == part


@pytest.mark.parametrize("policy", [None, {}])
def test_without_a_policy_only_what_a_split_cannot_have_is_stated(graph, asked, policy):
    """The worker's defaults count for everything else."""
    part, _ = parts_of(asked(policy=policy), graph, 2)
    assert part.policy.model_fields_set == {"batch", "summary"}


@pytest.mark.parametrize(
    ("said", "fields", "path"),
    [
        ("x", {"policy": {"batch": "digest"}}, "policy/batch"),
        ("x", {"policy": {"summary": True}}, "policy/summary"),
        ("x", {"samples": [0, 3]}, "samples"),
        ([{"variable": "one", "text": "x"}], {}, "feedback"),
        ([{"variable": "z", "text": "x"}, {"variable": "one", "text": "x"}], {}, "feedback"),
        ([{"variable": "nobody", "text": "x"}], {}, "feedback"),
    ],
)
def test_what_needs_one_message_is_refused(graph, asked, said, fields, path):
    """With the path of the field."""
    with pytest.raises(Refused) as refused:
        parts_of(asked(said, **fields), graph, 2)
    assert refused.value.error.code == Code.INVALID_MESSAGE
    assert refused.value.error.details["path"] == path


def test_a_scalar_among_batches_is_told_as_such(graph, asked):
    """Who has how many items stands in the message."""
    said = [{"variable": "z", "text": "x"}, {"variable": "one", "text": "x"}]
    with pytest.raises(Refused, match="'z' has 7, 'one' has none"):
        parts_of(asked(said), graph, 2)


@pytest.mark.parametrize("count", [0, -3])
def test_there_is_at_least_one_part(graph, asked, count):
    """A number below is a mistake of the program."""
    with pytest.raises(ValueError, match=f"split is {count}"):
        parts_of(asked(), graph, count)


# ---- the answers


def entry(operation, path, sample):
    return Entry(
        text=f"{operation} {path} {sample}",
        role="r",
        operation=operation,
        input=path,
        sample=sample,
        feedback=("f",),
        how="model",
    )


def failure(operation, variable, sample):
    error = Refused(Code.UPSTREAM_REJECTED, "no").error
    return Failure(variable=variable, operation=operation, sample=sample, error=error)


def part(*samples, status="completed", failures=(), error=None):
    """The answer to some samples, in the order that a worker writes."""
    order = [(None, None), ("first", "messages/0/content/0")]
    order += [("second", f"messages/0/content/{at}") for at in (0, 2)]
    entries = [entry(operation, path, sample) for operation, path in order for sample in samples]
    calls = [
        Call(purpose="ask", operation=operation, inputs=(path,), sample=sample, usage={"total_tokens": 2})
        for operation, path in order[1:]
        for sample in samples
    ]
    used = {"total_tokens": 2 * len(samples), "calls": len(samples)}
    return Gradients(
        id="part",
        status=status,
        gradients={"p": tuple(entries)} if status != "failed" else {},
        failures=failures,
        calls=tuple(calls) if status != "failed" else (),
        usage={"total_tokens": 6 * len(samples), "calls": 3 * len(samples)} if status != "failed" else {},
        usage_by_operation={"first": used} if status != "failed" else {},
        metadata={"a": 1},
        error=error,
    )


def test_the_parts_together_are_the_whole(graph):
    """Entries and calls in tape order, then position, then sample; sums of what was used."""
    answer = whole([part(0, 1), part(2), part(3, 4, 5, 6)], graph, "mine")
    assert answer == part(*range(7)).model_copy(update={"id": "mine"})


def test_one_part_is_itself(graph):
    """Nothing is lost on the way."""
    assert whole([part(0, 1)], graph, "part") == part(0, 1)


def test_failures_are_in_tape_order_too(graph):
    """By operation and variable, then by sample, as a worker writes them."""
    answer = whole(
        [
            part(0, 1, status="partial", failures=(failure("first", "p", 1), failure("second", "y", 0))),
            part(2, 3, status="partial", failures=(failure("first", "p", 3), failure("second", "y", 2))),
        ],
        graph,
        "mine",
    )
    assert [(one.operation, one.sample) for one in answer.failures] == [
        ("first", 1),
        ("first", 3),
        ("second", 0),
        ("second", 2),
    ]
    assert (answer.status, answer.error) == ("partial", None)


@pytest.mark.parametrize("first", [True, False])
def test_a_part_without_anything_makes_it_partial(graph, first):
    """The rest is there, and the error beside it."""
    error = Refused(Code.BUDGET_EXCEEDED, "policy/max_calls: too few").error
    parts = [part(status="failed", error=error), part(3, 4)]
    answer = whole(parts if first else parts[::-1], graph, "mine")
    assert (answer.status, answer.error) == ("partial", error)
    assert answer.gradients == part(3, 4).gradients
    assert answer.usage == part(3, 4).usage


def test_a_part_with_nothing_wanted_does_not_count_as_failed(graph):
    """Where a part was done and had nothing to say, the whole is partial, not failed."""
    error = Refused(Code.UPSTREAM_REJECTED, "no").error
    empty = Gradients(id="part", status="completed", gradients={"p": ()})
    answer = whole([empty, part(status="failed", error=error)], graph, "mine")
    assert answer.status == "partial"


def test_only_failed_parts_are_a_failure(graph):
    """With the first one's error."""
    errors = [Refused(Code.UPSTREAM_REJECTED, text).error for text in ("first", "second")]
    answer = whole([part(status="failed", error=error) for error in errors], graph, "mine")
    assert (answer.status, answer.error) == ("failed", errors[0])
    assert answer.gradients == {}
