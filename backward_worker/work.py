"""A backward pass as a whole: what is asked of it, and the way through it, whoever answers its questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from backtalk.wire.errors import invalid
from backtalk.wire.feedback import Feedback, Summary
from backtalk.wire.graph import Graph
from backtalk.wire.policy import Policy
from backward_worker.ask import Asker
from backward_worker.backward import Failed, backward
from backward_worker.context import Roots
from backward_worker.gradient import TextGradient
from backward_worker.inquiry import Desk
from backward_worker.parts import joined_parts
from backward_worker.rules import rules
from backward_worker.seeds import Seed, Seeding, wanted_of
from backward_worker.step import Contribution
from backward_worker.summary import summaries


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a pass."""

    contributions: Mapping[str, Sequence[Contribution[TextGradient]]]
    failures: Sequence[Failed]
    summaries: Mapping[str, Summary]


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that is decided about a pass before its first question."""

    graph: Graph
    seeds: Mapping[str, Sequence[Seed]]
    wanted: Sequence[str]
    policy: Policy
    roots: Roots | None

    @classmethod
    def of(cls, body: Feedback, defaults: Policy) -> Self:
        """Return the work of a feedback message. Raises Refused where it contradicts itself or its graph."""
        policy = (body.policy or Policy()).over(defaults)
        if body.samples is not None and policy.batch == "digest":
            raise invalid(
                "samples",
                "leaves samples out, and `policy/batch` digests them all together; leave one of both out",
            )
        graph = body.whole
        wanted = wanted_of(graph, body.wrt)
        seeds = Seeding(graph, policy.gate, body.samples).of(body)
        roots = Roots(graph, body.feedback, policy.context_tokens) if policy.context else None
        return cls(graph, seeds, wanted, policy, roots)

    def under(self, **policy: object) -> Self:
        """Return the same work under a policy that differs in some fields."""
        return replace(self, policy=self.policy.model_copy(update=policy))

    async def run(self, asker: Asker, *, traces: bool = False) -> Done:
        """Go back through the graph. Raises Refused with code `incomplete_graph` where the way leads out of it."""
        desk = Desk(asker, self.policy, self.roots, traces or self.roots is not None)
        digest = self.policy.batch == "digest"
        result = await backward(self.graph, self.seeds, self.wanted, rules(desk), digest=digest)
        contributions: Mapping[str, Sequence[Seed]] = result.contributions
        failures = list(result.failures)
        if digest:
            contributions, failed = await joined_parts(self.graph, contributions, result.missing, desk)
            failures += failed
        if not self.policy.summary:
            return Done(contributions, failures, {})
        summed, failed = await summaries(self.graph, contributions, result.missing, desk)
        return Done(contributions, [*failures, *failed], summed)
