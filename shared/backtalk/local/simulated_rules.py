"""Rules by which the simulated model misbehaves on purpose, and the answer to a request under one; no I/O."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import ConfigDict, TypeAdapter, ValidationError

from backtalk.local.simulated_completion import Json, Reply, Request, chunks, completion, error_body
from backtalk.local.simulated_replies import replies_to


@dataclass(frozen=True, kw_only=True)
class Rule:
    """For requests that hold `match` in body or texts (None: all), at most `times` times (None: for ever).

    `cut` breaks off after half of the answer, and together with `stall` says no more instead; `pause` is the time
    between the events of a stream.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    match: str | None = None
    times: int | None = None
    delay: float = 0.0
    pause: float = 0.0
    status: int | None = None
    retry_after: float | str | None = None
    code: str | None = None
    body: str | None = None
    content_type: str = "application/json"
    stall: bool = False
    cut: bool = False
    reply: str | None = None
    finish_reason: str | None = None

    def __post_init__(self) -> None:
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"`status` is {self.status}; it must be from 200 to 599")
        if self.code is not None and not self.is_error:
            raise ValueError("an error `code` needs a `status` of 300 or more")

    @property
    def is_error(self) -> bool:
        return self.status is not None and self.status >= 300

    def applies_to(self, body: str, request: Request) -> bool:
        # In the texts too: clients differ in how they write quotes and letters like é in JSON.
        return self.match is None or self.match in body or self.match in request.text


@dataclass(frozen=True)
class Answer:
    """A response before it is sent; `events` marks a stream, whose frames go out one by one."""

    status: int
    frames: Sequence[bytes]
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    events: bool = False


class Rules:
    """The rules in force, each with the uses it has left."""

    def __init__(self) -> None:
        self._left: list[tuple[Rule, int | None]] = []

    def replace(self, rules: Sequence[Rule]) -> None:
        self._left = [(rule, rule.times) for rule in rules]

    def add(self, rule: Rule) -> None:
        self._left.append((rule, rule.times))

    def use(self, body: str, request: Request) -> Rule:
        """The first rule that applies and has uses left, one of them now spent; else one without effect."""
        for position, (rule, left) in enumerate(self._left):
            if left != 0 and rule.applies_to(body, request):
                self._left[position] = (rule, None if left is None else left - 1)
                return rule
        return Rule()


_RULES = TypeAdapter(list[Rule])


def read_rules(body: str) -> list[Rule]:
    """Raise ValueError with a sentence for people when the body is no list of rules."""
    try:
        return _RULES.validate_json(body)
    except ValidationError as refusal:
        first = refusal.errors()[0]
        raise ValueError(f"rules: {'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}") from refusal


def answer(body: Json, request: Request, rule: Rule) -> Answer:
    plain = _answer(body, request, rule)
    headers = {} if rule.retry_after is None else {"Retry-After": str(rule.retry_after)}
    return replace(plain, status=rule.status or 200, headers=headers)


def refusal(status: int, message: str, code: str | None = None) -> Answer:
    return Answer(status, [_encoded(error_body(status, message, code))])


def _answer(body: Json, request: Request, rule: Rule) -> Answer:
    if rule.body is not None:
        return Answer(200, [rule.body.encode()], rule.content_type)
    if rule.status is not None and rule.is_error:
        return refusal(rule.status, f"A rule asked for this answer {rule.status}", rule.code)
    replies = _replies(request, rule)
    if request.stream:
        return Answer(200, list(_events(body, request, replies)), "text/event-stream", events=True)
    return Answer(200, [_encoded(completion(body, request, replies))])


def _replies(request: Request, rule: Rule) -> list[Reply]:
    replies = replies_to(request) if rule.reply is None else [Reply(rule.reply)] * (request.n or 1)
    return [replace(reply, finish_reason=rule.finish_reason or reply.finish_reason) for reply in replies]


def _events(body: Json, request: Request, replies: Sequence[Reply]) -> Iterator[bytes]:
    for chunk in chunks(body, request, replies):
        yield b"data: " + _encoded(chunk) + b"\n\n"
    yield b"data: [DONE]\n\n"


def _encoded(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
