"""The loop around a program that learns, with steps that ask nobody."""

import json
import re
import sys
import xml.etree.ElementTree as ET

import pytest

from backtalk import Parameter, PartialWarning, Variable, is_grad_enabled, load, save
from backtalk import cognitive as cog
from backtalk import functional as F  # noqa: N812  as programs do
from backtalk.data import DataLoader
from backtalk.models import ModelClient
from backtalk.models.usage import counted
from backtalk.optim import TGD
from backtalk.trainer import Trainer, draw
from backtalk.trainer.journal import Spent
from backtalk.trainer.outcome import Outcome
from backtalk.trainer.watch import Watch

CLIENT = ModelClient(model="m")
LETTERS = DataLoader(list("abcdef"), batch_size=2, shuffle=True, seed=5)


class Said(Variable):
    """What feedback starts at, for which nobody is asked."""

    def backward(self):
        self.heard = True

    async def abackward(self):
        self.heard = True


class Program(cog.Module):
    """Appends what it sees to its text; `scores` are what its validations come to, `tokens` what a batch costs."""

    def __init__(self, scores=(0.5,), tokens=0, fail_at=None, error=None):
        super().__init__()
        self.text = Parameter("", role="text")
        self.scores, self.tokens, self.fail_at, self.error = list(scores), tokens, fail_at, error
        self.seen, self.starts, self.modes = [], [], []

    def training_step(self, batch, batch_idx):
        if len(self.seen) == self.fail_at:
            raise self.error
        self.seen.append((batch_idx, "".join(batch.data)))
        self.starts.append(Said("", role="said"))
        self._spend()
        self.text.append_grad(Variable("".join(batch.data)))
        return {"loss": self.starts[-1], "score": 0.25}

    def validation_step(self, batch, batch_idx):
        self.modes.append((self.training, is_grad_enabled()))
        self._spend()
        return {"score": self.scores.pop(0) if len(self.scores) > 1 else self.scores[0]}

    def configure_optimizers(self):
        return Appending([self.text], CLIENT)

    def _spend(self):
        used = {"prompt_tokens": self.tokens, "completion_tokens": 0, "total_tokens": self.tokens}
        CLIENT.spend(used)


class Appending(TGD):
    """Takes gradients for what to append."""

    def step(self):
        for group in self.param_groups:
            for one in group.params:
                one.data += "".join(gradient.data for gradient in one.grad)

    async def astep(self):
        self.step()


ONE = DataLoader(["x"])


@pytest.fixture
def quietly(tmp_path):
    """Return the maker of Trainers that say nothing and leave their files to the test."""

    def made(*arguments, **options):
        told = {"directory": tmp_path, "enable_progress_bar": False, "enable_learning_curve": False}
        return Trainer(*arguments, **(told | options))

    return made


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


# ---- the loop


def test_every_step_clears_measures_goes_back_and_rewrites(quietly):
    """Each epoch has all batches, in an order of its own; the gradients of the step before are gone."""
    program = Program()
    fit = quietly(2).fit(program, LETTERS)
    assert (fit.reason, fit.epochs, fit.steps, fit.best) == ("epochs", 2, 6, 0.25)
    assert [at for at, _ in program.seen] == [0, 1, 2] * 2
    epochs = ["".join(letters for _, letters in program.seen[start : start + 3]) for start in (0, 3)]
    assert program.text.data == "".join(epochs)
    assert epochs[0] != epochs[1]
    assert [sorted(epoch) for epoch in epochs] == [list("abcdef")] * 2
    assert all(start.heard for start in program.starts)


async def test_the_awaitable_twin_does_the_same(quietly, tmp_path):
    program, awaited = Program([0.1, 0.2, 0.3]), Program([0.1, 0.2, 0.3])
    fit = await quietly(2, directory=tmp_path / "other").afit(awaited, LETTERS, ONE)
    blocking = quietly(2).fit(program, LETTERS, ONE)
    assert (awaited.seen, awaited.text.data) == (program.seen, program.text.data)
    assert (fit.reason, fit.best, fit.steps) == (blocking.reason, blocking.best, blocking.steps)
    trainer = quietly()
    assert await trainer.avalidate(awaited, ONE) == trainer.validate(program, ONE) == {"score": 0.3}
    assert await trainer.atest(awaited, ONE) == trainer.test(program, ONE) == {"score": 0.3}


