"""Whose fault a 401 or 403 is: every verdict, and what is asked for it."""

from __future__ import annotations

import asyncio

import pytest

from backtalk.runtime.key import Key
from backtalk.wire.errors import Code, Refused


class Probe:
    """An endpoint of a few statuses; `asked` has what it was asked."""

    def __init__(self, keyed=200, bare=200, trial=200):
        self.keyed, self.bare, self.tried = keyed, bare, trial
        self.asked = []
        self.answers = asyncio.Event()
        self.answers.set()

    async def listing(self, *, keyed):
        self.asked.append("keyed" if keyed else "bare")
        await self.answers.wait()
        return self.keyed if keyed else self.bare

    async def trial(self, model):
        self.asked.append(model)
        return self.tried


def refusal(status):
    return Refused(Code.UPSTREAM_REJECTED, "no", status=status)


@pytest.mark.parametrize(
    ("statuses", "status", "worked", "blamed", "asked"),
    [
        # the list is for nobody: the key is bad
        ({"keyed": 401}, 401, None, True, ["keyed"]),
        # some keys may do nothing but what they worked for
        ({"keyed": 403, "trial": 200}, 403, "good", False, ["keyed", "good"]),
        ({"keyed": 403, "trial": 403}, 403, "good", True, ["keyed", "good"]),
        # it is for those with a key, and we get it: the key is good
        ({"bare": 401}, 401, None, False, ["keyed", "bare"]),
        ({"bare": 403}, 403, "good", False, ["keyed", "bare"]),
        # it is for everybody: a model that answered before tells
        ({"trial": 401}, 401, "good", True, ["keyed", "bare", "good"]),
        ({"trial": 403}, 403, "good", True, ["keyed", "bare", "good"]),
        ({"trial": 200}, 401, "good", False, ["keyed", "bare", "good"]),
        ({"trial": 429}, 403, "good", False, ["keyed", "bare", "good"]),
        # none did: the model that was asked for tells of a 401, and a 403 may be that model's own
        ({"trial": 401}, 401, None, True, ["keyed", "bare", "asked"]),
        ({"trial": 0}, 401, None, False, ["keyed", "bare", "asked"]),
        ({"trial": 403}, 403, None, False, ["keyed", "bare"]),
        # there is no list, or nobody answers
        ({"keyed": 404, "trial": 401}, 401, None, True, ["keyed", "asked"]),
        ({"keyed": 500, "trial": 403}, 403, "good", True, ["keyed", "good"]),
        ({"keyed": 0, "trial": 0}, 401, "good", False, ["keyed", "good"]),
        ({"keyed": 404}, 403, None, False, ["keyed"]),
    ],
)
async def test_the_key_is_blamed_where_nothing_else_can_be(statuses, status, worked, blamed, asked):
    """One doubt is enough to let it pass: a job that is refused wrongly is answered, a worker that stops is not."""
    probe = Probe(**statuses)
    key = Key(probe)
    if worked:
        key.worked(worked)
    assert await key.blamed(refusal(status), "asked") is blamed
    assert probe.asked == asked


@pytest.mark.parametrize("status", [200, 400, 404, 429, None])
async def test_other_refusals_are_the_jobs_own(status):
    """The endpoint is not even asked."""
    probe = Probe(keyed=401)
    assert not await Key(probe).blamed(refusal(status), "m")
    assert probe.asked == []


async def test_many_at_once_ask_once():
    """All hear the same; who comes later asks anew, and another status or model is another question."""
    probe = Probe(keyed=401)
    key = Key(probe)
    assert await asyncio.gather(*(key.blamed(refusal(401), "m") for _ in range(10))) == [True] * 10
    assert probe.asked == ["keyed"]
    await key.blamed(refusal(401), "m")
    await asyncio.gather(key.blamed(refusal(401), "other"), key.blamed(refusal(403), "m"))
    assert probe.asked == ["keyed"] * 4


async def test_one_that_gives_up_leaves_the_question_to_the_others():
    """A deadline that passes meanwhile is no answer for anybody else."""
    probe = Probe(keyed=401)
    probe.answers.clear()
    key = Key(probe)
    first, second = (asyncio.ensure_future(key.blamed(refusal(401), "m")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    probe.answers.set()
    assert await second is True
    assert probe.asked == ["keyed"]


async def test_a_question_that_fails_does_not_stand_in_the_way_of_the_next():
    """Whatever broke it, the next refusal is looked into again."""

    class Broken(Probe):
        async def listing(self, *, keyed):
            if not self.asked:
                self.asked.append("broken")
                raise ValueError("broken")
            return await super().listing(keyed=keyed)

    key = Key(Broken(keyed=401))
    with pytest.raises(ValueError, match="broken"):
        await key.blamed(refusal(401), "m")
    assert await key.blamed(refusal(401), "m")
