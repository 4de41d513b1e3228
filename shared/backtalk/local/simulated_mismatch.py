"""What the simulated model concludes from a response that had to be exactly something else."""

import json
import re

from backtalk.local.simulated_instructions import Style, Task
from backtalk.local.simulated_vocabulary import VALUES
from backtalk.local.simulated_wording import worded

_STRING = r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"'
_MISMATCH = re.compile(
    rf"(?:Said of {_STRING}[^:]*: )?It is (?P<response>{_STRING}); it should be exactly (?P<target>{_STRING})\.?"
)


def concluded(feedback: str) -> str:
    """The feedback with every mismatch turned into what to ask for, as far as that can be told."""
    return _MISMATCH.sub(lambda found: _conclusion(found) or found[0], feedback)


def concluded_only(feedback: str) -> str:
    """The same, without the mismatches that nothing can be concluded from."""
    return _MISMATCH.sub(_conclusion, feedback)


def _conclusion(mismatch: re.Match[str]) -> str:
    return " ".join(_rules(json.loads(mismatch["response"]), json.loads(mismatch["target"])))


def _rules(response: str, target: str) -> list[str]:
    look = Style(case=_wanted_case(response, target), one_word=_count(target) == 1 < _count(response))
    return worded(look, Task()) or worded(Style(), Task(labels=_wanted_label(response, target)))


def _wanted_case(response: str, target: str) -> str:
    if target.islower() and response != response.lower():
        return "lower"
    return "upper" if target.isupper() and response != response.upper() else ""


def _wanted_label(response: str, target: str) -> tuple[str, ...]:
    """The label that has the target for a value, unless the response is right already or no word at all."""
    if _count(response) != 1 or response == target:
        return ()
    return tuple(label for label, values in VALUES.items() if target.lower() in values)


def _count(text: str) -> int:
    return len(re.findall(r"\w[\w'’-]*", text))
