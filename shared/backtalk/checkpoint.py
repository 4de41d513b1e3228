"""Checkpoints: what was learnt, as JSON. Nothing in them runs, and no key is ever in one."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from backtalk.models.client import check_json

VERSION: Final = 1
_MARK: Final = "backtalk_checkpoint"


def save(state: Mapping[str, Any], path: str | Path) -> None:
    """Write the state of modules and optimizers to a file, whole or not at all.

    >>> import tempfile, pathlib
    >>> from backtalk.cognitive import ChatCompletion
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "step-3.json"
    >>> save({"model": ChatCompletion(model="gpt-4o").state_dict()}, path)
    >>> load(path)["model"]["modules"][""]["completion_args"]
    {'model': 'gpt-4o'}

    Raises TypeError with the dotted path of what JSON cannot hold.
    """
    check_json(state, "state")
    path = Path(path)
    text = json.dumps({_MARK: VERSION, "state": state}, ensure_ascii=False, indent=1, allow_nan=False)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        draft.write_text(text, "utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def load(path: str | Path) -> dict[str, Any]:
    """Return the state in a file that `save` wrote. Raises ValueError for other files and for later versions."""
    try:
        found = json.loads(Path(path).read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is no checkpoint, but something that JSON cannot read: {error}") from error
    version = found.get(_MARK) if isinstance(found, dict) else None
    if version is None or not isinstance(found.get("state"), dict):
        raise ValueError(f"{path}: is no checkpoint; name a file that backtalk.save wrote")
    if version != VERSION:
        raise ValueError(
            f"{path}: is a checkpoint of version {version}; this Backtalk reads version {VERSION}"
        )
    state: dict[str, Any] = found["state"]
    return state
