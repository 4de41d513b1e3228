"""A Trainer on the real stack: programs that get better, and what that takes."""

import asyncio
import json
import signal
import threading
import time

import pytest

import backtalk as bt
from backtalk import Parameter, Refused, Variable, load
from backtalk import cognitive as cog
from backtalk import functional as F  # noqa: N812  as programs do
from backtalk.data import DataLoader
from backtalk.models.backward import forget_backward_model_client
from backtalk.models.openai import AsyncOpenAI, OpenAI
from backtalk.optim import TGD
from backtalk.trainer import Trainer

WORDS = [("Hello", "CIAO"), ("Thanks", "GRAZIE"), ("Goodbye", "ARRIVEDERCI"), ("Cat", "GATTO")]
TRAIN = DataLoader(WORDS, batch_size=2, shuffle=True)
WHOLE = DataLoader(WORDS, batch_size=4)


class Translator(cog.Module):
    """Learns to shout from what should be exactly something else."""

    def __init__(self):
        super().__init__()
        self.client = OpenAI(model="gpt-4o")
        self.prompt = Parameter("Translate the message into Italian.", role="system prompt")
        self.chat = cog.ChatCompletion()

    def forward(self, words):
        return self.chat(self.client, self.messages(words))

    def messages(self, words):
        return [{"role": "system", "content": [self.prompt]}, {"role": "user", "content": [words]}]

    def training_step(self, batch, batch_idx):
        words, targets = batch
        return F.exact_match_evaluator(self(words), targets)

    def configure_optimizers(self):
        return TGD(self.parameters(), self.client, momentum=1)


class Awaited(Translator):
    """The same, with a coroutine function for its step."""

    async def training_step(self, batch, batch_idx):
        words, targets = batch
        return F.exact_match_evaluator(await self.chat.acall(self.client, self.messages(words)), targets)


def trainer(folder, epochs=2, **options):
    return Trainer(epochs, directory=folder, enable_progress_bar=False, **options)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("kind", [Translator, Awaited])
@pytest.mark.parametrize("way", ["fit", "afit"])
def test_t6_a_program_learns(program, tmp_path, way, kind):
    """From no hit to all; each token of the model is in the lines, and the best is what was learnt."""
    agent, made = kind(), trainer(tmp_path)
    fit = getattr(made, way)(agent, TRAIN, WHOLE)
    fit = asyncio.run(fit) if way == "afit" else fit
    scores = [line["score"] for line in lines(tmp_path) if (line["per"], line["split"]) == ("epoch", "val")]
    assert (scores[0], scores[-1], fit.best, fit.steps) == (0.0, 1.0, 1.0, 4)
    assert "capital" in load(fit.best_checkpoint)["agent"]["parameters"]["prompt"]["data"]
    used = [client.get_usage()["total_tokens"] for client in (agent.client, bt.get_backward_model_client())]
    steps = [line for line in lines(tmp_path) if line["per"] == "step"]
    assert sum(line["tokens_in"] + line["tokens_out"] for line in steps) == sum(used) == fit.spent.tokens
    assert fit.spent.cost == pytest.approx(sum(line["cost"] for line in steps))
    assert (tmp_path / "learning.svg").exists()


def test_t6_steps_in_the_form_of_the_reference(program, tmp_path):
    """Keywords, clients, nested batches of Variables, a dict with the loss, and a metric of its own to monitor."""

    class Agent(Translator):
        def training_step(self, batch, batch_idx):
            words, (_, targets) = batch
            response = self(words)
            response.data = [text.strip() for text in response.data]
            loss = F.exact_match_evaluator(response, targets)
            return {"loss": loss, "accuracy": loss[0].data / len(targets.data)}

        def validation_step(self, batch, batch_idx):
            return self.training_step(batch, batch_idx)

        def test_step(self, batch, batch_idx):
            return self.validation_step(batch, batch_idx)

    data = [
        (Variable(word, role="word"), (Variable(at, role="number"), Variable(target, role="target")))
        for at, (word, target) in enumerate(WORDS)
    ]
    loader = DataLoader(data, batch_size=3, seed=42)
    agent, made = Agent(), trainer(tmp_path, monitor="accuracy")
    clients = [agent.client, bt.get_backward_model_client(), AsyncOpenAI()]
    before = made.test(agent=agent, test_dataloader=loader, llm_clients=clients)
    fit = made.fit(agent=agent, train_dataloader=loader, val_dataloader=loader, llm_clients=clients)
    after = made.validate(agent=agent, val_dataloader=loader, llm_clients=clients)
    assert (before["accuracy"], after["accuracy"], fit.best) == (0.0, 1.0, 1.0)
    assert before["score"] == 0.0


def test_a_run_that_failed_goes_on(program, tmp_path):
    """The step whose optimizer was refused is taken again, with the optimizer's memory and what was spent before."""
    program.model.rule(match="You improve one text", status=400, times=1)
    agent = Translator()
    with pytest.raises(Refused) as raised:
        trainer(tmp_path).fit(agent, TRAIN, WHOLE)
    assert any("What was learnt in 0 steps" in note for note in raised.value.__notes__)
    assert load(tmp_path / "last.json")["trainer"]["spent"]["tokens_in"] > 0
    other = Translator()
    fit = trainer(tmp_path).fit(other, TRAIN, WHOLE, resume=tmp_path / "last.json")
    assert (fit.best, fit.steps) == (1.0, 4)
    (state,) = load(fit.best_checkpoint)["optimizers"]
    ((parameter,),) = [group["params"] for group in state["param_groups"]]
    assert parameter["momentum_buffer"][0]["before"]["data"] == agent.prompt.data


def test_ctrl_c_ends_the_wait_for_a_model(program, tmp_path):
    """In the middle of a step, while the optimizer's answer is out; the run can go on."""
    program.model.rule(match="You improve one text", delay=1.0)

    def interrupt():
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not any(
            "You improve one text" in call.messages[0]["content"] for call in program.model.calls
        ):
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    with pytest.raises(KeyboardInterrupt) as raised:
        trainer(tmp_path).fit(Translator(), TRAIN, WHOLE)
    waiting.join()
    assert "What was learnt in 0 steps" in raised.value.__notes__[-1]
    program.model.reset()
    assert trainer(tmp_path).fit(Translator(), TRAIN, WHOLE, resume=tmp_path / "last.json").best == 1.0


def test_measuring_records_nothing_and_costs_no_gradients(program, tmp_path):
    agent = Translator()
    assert trainer(tmp_path).test(agent, WHOLE) == {"score": 0.0}
    assert (program.model.total, agent.prompt.grad) == (4, [])
    assert bt.get_backward_model_client().get_usage()["calls"] == 0


def test_a_budget_holds_for_backward_models_that_nobody_chose(program, tmp_path):
    """What the workers ask is counted as well."""
    forget_backward_model_client()
    agent = Translator()
    fit = trainer(tmp_path).fit(agent, TRAIN, WHOLE)
    assert fit.spent.tokens > agent.client.get_usage()["total_tokens"]
    assert fit.spent.cost is None
