"""JSON Schemas from messages, checked within bounds: no address is fetched, and no schema holds the worker up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from jsonschema import validators
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.protocols import Validator
from pydantic_core import from_json
from referencing.exceptions import Unresolvable
from referencing.jsonschema import EMPTY_REGISTRY

from backtalk.wire.base import escape
from forward_worker.tools.bounded import TookTooLong, bounded

# of processor time
ARGUMENTS_SECONDS: Final = 0.05
SCHEMA_SECONDS: Final = 0.25
_MAX_TOLD: Final = 300


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema of a function's parameters."""

    validator: Validator

    def problem(self, arguments: dict[str, Any]) -> str | None:
        """Return what is wrong with arguments, in a sentence, None if nothing."""
        try:
            with bounded(ARGUMENTS_SECONDS):
                found = best_match(self.validator.iter_errors(arguments))
                return None if found is None else _told(found)
        except TookTooLong:
            return f"the schema takes more than {ARGUMENTS_SECONDS:g} s to check"
        except Unresolvable as error:
            return f"the schema refers to {error.ref!r}, which is not in it"
        except RecursionError:
            return "the schema refers to itself without end, or is nested too deeply"
        except Exception as error:  # noqa: BLE001  a schema may be odd in more ways than the library has errors for
            return f"the schema cannot be applied ({type(error).__name__})"


@lru_cache(maxsize=1024)
def schema_of(text: str) -> Schema:
    """Return the schema in a JSON text; the same text gives the same object. Raises ValueError where it is none."""
    document = from_json(text)
    if not isinstance(document.get("$schema", ""), str):
        raise ValueError("$schema: expected text")
    try:
        with bounded(SCHEMA_SECONDS):
            drafted = validators.validator_for(document, default=validators.Draft202012Validator)
            drafted.check_schema(document)
    except TookTooLong as error:
        raise ValueError(f"it takes more than {SCHEMA_SECONDS:g} s to check; make it smaller") from error
    except SchemaError as error:
        raise ValueError(_told(error)) from error
    except Exception as error:
        raise ValueError(f"it cannot be read ({type(error).__name__})") from error
    # the usual registry would fetch whatever a $ref names
    return Schema(drafted(document, registry=EMPTY_REGISTRY))


def _told(error: ValidationError | SchemaError) -> str:
    path = "/".join(escape(str(step)) for step in error.absolute_path)
    message = error.message if len(error.message) <= _MAX_TOLD else f"{error.message[:_MAX_TOLD]}…"
    told = f"{path}: {message}" if path else message
    # a key may be half of a surrogate pair, which nobody could be told
    return told.encode(errors="backslashreplace").decode()
