"""Batches on disk: what is checked, noted, written, and told of them; no broker is asked."""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
import tracemalloc

import pytest
import typer
from typer.testing import CliRunner

from backtalk.batches import batch as batches
from backtalk.batches import engine, single
from backtalk.batches.ledger import Ledger, number_of
from backtalk.batches.outputs import order, put_in_order
from backtalk.batches.pace import Pace
from backtalk.batches.report import report, window
from backtalk.batches.requests import BadRequests, Requests
from backtalk.batches.state import Form, Status
from backtalk.batches.store import Store
from backtalk.cli.batch import app
from backtalk.cli.batch_options import seconds
from backtalk.client import QueueFull
from backtalk.client.batchfile import BadFile
from backtalk.wire.jobs import CompletionResult

USED = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def line(custom_id, **fields):
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body, **fields}


@pytest.fixture
def made(tmp_path):
    """Return the maker of batches of some lines, checked and in progress unless told otherwise."""
    stores = []

    def make(*lines, begin=True, **options):
        file = tmp_path / f"in{len(stores)}.jsonl"
        file.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines))
        stores.append(batches.create(tmp_path / "state", file, namespace="n", **options))
        if begin:
            batches.begun(stores[-1])
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def answer(store, number, text="fine", status="completed", **fields):
    said = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    body = {"object": "chat.completion", "model": "gpt-4o", "choices": [said], "usage": USED}
    given = {"completions": [body], "usage": {**USED, "calls": 1}} if status != "failed" else {}
    return CompletionResult.model_validate(
        {"id": f"{store.plan.id}-{number}", "status": status, **given, **fields}
    )


def failed(store, number, code):
    error = {"code": code, "message": "because", "retryable": False, "details": {"path": "p"}}
    return answer(store, number, status="failed", error=error)


def lines_of(path):
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_all_problems_of_a_file_are_told_at_once(made):
    """Each with its line, in the form of OpenAI's batch errors; the batch has failed, and nothing of it is sent."""
    store = made(
        line("a"),
        "not json",
        line("a"),
        "",
        line("b", url="/v1/embeddings"),
        line("c", method="GET"),
        line("d", body={"model": "m", "messages": []}),
        line(""),
        line(7),
        begin=False,
    )
    with pytest.raises(BadRequests, match=r"in0.jsonl:3: custom_id 'a' stands twice"):
        batches.begun(store)
    facts = store.facts()
    assert facts.status is Status.FAILED
    assert [(one["line"], one["code"], one["param"]) for one in facts.problems] == [
        (2, "invalid_json_line", None),
        (3, "duplicate_custom_id", "custom_id"),
        (5, "invalid_url", "url"),
        (6, "invalid_method", "method"),
        (7, "invalid_request", "messages"),
        (8, "missing_required_parameter", "custom_id"),
        (9, "missing_required_parameter", "custom_id"),
    ]
    assert [one["message"] for one in facts.problems[-2:]] == [
        "custom_id is missing; give each line one",
        "custom_id is no text; put it in quotes",
    ]
    told = report(store.plan, facts)
    assert told["errors"]["data"] == facts.problems
    assert told["failed_at"] is not None


def test_a_file_that_is_all_wrong_is_not_read_to_its_end(made):
    """Twenty problems are enough to see what is the matter."""
    store = made(*["junk"] * 500, begin=False)
    with pytest.raises(BadRequests):
        batches.begun(store)
    assert len(store.facts().problems) == 20


def test_a_file_without_requests_is_bad(made):
    with pytest.raises(BadRequests, match="holds no requests"):
        made("", "  ")


def test_a_file_that_was_changed_is_not_sent(made):
    """The places of its lines would be those of other requests."""
    store = made(line("a"))
    store.plan.input.write_text(json.dumps(line("b")))
    with pytest.raises(BadFile, match="was changed"):
        Requests(store)


