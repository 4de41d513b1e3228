"""The settings in words: for --help, and for whoever made a mistake in them."""

from __future__ import annotations

from pydantic import BaseModel, SecretStr, ValidationError

from backtalk.runtime.settings import Settings


def explain(error: ValidationError) -> str:
    """Return what is wrong with the environment, a line for each variable, without the values."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = ".".join(str(step) for step in problem["loc"])
        variable = f"BACKTALK_{name.upper()}: " if name else ""
        lines.append(f"{variable}{problem['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


def table() -> str:
    """Return every setting with its default, for --help."""
    rows = []
    known = Settings.model_fields
    for name, field in {
        name: known[name] for name in (*Settings.__annotations__, *known) if name in known
    }.items():
        default = field.get_default(call_default_factory=True)
        shown = default.get_secret_value() if isinstance(default, SecretStr) else default
        shown = shown.model_dump() if isinstance(shown, BaseModel) else shown
        rows.append(
            f"  BACKTALK_{name.upper():<22} {field.description} [{'' if shown in (None, {}) else shown}]"
        )
    return "\n".join(rows)
