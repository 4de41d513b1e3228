"""The messages that are sent: one job, for Backtalk and for bare consumers, and graphs of any shape."""

import json
from typing import Any

MODEL = "fixed-latency"
INSTRUCTIONS = (
    "You answer customers of a small shop in the language they are asked for, in three sentences. " * 10
)
EMAIL = (
    "My order came without the blue lamp, and the green one was broken. I would like to have my money. " * 7
)
CRITICISM = "It is too long, and it misses the date."
QUESTION = "Answer the e-mail below in {language}.\n\n{email}"
INPUTS = {"language": "Italian", "email": EMAIL}


def backtalk_job() -> bytes:
    """A job of about 1.9 KB whose system prompt wants a gradient, so that a graph is recorded."""
    prompt = {"id": "sys-1", "data": INSTRUCTIONS, "role": "system instruction", "requires_grad": True}
    return job([prompt], [QUESTION])


def bare_job() -> bytes:
    """The same job for a consumer that knows no variables; padded, so that as many bytes cross the broker."""
    padding = " " * (len(backtalk_job()) - len(job(INSTRUCTIONS, QUESTION)))
    return job(INSTRUCTIONS + padding, QUESTION)


def job(system: Any, user: Any) -> bytes:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return json.dumps({"model": MODEL, "messages": messages, "inputs": INPUTS}).encode()


class Tape:
    """A graph in the making, as the forward worker records it."""

    def __init__(self) -> None:
        self.variables: list[dict[str, Any]] = []
        self.operations: list[dict[str, Any]] = []

    def leaf(self, name: str, data: str | list[str], role: str, *, requires_grad: bool = False) -> str:
        self.variables.append({"id": name, "data": data, "role": role, "requires_grad": requires_grad})
        return name

    def prompt(self, name: str, *, trainable: bool = True) -> str:
        return self.leaf(name, INSTRUCTIONS[:280], "system instruction", requires_grad=trainable)

    def call(self, name: str, system: str, reads: dict[str, str], batch: int | None = None) -> str:
        """One recorded chat completion whose user text reads the given variables by placeholder."""
        text = "Go on from here: " + " ".join("{" + key + "}" for key in reads)
        user = self.leaf(f"{name}-user", text, "user message")
        output, operation = f"{name}-out", f"{name}-op"
        self.written(output, operation, texts(batch))
        self.operations.append(
            {
                "id": operation,
                "op": "chat_completion",
                "endpoint": "openai",
                "model": MODEL,
                "arguments": {},
                "messages": [{"role": "system", "content": [system]}, {"role": "user", "content": [user]}],
                "inputs": reads,
                "outputs": [output],
            }
        )
        return output

    def sum(self, name: str, reads: list[str]) -> str:
        output, operation = f"{name}-out", f"{name}-op"
        self.written(output, operation, "\n".join([EMAIL[:98]] * len(reads)))
        self.operations.append({"id": operation, "op": "sum", "inputs": reads, "outputs": [output]})
        return output

    def written(self, name: str, operation: str, data: str | list[str]) -> None:
        variable = {"id": name, "data": data, "role": "response", "requires_grad": True}
        self.variables.append({**variable, "producer": operation})

    def graph(self) -> dict[str, Any]:
        return {"schema_version": 1, "variables": self.variables, "operations": self.operations}


def texts(batch: int | None) -> str | list[str]:
    """One text, or as many that differ."""
    return EMAIL[:98] if batch is None else [f"{at}. {EMAIL[:98]}" for at in range(batch)]


def chain(tape: Tape, name: str, prompts: list[str], batch: int | None = None) -> str:
    """Calls in a row, each reading the answer to the one before; returns the last answer's id."""
    last = tape.leaf(f"{name}-start", texts(batch), "customer e-mail")
    for position, prompt in enumerate(prompts):
        last = tape.call(f"{name}-{position}", prompt, {"previous": last}, batch)
    return last


def feedback(tape: Tape, variables: list[str], text: str | list[str] = CRITICISM) -> bytes:
    items = [{"variable": each, "text": text} for each in variables]
    return json.dumps({"graph": tape.graph(), "feedback": items}).encode()


def under(policy: dict[str, str], body: bytes) -> bytes:
    """The same feedback under a policy."""
    return json.dumps({**json.loads(body), "policy": policy}).encode()


def chain_feedback(length: int) -> bytes:
    tape = Tape()
    return feedback(tape, [chain(tape, "chain", [tape.prompt(f"sys-{each}") for each in range(length)])])


def branches_feedback(branches: int, depth: int) -> bytes:
    """Branches with trainable prompts of their own stage, read by one loss, which has the feedback."""
    tape = Tape()
    prompts = [tape.prompt(f"sys-{stage}") for stage in range(depth)]
    ends = {f"branch{each}": chain(tape, f"branch{each}", prompts) for each in range(branches)}
    loss = tape.call("loss", tape.prompt("judge", trainable=False), ends)
    return feedback(tape, [loss])


def fan_in_feedback(calls: int, *, sum_them: bool) -> bytes:
    """Calls of one trainable prompt, read by one more call or by a sum, which has the feedback."""
    tape = Tape()
    prompt = tape.prompt("sys-1")
    ends = {f"answer{each}": chain(tape, f"answer{each}", [prompt]) for each in range(calls)}
    if sum_them:
        return feedback(tape, [tape.sum("total", list(ends.values()))])
    return feedback(tape, [tape.call("reader", tape.prompt("reader-sys", trainable=False), ends)])


def batch_feedback(samples: int, depth: int) -> bytes:
    """A chain of batches with a trainable prompt for each operation, and feedback on every sample."""
    tape = Tape()
    prompts = [tape.prompt(f"sys-{stage}") for stage in range(depth)]
    last = chain(tape, "batch", prompts, samples)
    return feedback(tape, [last], [f"{CRITICISM} That is sample {at}." for at in range(samples)])


def shared_prompt_feedback(responses: int) -> bytes:
    tape = Tape()
    prompt = tape.prompt("sys-1")
    outputs = [chain(tape, f"response{each}", [prompt]) for each in range(responses)]
    return feedback(tape, outputs)


def large_graph(operations: int, chains: int) -> bytes:
    """Two variables an operation, in chains side by side, one trainable prompt for all."""
    tape = Tape()
    prompt = tape.prompt("sys-1")
    for each in range(chains):
        chain(tape, f"chain{each}", [prompt] * (operations // chains))
    return json.dumps(tape.graph()).encode()
