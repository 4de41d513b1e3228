"""What a completion job takes in memory, at most: its prompts are all there at once, one for each item of a batch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from backtalk.wire.jobs import CompletionJob
from backtalk.wire.limits import CONTRACT
from backtalk.wire.messages import InlineVariable
from backtalk.wire.weight import Shape

# on top of what their values take: a text or a message, a tool, an item of a batch, a choice without its words
_TEXT: Final = 2_000
_TOOL: Final = 3_500
_ITEM: Final = 6_000
_CHOICE: Final = 1_000
# below this nobody wants to know it exactly
_LITTLE: Final = 2**20
_NUMBER: Final = 24
_NAMES: Final = re.compile(r"\{([^{}]+)\}")


def weigh_job(job: CompletionJob, shape: Shape) -> int:
    """Return the bytes that a job takes until it is answered; the words of the endpoint are not among them."""
    texts = list(_texts(job))
    inputs = {name: _lengths(given) for name, given in job.inputs.items()}
    lists = [lengths for _, lengths in texts if lengths is not None]
    lists += [lengths for lengths in inputs.values() if isinstance(lengths, list)]
    items = max(map(len, lists), default=1)
    listed = sum(map(sum, lists))
    prompts = items * max(0, shape.size - listed) + listed + _filled(texts, inputs, items)
    # choices are asked again one beside the other
    asked = (job.n or 1) if job.backtalk.tool_retries else 1
    return (
        shape.worked_on
        + _TEXT * (len(job.messages) + len(texts) + sum(map(_count, inputs.values())))
        + _TOOL * len(job.tools or ())
        + items * (_ITEM + _CHOICE * (job.n or 1))
        + prompts * (3 + 3 * shape.width) // 2
        + prompts * (asked - 1)
    )


def _texts(job: CompletionJob) -> Iterator[tuple[list[str], list[int] | None]]:
    """Yield the texts of messages, each as what it may be for an item, with all lengths where it is a batch."""
    for message in job.messages:
        content = message.content
        for item in (content,) if isinstance(content, str) else content or ():
            if isinstance(item, str):
                yield [item], None
            elif isinstance(item, InlineVariable):
                data = item.data if isinstance(item.data, tuple) else (item.data,)
                told = [one for one in data if isinstance(one, str)]
                yield told, [_length(one) for one in data] if isinstance(item.data, tuple) else None
            else:
                yield list(_leaves(item)), None


def _leaves(part: Any) -> Iterator[str]:
    waiting = [part]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            waiting.extend(value.values() if isinstance(value, dict) else value)


def _filled(
    texts: list[tuple[list[str], list[int] | None]], inputs: dict[str, int | list[int]], items: int
) -> int:
    """Return how many characters placeholders put into all prompts together, at most."""
    if not inputs:
        return 0
    longest = max(map(_longest, inputs.values()))
    braces = sum(text.count("{") for told, _ in texts for text in told)
    if items * braces * longest <= _LITTLE:
        return items * braces * longest
    filled = 0
    for told, lengths in texts:
        for text in told:
            for name in _NAMES.findall(text):
                if (value := inputs.get(name)) is not None:
                    filled += _longest(value) if lengths is not None else _total(value, items)
    # a prompt that is filled with more is refused
    return min(filled, items * CONTRACT.body_bytes)


def _lengths(given: Any) -> int | list[int]:
    """Return how long an input is, or each item of it."""
    if isinstance(given, InlineVariable):
        given = given.data
    if not isinstance(given, tuple):
        return _length(given)
    return [_length(item.data if isinstance(item, InlineVariable) else item) for item in given]


def _length(value: Any) -> int:
    if isinstance(value, tuple):
        return sum(map(_length, value))
    return len(value) if isinstance(value, str) else _NUMBER


def _longest(lengths: int | list[int]) -> int:
    return max(lengths, default=0) if isinstance(lengths, list) else lengths


def _total(lengths: int | list[int], items: int) -> int:
    return sum(lengths) if isinstance(lengths, list) else items * lengths


def _count(lengths: int | list[int]) -> int:
    return len(lengths) if isinstance(lengths, list) else 1
