"""One feedback message from start to finish: check it, count what it takes, go back, answer."""

from __future__ import annotations

from functools import partial

from backtalk.runtime.emit import Emit
from backtalk.runtime.model import Model
from backtalk.wire.errors import Code, Refused
from backtalk.wire.feedback import Feedback, Gradients
from backtalk.wire.kinds import Request
from backtalk.wire.policy import Policy
from backward_worker.answer import answer
from backward_worker.ask import ModelAsker
from backward_worker.budget import Budget
from backward_worker.rehearse import cost_of
from backward_worker.work import Work


async def differentiate(
    request: Request[Feedback],
    *,
    model: Model,
    emit: Emit,  # noqa: ARG001  gradients are of use only when they are whole
    backward_model: str | None = None,
    policy: Policy | None = None,
) -> Gradients:
    """Return the gradients that a feedback message asks for; what it leaves open of its policy, `policy` says.

    Raises Refused where it contradicts its graph, and where its calls are more than it allows.
    """
    body = request.body
    if body.backtalk.endpoint:
        model.check(body.backtalk.endpoint)
    work = Work.of(body, policy or Policy())
    named = body.model or backward_model
    await _check_calls(work, named, model)
    budget = Budget(work.policy.max_calls, work.policy.max_tokens)
    asker = ModelAsker(model, body.backtalk.endpoint, named, body.arguments, budget)
    done = await work.run(asker)
    return answer(request, work.graph, done, asker.paid)


async def _check_calls(work: Work, named: str | None, model: Model) -> None:
    """Refuse what cannot be done with the calls that are allowed, before the first is made."""
    allowed = work.policy.max_calls
    if allowed is None:
        return
    cost = await cost_of(
        work, named, over=partial(model.over, "the calls of this graph could not be counted")
    )
    if cost.calls > allowed:
        raise Refused(
            Code.BUDGET_EXCEEDED,
            f"policy/max_calls: this takes {cost.calls} calls, and {allowed} are allowed; raise it, or choose a "
            "policy that asks less (backtalk plan tells what each takes)",
            path="policy/max_calls",
            calls=cost.calls,
        )