async def test_steps_may_be_coroutine_functions(quietly):
    """In an event loop they are awaited there."""

    class Awaited(Program):
        async def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx)

    program = Awaited()
    await quietly().afit(program, LETTERS)
    assert len(program.seen) == 3


def test_nothing_is_learnt_in_validation(quietly):
    """The program knows, nothing is recorded, and afterwards it is in training again."""
    program = Program()
    quietly().fit(program, LETTERS, ONE)
    assert program.modes == [(False, False)] * 2
    assert program.training
    program.eval()
    quietly().test(program, ONE)
    assert not program.training


def test_what_is_not_said_of_tests_is_said_of_validation_and_of_training(quietly):
    class Plain(cog.Module):
        def training_step(self, batch, batch_idx):
            return {"score": 0.125}

    assert quietly().test(Plain(), ONE) == quietly().validate(Plain(), ONE) == {"score": 0.125}


# ---- when it ends


def test_it_ends_when_nothing_gets_better(quietly, tmp_path):
    """After two epochs without; the best checkpoint is that of the epoch before them."""
    program = Program([0.1, 0.2, 0.6, 0.6, 0.3, 0.9])
    fit = quietly(9, patience=2).fit(program, LETTERS, ONE)
    assert (fit.reason, fit.epochs, fit.best) == ("patience", 4, 0.6)
    best = load(fit.best_checkpoint)["agent"]["parameters"]["text"]["data"]
    assert len(best) == 12
    assert program.text.data.startswith(best)
    assert fit.best_checkpoint == tmp_path / "best.json"


def test_a_baseline_that_is_never_reached_is_the_best(quietly, tmp_path):
    """A text that only got worse is kept as it was."""
    fit = quietly(2).fit(Program([0.9, 0.2]), LETTERS, ONE)
    assert fit.best == 0.9
    assert load(fit.best_checkpoint)["agent"]["parameters"]["text"]["data"] == ""
    assert quietly(2, baseline=False).fit(Program([0.9, 0.2]), LETTERS, ONE).best == 0.9


def test_less_may_be_better(quietly):
    assert quietly(3, mode="min").fit(Program([0.5, 0.2, 0.4]), LETTERS, ONE).best == 0.2


@pytest.mark.parametrize(
    ("options", "values", "better", "over"),
    [
        ({"patience": 2}, [0.5, 0.6, 0.6, 0.6], [True, True, False, False], True),
        ({"patience": 3}, [0.5, 0.6, 0.6, 0.6], [True, True, False, False], False),
        ({"patience": 2, "min_delta": 0.1}, [0.5, 0.55, 0.59], [True, True, True], True),
        ({"patience": 2, "min_delta": 0.1}, [0.5, 0.55, 0.65], [True, True, True], False),
        ({"patience": 1, "mode": "min"}, [0.5, 0.4, 0.4], [True, True, False], True),
        ({}, [0.5, 0.4, 0.4, 0.4], [True, False, False, False], False),
    ],
)
def test_patience(options, values, better, over):
    """The best is the best; only what improves by more than `min_delta` keeps it going."""
    watch = Watch(**options)
    assert [watch.see(value) for value in values] == better
    assert watch.is_over == over


def test_a_budget_stops_before_the_next_step(quietly, capsys):
    """Validation counts as well: 10 for the baseline, 10 for each batch."""
    program = Program([0.4], tokens=10)
    fit = quietly(9, max_tokens=55, enable_progress_bar=True).fit(program, LETTERS, ONE)
    assert (fit.reason, fit.steps, fit.spent.tokens) == ("budget", 4, 60)
    assert fit.best_checkpoint.exists()
    said = capsys.readouterr().err.split("\n")
    assert f"Stopped after step 4: 60 of 55 tokens are spent; the best is in {fit.best_checkpoint}." in said


def test_a_validation_that_is_cut_short_decides_nothing(quietly):
    """Its epoch is no candidate."""
    two = DataLoader(["x", "y"])
    fit = quietly(9, max_tokens=60).fit(Program([0.4, 0.4, 0.9], tokens=10), LETTERS, two)
    assert (fit.reason, fit.steps, fit.best) == ("budget", 3, 0.4)


def test_a_budget_counts_the_clients_it_is_told(quietly):
    assert quietly(2, max_tokens=1).fit(Program(tokens=10), LETTERS, None, [ModelClient()]).reason == "epochs"
    fit = quietly(2, max_tokens=1).fit(Program(tokens=10), LETTERS, None, [CLIENT])
    assert (fit.reason, fit.steps) == ("budget", 1)


