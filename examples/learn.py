"""Learning in plain Python: exact matches alone turn a vague prompt into a good one.

It starts a broker, both workers and a SIMULATED model; OPENAI_BASE_URL in the environment names a real one instead.
"""

import argparse
import asyncio
import json
import os
from pathlib import Path

from backtalk import Parameter, Variable, connect, set_backward_model_client
from backtalk import cognitive as cog
from backtalk.local.stack import stack
from backtalk.models.openai import OpenAI
from backtalk.optim import TGD
from backtalk.trainer import draw

HERE = Path(__file__).parent
STEPS = 3


class Classifier(cog.Module):
    """One call of a model, whose system prompt is to be learned."""

    def __init__(self, client):
        super().__init__()
        self.client = client
        self.prompt = Parameter("You help with the e-mails of customers.", role="system prompt")
        self.answer = cog.ChatCompletion()

    def forward(self, emails):
        messages = [
            {"role": "system", "content": [self.prompt]},
            {"role": "user", "content": [Variable("{email}", role="e-mail of a customer")]},
        ]
        return self.answer(self.client, messages, inputs={"email": emails})


def learn(model):
    """Return the accuracy before the first step, and after each."""
    emails, categories = examples()
    client = OpenAI(model=model)
    set_backward_model_client(f"openai/{model}")
    classifier, exact_match = Classifier(client), cog.ExactMatchEvaluator()
    optimizer = TGD(classifier.parameters(), client, constraints=["Do not quote any e-mail."])
    accuracies = []
    for step in range(STEPS + 1):
        score, explanation = exact_match(classifier(emails), categories)
        accuracies.append(score.data / len(emails))
        prompt = classifier.prompt.data
        print(f"\nstep {step}: accuracy {accuracies[-1]:.3f}, prompt of {len(prompt)} characters\n  {prompt}")
        if step < STEPS:
            explanation.backward()
            optimizer.step()
            optimizer.clear_grad()
    return accuracies


def examples():
    """Return the e-mails, and the category of each as a person sees it."""
    wanted = {line["custom_id"]: line["category"] for line in lines("categories.jsonl")}
    bodies = {line["custom_id"]: line["body"] for line in lines("support_emails.jsonl")}
    return [bodies[id]["messages"][-1]["content"] for id in wanted], list(wanted.values())


def lines(name):
    return [json.loads(line) for line in (HERE / name).read_text("utf-8").splitlines()]


async def main():
    told = argparse.ArgumentParser(description=__doc__)
    told.add_argument("--model", default="gpt-4o-mini", help="the simulated one takes any name")
    told.add_argument(
        "--out", type=Path, help="where the curve goes: docs/learning.svg, of a real model learning.svg"
    )
    asked = told.parse_args()
    async with stack(namespace=os.environ.get("BACKTALK_NAMESPACE") or "backtalk-learn") as running:
        model = "simulated model" if running.simulated else asked.model
        print("The model is SIMULATED, no real one is asked." if running.simulated else f"Asking {model}.")
        with connect(running.amqp_url, namespace=running.namespace):
            accuracies = await asyncio.to_thread(learn, asked.model)
    out = asked.out or (HERE.parent / "docs/learning.svg" if running.simulated else Path("learning.svg"))
    title = f"Accuracy on {len(examples()[0])} e-mails, learned from exact matches ({model})"
    draw({"accuracy": list(enumerate(accuracies))}, out, title=title, percent=True)
    print(f"\nThe learning curve is in {out}.")


if __name__ == "__main__":
    asyncio.run(main())
