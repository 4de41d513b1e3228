"""The golden messages, as examples: each was frozen when its version was released, and decodes for ever."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from backtalk.schemas import MESSAGES

# the kind of a message, then the name of each example
Examples: TypeAlias = Mapping[str, Mapping[str, Any]]


class NoExamples(ValueError):
    """Raised for a folder that lacks the golden message of a kind."""


def read_examples(folder: Path) -> Examples:
    """Return the bodies in a folder: `<kind>.json`, and `<kind>.<word>.json` for more of a kind."""
    golden = {path.stem: path for path in folder.glob("*.json")}
    found = {
        kind: {
            name: json.loads(golden[name].read_bytes())
            for name in sorted(golden)
            if name == kind or name.startswith(f"{kind}.")
        }
        for kind in MESSAGES
    }
    if missing := [kind for kind, bodies in found.items() if not bodies]:
        raise NoExamples(
            f"{folder} has no example of {', '.join(missing)}; run this in a checkout, or name its tests/data"
        )
    return found