# ---- what it shows


def test_a_bar_shows_how_far_how_good_and_how_dear_it_is(quietly, monkeypatch, capsys):
    """On a terminal; elsewhere there are only the lines for each epoch."""
    quietly(2, enable_progress_bar=True).fit(Program(tokens=10), LETTERS, ONE)
    told = capsys.readouterr().err
    assert told.splitlines()[:3] == [
        "before the first step: score 0.500 in validation",
        "epoch 1 of 2: score 0.250; 40 tokens, cost unknown so far",
        "epoch 1 of 2: score 0.500 in validation",
    ]
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    quietly(2, enable_progress_bar=True).fit(Program(tokens=10), LETTERS, ONE)
    shown = capsys.readouterr().err
    assert "\x1b[?25h" in shown
    assert re.search(r"epoch 2 of 2, validation .*1/1.* score 0\.500, 90 tokens, cost unknown", shown)


def test_a_bar_is_closed_when_something_fails(quietly, monkeypatch, capsys):
    """The cursor is there again."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with pytest.raises(KeyboardInterrupt):
        quietly(enable_progress_bar=True).fit(Program(fail_at=1, error=KeyboardInterrupt()), LETTERS)
    assert capsys.readouterr().err.rpartition("\x1b[?25")[2].startswith("h")


# ---- what it leaves behind


def test_metrics_are_lines_of_json(quietly, tmp_path):
    """One for each step and epoch, with what each took."""
    quietly().fit(Program([0.5, 0.75], tokens=10), LETTERS, ONE)
    told = lines(tmp_path)
    assert [(line["per"], line["split"], line["epoch"], line["step"]) for line in told] == [
        ("step", "val", 0, 0),
        ("epoch", "val", 0, 0),
        ("step", "train", 1, 1),
        ("step", "train", 1, 2),
        ("step", "train", 1, 3),
        ("epoch", "train", 1, 3),
        ("step", "val", 1, 3),
        ("epoch", "val", 1, 3),
    ]
    assert [line["score"] for line in told] == [0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.75, 0.75]
    assert [line["tokens_in"] for line in told] == [10, 10, 10, 10, 10, 30, 10, 10]
    assert {line["cost"] for line in told} == {None}
    assert all(line["seconds"] >= 0 and line["tokens_out"] == 0 for line in told)


def test_a_second_run_leaves_the_first_ones_checkpoints(quietly, tmp_path):
    quietly().fit(Program(), LETTERS)
    first = (tmp_path / "best.json").read_bytes()
    for _ in range(2):
        quietly().fit(Program(), LETTERS)
    assert {path.name for path in tmp_path.glob("*.json")} == {
        f"{name}{number}.json" for name in ("best", "last") for number in ("", "-1", "-2")
    }
    assert (tmp_path / "best-1.json").read_bytes() == first
    assert len({line["run"] for line in lines(tmp_path)}) == 3


def test_a_trainer_without_a_folder_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit = Trainer(directory=None, enable_progress_bar=False).fit(Program(), LETTERS)
    assert (fit.best, fit.best_checkpoint, list(tmp_path.iterdir())) == (0.25, None, [])
    with pytest.raises(ValueError, match="keeps no checkpoints"):
        Trainer(directory=None).test(Program(), ONE, checkpoint="best")


def test_a_trainer_may_keep_metrics_only(quietly, tmp_path):
    quietly(enable_checkpointing=False).fit(Program(), LETTERS)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_the_best_is_what_a_test_is_given(quietly):
    program = Program([0.9, 0.2])
    trainer = quietly(2)
    trainer.fit(program, LETTERS, ONE)
    assert program.text.data
    trainer.test(program, ONE, checkpoint="best")
    assert program.text.data == ""
    trainer.validate(program, ONE, checkpoint=trainer.options.directory / "last.json")
    assert program.text.data


# ---- what interrupts it


@pytest.mark.parametrize("error", [RuntimeError("the endpoint is away"), KeyboardInterrupt()])
def test_an_interrupted_run_goes_on_where_it_was(quietly, tmp_path, error):
    """The batches are those of a run that was not interrupted, so is what was learnt, and the budget goes on."""
    whole = Program([0.5, 0.6, 0.7], tokens=10)
    quietly(2, directory=tmp_path / "whole").fit(whole, LETTERS, ONE)

    half = Program([0.5, 0.6, 0.7], tokens=10, fail_at=4, error=error)
    with pytest.raises(type(error)) as raised:
        quietly(2).fit(half, LETTERS, ONE)
    (note,) = raised.value.__notes__
    assert "What was learnt in 4 steps" in note
    path = re.search(r"resume='(.*)'", note)[1]

    other = Program([0.7], tokens=10)
    fit = quietly(2).fit(other, LETTERS, ONE, resume=path)
    assert half.seen + other.seen == whole.seen
    assert other.text.data == whole.text.data
    assert (fit.steps, fit.epochs, fit.best, fit.spent.tokens) == (6, 2, 0.7, 90)
    assert len({line["run"] for line in lines(tmp_path)}) == 1
    epochs = [
        [line["score"] for line in lines(folder) if line["per"] == "epoch"]
        for folder in (tmp_path, tmp_path / "whole")
    ]
    assert epochs[0] == epochs[1]


def test_a_run_that_is_over_is_not_begun_again(quietly, tmp_path):
    quietly(1).fit(Program(), LETTERS)
    other = Program()
    fit = quietly(1).fit(other, LETTERS, resume=tmp_path / "last.json")
    assert (fit.reason, fit.steps, other.seen) == ("epochs", 3, [])


def test_a_run_goes_on_from_its_best_epoch(quietly, tmp_path):
    """With the epoch after it, and as much patience as there was then."""
    quietly(4, patience=2).fit(Program([0.1, 0.6, 0.3, 0.2]), LETTERS, ONE)
    other = Program([0.2])
    fit = quietly(9, patience=2).fit(other, LETTERS, ONE, resume=tmp_path / "best.json")
    assert (fit.reason, fit.epochs, fit.best, len(other.seen)) == ("patience", 3, 0.6, 6)


def test_a_budget_goes_on_with_what_was_spent(quietly, tmp_path):
    """Also in a validation that was cut short; a larger budget finishes it."""
    two = DataLoader(["x", "y"])
    quietly(9, max_tokens=60).fit(Program([0.4], tokens=10), LETTERS, two)
    assert load(tmp_path / "last.json")["trainer"]["spent"]["tokens_in"] == 60
    other = Program([0.9], tokens=10)
    fit = quietly(1, max_tokens=80).fit(other, LETTERS, two, resume=tmp_path / "last.json")
    assert (fit.reason, fit.best, fit.spent.tokens, other.seen) == ("epochs", 0.9, 80, [])


def test_an_interrupted_validation_is_done_again(quietly, tmp_path):
    """No step is taken twice for it."""

    class Stumbling(Program):
        def validation_step(self, batch, batch_idx):
            if self.seen:
                raise ConnectionError
            return super().validation_step(batch, batch_idx)

    with pytest.raises(ConnectionError):
        quietly().fit(Stumbling(), LETTERS, ONE)
    other = Program([0.75])
    fit = quietly().fit(other, LETTERS, ONE, resume=tmp_path / "last.json")
    assert (fit.steps, fit.best, other.seen, len(other.modes)) == (3, 0.75, [], 1)


@pytest.mark.parametrize("change", [{"trainer": None}, {"trainer": {}}, {"optimizers": []}])
def test_what_is_no_checkpoint_of_a_trainer(quietly, tmp_path, change):
    quietly().fit(Program(), LETTERS)
    save({**load(tmp_path / "last.json"), **change}, tmp_path / "other.json")
    with pytest.raises(ValueError, match=r"no checkpoint of a Trainer|has 0 optimizers"):
        quietly().fit(Program(), LETTERS, resume=tmp_path / "other.json")
    save({"mine": 1}, tmp_path / "other.json")
    with pytest.raises(ValueError, match="no checkpoint of a Trainer"):
        quietly().test(Program(), ONE, checkpoint=tmp_path / "other.json")


# ---- what a step returns


def evaluated(**options):
    return F.exact_match_evaluator(Variable(["a", "b", "c", "d"]), ["a", "b", "c", "x"], **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduction_fn": max, "reduction_fn_purpose": "largest"},
        {"reduction_fn": None, "reduction_fn_purpose": None},
    ],
)
def test_a_score_is_the_mean_of_items_whatever_is_made_of_them(options):
    score, explanation = evaluated(**options)
    outcome = Outcome.of((score, explanation), Variable(["a", "b", "c", "d"]))
    assert (outcome.start, outcome.metrics, outcome.items) == (explanation, {"score": 0.75}, 4)


def test_numbers_beside_the_loss_are_metrics():
    loss = evaluated()
    told = {"loss": loss, "accuracy": 0.5, "hits": Variable(3), "right": True}
    outcome = Outcome.of(told, ({"mail": Variable(["a", "b"])}, Variable([1, 2])))
    assert outcome.metrics == {"score": 0.75, "accuracy": 0.5, "hits": 3.0, "right": 1.0}
    assert outcome.items == 2
    assert Outcome.of({"loss": loss, "score": 0.5}, None).metrics == {"score": 0.5}


def test_a_text_may_be_what_feedback_starts_at():
    start = Variable("a text")
    assert Outcome.of(start, "batch") == Outcome(start, {}, 1)


@pytest.mark.parametrize(
    "returned", [0.5, "text", {"loss": 0.5}, (1, 2), {"loss": None, "name": "x"}, {"rate": float("nan")}]
)
def test_a_step_that_returns_something_else(returned):
    with pytest.raises(TypeError):
        Outcome.of(returned, None)


def test_small_batches_weigh_as_much_as_they_have_items(quietly):
    class Uneven(Program):
        def validation_step(self, batch, batch_idx):
            return {"score": float(len(batch.data) == 2)}

    assert quietly().validate(Uneven(), DataLoader(["a", "b", "c"], 2)) == {"score": pytest.approx(2 / 3)}


# ---- what is wrong with a program or a Trainer


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("training_step", None, "no training_step"),
        ("configure_optimizers", None, "no configure_optimizers"),
        ("configure_optimizers", list, "nothing that learns"),
        ("training_step", lambda batch, at: {"score": 1}, "no loss"),
        ("validation_step", lambda batch, at: {"other": 1}, "no 'score' to monitor.*'other'"),
    ],
)
def test_a_program_that_cannot_learn_is_told_why(quietly, monkeypatch, name, value, error):
    program = Program()
    setattr(program, name, value)
    with pytest.raises((TypeError, ValueError), match=error):
        quietly().fit(program, LETTERS, ONE)


def test_a_loader_without_batches_is_nothing_to_learn_by(quietly):
    with pytest.raises(ValueError, match="nothing to learn by"):
        quietly().fit(Program(), DataLoader([]))


@pytest.mark.parametrize(
    "options",
    [{"max_epochs": 0}, {"max_tokens": 0}, {"patience": 0}, {"mode": "best"}, {"min_delta": -1}],
    ids=str,
)
def test_a_trainer_that_cannot_work_is_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        Trainer(**options)


# ---- the picture


def test_a_curve_is_a_picture(quietly, tmp_path):
    quietly(2, enable_learning_curve=True).fit(Program([0.1, 0.5, 0.9]), LETTERS, ONE)
    root = ET.parse(tmp_path / "learning.svg").getroot()
    assert root.tag.endswith("svg")
    assert root.get("viewBox") == "0 0 640 360"
    texts = {one.text for one in root.iter() if one.text}
    assert {"score by step", "training", "validation", "100%", "6"} <= texts


def test_a_curve_of_one_point_and_of_large_numbers(tmp_path):
    draw({"only": [(0, 250.0)]}, tmp_path / "one.svg", title="One")
    draw({"a": [(0, -5), (300, 250)]}, tmp_path / "many.svg", title="Many")
    assert "300" in (tmp_path / "many.svg").read_text("utf-8")
    assert "One" in (tmp_path / "one.svg").read_text("utf-8")


def test_without_what_draws_it_learning_goes_on(quietly, monkeypatch):
    monkeypatch.setitem(sys.modules, "leather", None)
    with pytest.warns(
        PartialWarning, match=r"pip install 'backtalk\[training\]'; the numbers are in .*jsonl"
    ):
        fit = quietly(enable_learning_curve=True).fit(Program(), LETTERS)
    assert fit.steps == 3


# ---- what is counted


def test_what_is_used_is_counted_by_whoever_asked():
    """Of all clients, or of some, only within the block, and one within the other."""
    one, two = ModelClient(model="m"), ModelClient(model="m")
    used = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    with counted() as everything, counted([two]) as some:
        one.spend(used)
        two.spend(used)
        two.clear_usage()
    one.spend(used)
    assert everything.as_dict()["total_tokens"] == 8
    assert some.as_dict()["total_tokens"] == 4


def test_a_price_that_is_not_known_stays_unknown():
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "cost": {"amount": None, "currency": "USD"}}
    spent = Spent.of(usage, 1.5)
    assert (spent.tokens, spent.cost) == (4, None)