def test_results_go_to_the_file_they_belong_to(made):
    """OpenAI's lines and no others; counts, usage and cost are those of what was written."""
    store = made(line("a"), line("b"), line("c"))
    with Ledger(store) as ledger:
        assert ledger.take([answer(store, 2), failed(store, 1, "upstream_rejected"), answer(store, 0)]) == 3
    (second, first), (error,) = lines_of(store.plan.output), lines_of(store.plan.errors)
    assert (first["custom_id"], second["custom_id"]) == ("a", "c")
    assert set(first) == {"id", "custom_id", "response", "error"}
    assert first["error"] is None
    assert first["response"]["status_code"] == 200
    assert first["response"]["request_id"] == first["id"]
    assert first["response"]["body"]["object"] == "chat.completion"
    assert error == {
        "id": f"{store.plan.id}-1",
        "custom_id": "b",
        "response": None,
        "error": {"code": "upstream_rejected", "message": "because"},
    }
    told = report(store.plan, store.facts())
    assert told["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert (told["usage"]["input_tokens"], told["usage"]["output_tokens"]) == (20, 10)
    assert told["backtalk"]["cost"]["amount"] > 0


def test_the_cost_of_a_model_without_a_price_is_unknown(made):
    """An unknown price is no zero, and one such call makes the whole unknown."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "backtalk": {"endpoint": "mine"}}
    store = made(line("a"), line("b", body=body))
    with Ledger(store) as ledger:
        ledger.take([answer(store, 0), answer(store, 1)])
    assert store.facts().cost is None


@pytest.mark.parametrize("wrong", [{"model": ["gpt-4o"]}, {"model": 4}, {"usage": "much"}, {"usage": [1]}])
def test_what_an_endpoint_makes_up_loses_no_answer(made, wrong):
    """It is written as it came, and its cost is unknown."""
    store = made(line("a"))
    completion = {**answer(store, 0).completions[0], **wrong}
    with Ledger(store) as ledger:
        assert ledger.take([answer(store, 0, completions=[completion])]) == 1
    assert store.facts().cost is None
    assert lines_of(store.plan.output)[0]["response"]["body"] == completion


def test_our_own_form_has_all_that_backtalk_adds(made):
    """Several items are a list, errors have their details, and the rest stands under `backtalk`."""
    store = made(line("a"), line("b"), form=Form.BACKTALK)
    whole = answer(store, 0, metadata={"k": 1})
    batch = whole.model_copy(update={"completions": whole.completions * 2})
    with Ledger(store) as ledger:
        ledger.take([batch, failed(store, 1, "internal")])
    (good,), (bad,) = lines_of(store.plan.output), lines_of(store.plan.errors)
    assert len(good["response"]["body"]["data"]) == 2
    assert good["backtalk"]["metadata"] == {"k": 1}
    assert bad["error"]["details"] == {"path": "p"}


def test_what_comes_twice_or_is_not_ours_is_written_once_or_never(made):
    """In one group, in a later one, in a later process, and answers of other batches."""
    store = made(line("a"), line("b"))
    other = answer(store, 0).model_copy(update={"id": "batch_other-0"})
    beyond = answer(store, 7)
    with Ledger(store) as ledger:
        assert ledger.take([answer(store, 0), answer(store, 0), other, beyond]) == 1
        assert ledger.take([answer(store, 0)]) == 0
    again = Store(store.path)
    with Ledger(again) as ledger:
        assert ledger.take([answer(store, 0), answer(store, 1)]) == 1
    again.close()
    assert [one["custom_id"] for one in lines_of(store.plan.output)] == ["a", "b"]


@pytest.mark.parametrize(
    ("id", "number"),
    [
        ("b-7", 7),
        ("b-", None),
        ("b-x", None),
        ("b-²", None),
        ("c-7", None),
        ("7", None),
        ("b-99999999999999999999", None),
        (f"b-{'9' * 5000}", None),
    ],
)
def test_the_number_of_a_line_is_in_its_id(id, number):
    assert number_of(id, "b") == number


def test_bytes_that_were_never_noted_are_cut_off(made):
    """A process died between the two: the answer was not acknowledged, and comes again."""
    store = made(line("a"), line("b"))
    with Ledger(store) as ledger:
        ledger.take([answer(store, 0)])
    with store.plan.output.open("ab") as torn:
        torn.write(b'{"id": "cut off in the mid')
    with Ledger(store) as ledger:
        ledger.take([answer(store, 1)])
    assert [one["custom_id"] for one in lines_of(store.plan.output)] == ["a", "b"]


def test_a_step_that_fails_leaves_nothing(made):
    """Counts and lines change together or not at all."""
    store = made(line("a"))

    def step():
        with store.step():
            store.note(sent=1)
            store.note(no_such_fact=1)

    with pytest.raises(sqlite3.Error):
        step()
    assert store.facts().sent == 0


def test_the_files_are_put_in_order_once(made):
    """A second time changes nothing: a process that died after it leaves it to the next."""
    store = made(*(line(name) for name in "abcd"))
    with Ledger(store) as ledger:
        for number in (3, 0, 2):
            ledger.take([answer(store, number)])
        ledger.take([failed(store, 1, "internal")])
    order(store)
    put_in_order(store)
    put_in_order(store)
    assert [one["custom_id"] for one in lines_of(store.plan.output)] == ["a", "c", "d"]
    assert [one["custom_id"] for one in lines_of(store.plan.errors)] == ["b"]


@pytest.mark.parametrize(
    ("facts", "code", "told"),
    [
        ({"status": "cancelling"}, "cancelled", "batch_cancelled"),
        ({"expires_at": 1.0}, "deadline_exceeded", "batch_expired"),
        ({"expires_at": 1.0}, "cancelled", "cancelled"),
        ({"sent": 1}, "deadline_exceeded", "deadline_exceeded"),
        ({"sent": 1}, "cancelled", "cancelled"),
    ],
)
def test_what_failed_because_its_batch_ended_says_so(made, facts, code, told):
    """In OpenAI's words; a deadline of the line's own, or an order about it alone, is told as it is."""
    store = made(line("a"))
    store.note(**facts)
    with Ledger(store) as ledger:
        ledger.take([failed(store, 0, code)])
    (error,) = lines_of(store.plan.errors)
    assert error["error"]["code"] == told
    assert store.facts().expired == (told == "batch_expired")


def test_one_process_at_a_time_works_on_a_batch(made):
    """Another one is told so, and may begin when the first has ended."""
    store = made(line("a"))
    with batches.working(store) as first, batches.working(store) as second:
        assert (first, second) == (True, False)
    with batches.working(store) as third:
        assert third


def test_a_batch_is_found_by_the_beginning_of_its_id(made):
    store, other = made(line("a")), made(line("b"))
    folder = store.path.parent.parent
    assert batches.find(folder, store.plan.id) == store.path
    assert batches.find(folder, other.plan.id.removeprefix("batch_")[:12]) == other.path
    with pytest.raises(BadFile, match="2 batches"):
        batches.find(folder, "batch_")
    with pytest.raises(BadFile, match="no batch"):
        batches.find(folder, "nothing")


def test_a_file_that_is_there_is_never_overwritten(made, tmp_path):
    """Neither by results, nor by results and errors in one."""
    (tmp_path / "mine").write_text("my only copy")
    with pytest.raises(BadFile, match="is there already"):
        made(line("a"), output=tmp_path / "mine")
    with pytest.raises(BadFile, match="a file each"):
        made(line("a"), output=tmp_path / "x", errors=tmp_path / "x")
    assert (tmp_path / "mine").read_text() == "my only copy"


@pytest.mark.parametrize("name", ["output", "errors"])
def test_a_folder_that_is_not_there_is_told_before_anything_is_sent(made, tmp_path, name):
    """A batch whose results cannot be written would never end."""
    with pytest.raises(BadFile, match="its folder is not there"):
        made(line("a"), **{name: tmp_path / "nowhere" / "x"})
    assert not (tmp_path / "state").exists()


def test_submit_needs_the_folder_of_its_results(tmp_path):
    """The state lies beside them, and is begun first."""
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps(line("a")))
    with pytest.raises(BadFile, match="its folder is not there"):
        single.opened(
            file,
            tmp_path / "nowhere" / "x",
            namespace="n",
            in_flight=1,
            resend=False,
            on_bytes=lambda _: None,
        )


def test_two_batches_never_write_to_one_file(made, tmp_path):
    """Though neither has written anything yet; one that ended without a result has let go of it."""
    first = made(line("a"), output=tmp_path / "out")
    with pytest.raises(BadFile, match=f"{first.plan.id} writes to it"):
        made(line("b"), output=tmp_path / "else", errors=tmp_path / "out")
    first.note(status=Status.CANCELLED)
    made(line("b"), output=tmp_path / "out")


def test_results_that_somebody_took_away_are_missed(made):
    """Instead of a file of zeros where they were."""
    store = made(line("a"), line("b"))
    with Ledger(store) as ledger:
        ledger.take([answer(store, 0)])
    moved = store.plan.output.rename(store.plan.output.with_name("moved"))
    with pytest.raises(BadFile, match="lacks results"):
        Ledger(store)
    assert not store.plan.output.exists()
    moved.rename(store.plan.output)
    with Ledger(store) as ledger:
        assert ledger.take([answer(store, 1)]) == 1


def test_batches_are_listed_by_their_age(made):
    """Whichever was written to last; and one that cannot be read keeps none from being listed."""
    first, second = made(line("a")), made(line("b"))
    first.close()
    (second.path.parent.with_name("batch_torn")).mkdir()
    (second.path.parent.with_name("batch_torn") / "batch.db").touch()
    listed = batches.all_batches(second.path.parent.parent)
    assert [plan.id for plan, _ in listed] == [first.plan.id, second.plan.id]


def test_a_batch_is_there_as_a_whole_or_not_at_all(made, monkeypatch):
    """A process that dies while it begins one leaves nothing that stands in the way of another."""
    begun = made(line("a"))

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("backtalk.batches.store.Path.replace", dies)
    with pytest.raises(KeyboardInterrupt):
        Store.create(begun.path, begun.plan)
    monkeypatch.undo()
    assert not begun.path.exists()
    with pytest.raises(BadFile):
        Store(begun.path)
    assert not begun.path.exists()
    Store.create(begun.path, begun.plan).close()


def test_what_is_no_state_is_refused(tmp_path):
    (tmp_path / "batch.db").write_text("something else, and long enough to be looked at\n" * 100)
    with pytest.raises(BadFile, match="is no state of a batch"):
        Store(tmp_path / "batch.db")


def test_a_batch_that_is_cancelled_while_it_is_checked_is_never_sent(made):
    store = made(line("a"), begin=False)
    batches.cancel(store)
    batches.begun(store)
    assert store.facts().status is Status.CANCELLED


async def test_a_batch_that_waits_for_room_can_be_cancelled(made, monkeypatch):
    """The queue is full and nobody works: what was never sent is cancelled without an answer."""
    monkeypatch.setattr(engine, "FULL_PAUSE", 0.01)
    store = made(line("a"), line("b"), line("c"))
    sent = []

    class Full:
        async def enqueue(self, _, *, results, id):
            assert results == store.plan.stream
            if sent:
                batches.cancel(store)
                raise QueueFull("full")
            sent.append(id)

    with Ledger(store) as ledger:
        async with asyncio.timeout(5):
            await engine.Engine(Full(), store, ledger).send()
    facts = store.facts()
    assert (facts.status, facts.sent, facts.failed, facts.expired) == (Status.CANCELLING, 3, 2, 0)
    assert [one["custom_id"] for one in lines_of(store.plan.errors)] == ["b", "c"]


def test_the_pace_is_that_of_the_last_minute():
    """A long pause long ago says nothing about how long the rest takes."""
    pace = Pace()
    assert (pace.rate, pace.left(10)) == (0.0, None)
    pace.see(0.0, 0)
    pace.see(1000.0, 10)
    for second in range(100):
        pace.see(1001.0 + second, 10 + 5 * second)
    assert pace.rate == pytest.approx(5, rel=0.05)
    assert pace.left(1005) == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize(
    ("text", "told"), [("90s", 90), ("30m", 1800), ("24h", 86400), ("7d", 604800), ("1s", 1)]
)
def test_times_are_read_as_they_are_shown(text, told):
    assert seconds(text) == told
    assert window(told) == text


@pytest.mark.parametrize(
    "text", ["", "24", "0h", "-1h", "1.5h", "soon", "1 h x", f"{'9' * 9}d", f"{'9' * 5000}s"]
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(typer.BadParameter):
        seconds(text)


def run(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_a_batch_that_failed_can_be_looked_at_without_a_broker(made, tmp_path):
    """It has not been sent, and what is printed is OpenAI's batch object."""
    requests = tmp_path / "in.jsonl"
    requests.write_text("junk\n")
    state = tmp_path / "state"
    sent = run("submit", requests, "--state", state)
    assert isinstance(sent.exception, BadRequests)
    assert sent.output == ""
    (told,) = json.loads(run("list", "--json", "--state", state).stdout)["data"]
    assert (told["status"], told["errors"]["data"][0]["line"]) == ("failed", 1)
    assert told["id"] in run("list", "--state", state).stdout
    shown = run("status", told["id"], "--offline", "--state", state)
    assert json.loads(shown.stdout) == told
    results = run("results", told["id"], "--state", state)
    assert (results.exit_code, results.stdout) == (3, "")
    assert f"nothing was sent; `backtalk batch status {told['id']}` lists what is wrong" in results.stderr


def test_what_makes_no_sense_is_a_wrong_command_line(tmp_path):
    requests = tmp_path / "in.jsonl"
    requests.write_text(json.dumps(line("a")))
    for arguments in (["--in-flight", "5"], ["--expires", "soon"]):
        assert run("submit", requests, "--state", tmp_path / "state", *arguments).exit_code == 2
    assert not (tmp_path / "state").exists()


def test_memory_does_not_grow_with_the_file(made):
    """Ten times the lines, checked and answered: what is known of them lies on disk."""
    warm = made(line("a"))
    with Ledger(warm) as ledger:
        # the price list is read once
        ledger.take([answer(warm, 0)])
    kept = []
    for count in (50, 500):
        store = made(*(line(f"request-{at}") for at in range(count)), begin=False)
        tracemalloc.start()
        batches.begun(store)
        with Ledger(store) as ledger:
            for start in range(0, count, 50):
                ledger.take([answer(store, number) for number in range(start, start + 50)])
            gc.collect()
            kept.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert store.facts().completed == count
    assert kept[1] < kept[0] + 10_000
