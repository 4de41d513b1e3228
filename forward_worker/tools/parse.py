"""Reads the calls out of a reply, whether it comes whole or in pieces: one machine, so that both say the same.

A call is the call token and then one JSON object or an array of them, perhaps inside a fence of backticks. What is
no call is text. A call swallows the white space and the fence around it.
"""

from __future__ import annotations

from typing import Final

from forward_worker.tools.patterns import BEFORE_VALUE, FENCE_END, FENCE_END_BEGUN, fences_after, patterns_of
from forward_worker.tools.reading import Call, Check, Event, Fault, Problem, Reading
from forward_worker.tools.values import elements, value_end

# with so many tokens that begin no call, the rest of a reply is text: each costs a try at what follows
MAX_UNREADABLE: Final = 64
# far more than anybody asks for in one reply
MAX_CALLS: Final = 1000
MAX_PROBLEMS: Final = 64
THOUGHT: Final = "<think>"
THOUGHT_END: Final = "</think>"
# a longer value is not tried again before it has grown by a tenth: each try reads it from its beginning
_TRIED_ALWAYS: Final = 4096
_GROWN: Final = 1.1


def read(text: str, call_token: str, check: Check) -> Reading:
    """Return what a whole reply holds; `check` makes calls of JSON values."""
    reader = Reader(call_token, check)
    said = [event for event in reader.close(text) if isinstance(event, str)]
    return Reading("".join(said) or None, tuple(reader.calls), tuple(reader.problems))


