"""Teach a vague prompt to sort e-mails, by exact matches alone; docs/quickstart.md explains it step by step."""

import json
from pathlib import Path

import backtalk as bt
from backtalk import Parameter, Variable
from backtalk import cognitive as cog
from backtalk import functional as F
from backtalk.data import DataLoader, WeightedRandomSampler, random_split
from backtalk.models.openai import OpenAI
from backtalk.optim import TGD
from backtalk.trainer import Trainer

EXAMPLES = Path("examples")


def lines(name):
    return [json.loads(line) for line in (EXAMPLES / name).read_text("utf-8").splitlines()]


bodies = {line["custom_id"]: line["body"] for line in lines("support_emails.jsonl")}
emails = [
    (bodies[line["custom_id"]]["messages"][-1]["content"], line["category"])
    for line in lines("categories.jsonl")
]

train, val, test = random_split(emails, [0.5, 0.25, 0.25], seed=1)

categories = [category for _, category in train]
weights = [1 / categories.count(category) for category in categories]
sampler = WeightedRandomSampler(weights, num_samples=len(train), seed=1)

train_loader = DataLoader(train, batch_size=6, sampler=sampler)
val_loader = DataLoader(val, batch_size=6)
test_loader = DataLoader(test, batch_size=6)

client = OpenAI(model="gpt-4o-mini")
bt.set_backward_model_client("openai/gpt-4o")


class Classifier(cog.Module):
    def __init__(self):
        super().__init__()
        self.prompt = Parameter("You help with the e-mails of customers.", role="system prompt")
        self.answer = cog.ChatCompletion(temperature=0)

    def forward(self, emails):
        messages = [
            {"role": "system", "content": [self.prompt]},
            {"role": "user", "content": [Variable("{email}", role="e-mail of a customer")]},
        ]
        return self.answer(client, messages, inputs={"email": emails})

    def training_step(self, batch, batch_idx):
        emails, categories = batch
        return F.exact_match_evaluator(self(emails), categories)

    def configure_optimizers(self):
        return TGD(self.parameters(), client, constraints=["Do not quote any e-mail."], max_length=1000)


classifier = Classifier()
trainer = Trainer(max_epochs=3, patience=2, max_tokens=200_000, directory="checkpoint")

before = trainer.test(classifier, test_loader)
fit = trainer.fit(classifier, train_loader, val_loader)
after = trainer.test(classifier, test_loader, checkpoint="best")

print(f"accuracy {before['score']:.0%} before, {after['score']:.0%} after {fit.steps} steps")
print(classifier.prompt.data)
