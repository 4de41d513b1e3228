"""TextGrad's side of the comparison: the same shapes, gone back through by its published package.

Runs in TextGrad's own environment and knows nothing of Backtalk: shapes and texts come in as JSON, figures go out as JSON.
"""

import argparse
import json
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import textgrad as tg  # type: ignore[import-not-found,unused-ignore]
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam
from textgrad.autograd.llm_ops import FormattedLLMCall  # type: ignore[import-not-found,unused-ignore]
from textgrad.engine.base import EngineLM  # type: ignore[import-not-found,unused-ignore]


class Engine(EngineLM):  # type: ignore[misc,unused-ignore]
    """One call of the SDK for each prompt: TextGrad's own engines keep replies on disk, so equal prompts cost nothing."""

    model_string = "fixed-latency"

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.client = OpenAI(base_url=base_url, api_key="sk-not-a-key", max_retries=0)

    def generate(self, prompt: str, system_prompt: str | None = None, **_: Any) -> str:
        messages: list[ChatCompletionMessageParam] = [
            {"role": "system", "content": system_prompt or self.system_prompt},
            {"role": "user", "content": prompt},
        ]
        completion = self.client.chat.completions.create(model=self.model_string, messages=messages)
        return completion.choices[0].message.content or ""

    def __call__(self, prompt: str, **named: Any) -> str:
        return self.generate(prompt, **named)

    def calls(self) -> int:
        """How many calls the endpoint has had, from anybody."""
        with urllib.request.urlopen(f"{self.base_url}/calls") as response:
            count: int = json.load(response)["calls"]
            return count


class Shapes:
    """Builds what is gone back through, by real forward calls; each shape is the root that `backward()` starts at."""

    def __init__(self, engine: Engine, texts: dict[str, str]) -> None:
        self.engine = engine
        self.texts = texts

    def chain(self, calls: int) -> tg.Variable:
        return self.criticised([self.row([self.prompt() for _ in range(calls)])])

    def reader(self, calls: int) -> tg.Variable:
        prompt = self.prompt()
        return self.criticised([self.read([self.row([prompt]) for _ in range(calls)])])

    def sum(self, calls: int) -> tg.Variable:
        prompt = self.prompt()
        return self.criticised([tg.sum([self.row([prompt]) for _ in range(calls)])])

    def branches(self, branches: int, depth: int) -> tg.Variable:
        prompts = [self.prompt() for _ in range(depth)]
        return self.criticised([self.read([self.row(prompts) for _ in range(branches)])])

    def batch(self, samples: int) -> tg.Variable:
        prompt = self.prompt()
        return self.criticised([self.row([prompt]) for _ in range(samples)])

    def prompt(self, *, trainable: bool = True) -> tg.Variable:
        return tg.Variable(
            self.texts["instructions"], requires_grad=trainable, role_description="system instruction"
        )

    def row(self, prompts: Sequence[tg.Variable]) -> tg.Variable:
        """Calls in a row, each reading the answer to the one before."""
        last = tg.Variable(self.texts["email"], requires_grad=False, role_description="customer e-mail")
        for prompt in prompts:
            last = self.call(prompt, {"previous": last})
        return last

    def read(self, answers: Sequence[tg.Variable]) -> tg.Variable:
        return self.call(self.prompt(trainable=False), {f"answer{at}": one for at, one in enumerate(answers)})

    def call(self, prompt: tg.Variable, reads: dict[str, tg.Variable]) -> tg.Variable:
        text = "Go on from here: " + " ".join("{" + name + "}" for name in reads)
        fields = dict.fromkeys(reads, "")
        calling = FormattedLLMCall(self.engine, format_string=text, fields=fields, system_prompt=prompt)
        return calling(inputs=reads, response_role_description="response")

    def criticised(self, variables: Sequence[tg.Variable]) -> tg.Variable:
        """A root that hands the feedback on without a call: Backtalk is given it as well."""
        root = tg.Variable("", predecessors=list(variables), role_description="feedback")

        def hand_on(**_: Any) -> None:
            for variable in variables:
                variable.gradients.add(tg.Variable(self.texts["criticism"], role_description="feedback"))

        root.set_grad_fn(hand_on)
        return root


def measured(engine: Engine, build: Callable[[], tg.Variable]) -> dict[str, float]:
    """Builds a shape by its forward calls, and times the way back alone."""
    before = engine.calls()
    root = build()
    between = engine.calls()
    began = time.perf_counter()
    root.backward(engine)
    seconds = time.perf_counter() - began
    return {"forward_calls": between - before, "calls": engine.calls() - between, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", required=True)
    engine = Engine(parser.parse_args().base_url)
    asked = json.load(sys.stdin)
    shapes = Shapes(engine, asked["texts"])
    # the first call opens the connection
    engine.generate("Are you there?")
    figures = {
        name: measured(engine, partial(getattr(shapes, shape), *sizes))
        for name, (shape, sizes) in asked["shapes"].items()
    }
    json.dump({"version": tg.__version__, "figures": figures}, sys.stdout)


if __name__ == "__main__":
    main()