class Reader:
    """Takes a reply in any pieces and gives out text and calls as soon as they are certain."""

    def __init__(self, call_token: str, check: Check) -> None:
        self._token = call_token
        self._check = check
        self._opening, self._unfinished = patterns_of(call_token)
        self._held = ""
        self._passed = 0
        self._tried = 0
        self._fresh = ""
        self._thinking: bool | None = None
        self._fenced = False
        self._after_call = False
        self._spoke = False
        # fences in what was said, and the backticks at its end that may become one
        self._fences = 0
        self._ticks = 0
        self._pieces: list[str] = []
        self._unread: list[tuple[int, Fault]] = []
        self.calls: list[Call] = []
        self._faulty: list[tuple[int, Problem]] = []
        self._left_out = 0

    @property
    def problems(self) -> list[Problem]:
        """The calls that could not be taken, in order; complete when the reader is closed."""
        whole = "".join(self._pieces)
        unread = [(at, Problem(self._unread_text(whole, at), fault)) for at, fault in self._unread]
        found = [problem for _, problem in sorted(unread + self._faulty, key=lambda found: found[0])]
        if self._left_out:
            found.append(Problem("", Fault(found[-1].fault.reason, f"and {self._left_out} more of the kind")))
        if len(self.calls) >= MAX_CALLS:
            found.append(Problem("", Fault("unknown_tool", f"more than {MAX_CALLS} calls are not read")))
        return found

    def feed(self, text: str) -> list[Event]:
        """Return what is certain after one more piece of the reply."""
        return self._advance(text, last=False)

    def close(self, text: str = "") -> list[Event]:
        """Return what is left at the end of the reply."""
        return self._advance(text, last=True)

    def _advance(self, text: str, *, last: bool) -> list[Event]:
        self._pieces.append(text)
        self._fresh = text
        self._held += text
        events: list[Event] = []
        if text.isspace() and not last:
            # white space alone decides nothing, and a run of it would be searched again for every piece
            return events
        while self._step(events, last=last):
            pass
        return events

    def _step(self, events: list[Event], *, last: bool) -> bool:
        """Take the next thing out of what is held; tell whether there may be more to take."""
        if self._thinking is not False and not self._past_thought(events, last=last):
            return False
        if self._fenced and not self._past_fence(last=last):
            return False
        looking = len(self._unread) < MAX_UNREADABLE and len(self.calls) < MAX_CALLS
        opening = self._opening.search(self._held) if looking else None
        if opening is None:
            unfinished = self._unfinished.search(self._held) if looking and not last else None
            self._say(self._take(unfinished.start() if unfinished else len(self._held)), events)
            return False
        fenced = opening["fence"] is not None
        begins = opening.start()
        if fenced and self._block_open(self._held[:begins]):
            # the end of a block of code before the call
            begins, fenced = opening.start("fence") + len(opening["fence"].rstrip()), False
        self._say(self._take(begins), events)
        return self._value(events, opening.end() - begins, fenced=fenced, last=last)

    def _past_thought(self, events: list[Event], *, last: bool) -> bool:
        """Say the thought that a reply may begin with, in which nothing is a call; tell whether it is over."""
        if self._thinking is None:
            begun = self._held.lstrip()
            if not last and len(begun) < len(THOUGHT) and THOUGHT.startswith(begun):
                return False
            self._thinking = begun.startswith(THOUGHT)
        if self._thinking:
            end = self._held.find(THOUGHT_END)
            if end < 0:
                kept = 0 if last else len(THOUGHT_END) - 1
                self._say(self._take(max(len(self._held) - kept, 0)), events)
                return False
            self._say(self._take(end + len(THOUGHT_END)), events)
            self._thinking = False
        return True

    def _past_fence(self, *, last: bool) -> bool:
        """Drop the end of a fence around calls; tell whether enough has come to know that there is none."""
        if closing := FENCE_END.match(self._held):
            if closing.end() == len(self._held) and not last:
                return False
            self._take(closing.end())
            self._fenced = False
        return last or not FENCE_END_BEGUN.match(self._held)

    def _value(self, events: list[Event], token_end: int, *, fenced: bool, last: bool) -> bool:
        """Read what follows the token that stands at the beginning of what is held."""
        before = BEFORE_VALUE.match(self._held, token_end)
        assert before is not None
        at = before.end()
        begun = self._held[at : at + 3]
        if not last and (not begun or (begun in ("`", "``"))):
            return False
        if begun[:1] not in ("{", "["):
            return self._unreadable(events, token_end)
        if not last and not self._worth_trying():
            return False
        found = value_end(self._held, at)
        if found is None:
            return self._unreadable(events, token_end) if last else False
        self._tried = 0
        calls = self._calls(events, token_end, at, found)
        if calls:
            self._fenced = self._fenced or fenced or before["fence"] is not None
        return True

    def _worth_trying(self) -> bool:
        """Tell whether the value may be complete now, and is not tried too often."""
        if "}" not in self._fresh and "]" not in self._fresh and self._tried:
            return False
        if len(self._held) > _TRIED_ALWAYS and len(self._held) < self._tried * _GROWN:
            return False
        self._tried = len(self._held)
        return True

    def _unreadable(self, events: list[Event], token_end: int) -> bool:
        """Leave a token without a value in the text."""
        self._unread.append(
            (
                self._passed + token_end - len(self._token),
                Fault("not_json", "what follows is no complete JSON"),
            )
        )
        self._tried = 0
        self._say(self._take(token_end), events)
        return True

    def _calls(self, events: list[Event], token_end: int, at: int, end: int) -> bool:
        """Give out the calls of a value; what is none of the tools' stays in the text."""
        start = token_end - len(self._token)
        place = self._passed + start
        values = list(elements(self._held, at, end))
        checked = [(source, self._check(value)) for value, source in values]
        whole = self._held[start:end]
        taken = self._take(end)
        if not any(isinstance(outcome, Call) for _, outcome in checked):
            faults = [outcome for _, outcome in checked if isinstance(outcome, Fault)]
            fault = faults[0] if faults else Fault("unknown_tool", "the list of calls is empty")
            self._note(place, Problem(whole, fault))
            self._say(taken, events)
            return False
        for source, outcome in checked:
            if isinstance(outcome, Call):
                self.calls.append(outcome)
                events.append(outcome)
                self._after_call = True
            else:
                self._note(place, Problem(self._token + source, outcome))
                self._say(self._token + source, events)
        return True

    def _note(self, place: int, problem: Problem) -> None:
        if len(self._faulty) < MAX_PROBLEMS:
            self._faulty.append((place, problem))
        else:
            self._left_out += 1

    def _say(self, text: str, events: list[Event]) -> None:
        if self._after_call:
            text = text.lstrip()
            if not text:
                return
            text = f"\n{text}" if self._spoke else text
        if text:
            self._after_call = self._fenced = False
            self._spoke = True
            self._fences, self._ticks = fences_after(self._fences, self._ticks, text)
            events.append(text)

    def _block_open(self, text: str) -> bool:
        """Tell whether a block of code is open behind a text that is about to be said."""
        return fences_after(self._fences, self._ticks, text)[0] % 2 == 1

    def _take(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        self._passed += length
        return taken

    def _unread_text(self, whole: str, at: int) -> str:
        following = whole.find(self._token, at + len(self._token))
        return whole[at : following if following >= 0 else None].rstrip()
