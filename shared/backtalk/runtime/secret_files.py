"""Secrets that are mounted as files: one file a variable, under /run/secrets or the folder of BACKTALK_SECRETS_DIR.

The environment wins, and white space around a secret is none of it. Messages name variable and file, never the secret.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import PydanticBaseSettingsSource

SECRETS_DIR: Final = "BACKTALK_SECRETS_DIR"
_USUAL: Final = "/run/secrets"


class BadSecret(ValueError):
    """Raised when a secret cannot be read, or cannot be what it is meant for."""


def folder() -> Path:
    """Return the folder of the secrets; it need not be there."""
    return Path(os.environ.get(SECRETS_DIR) or _USUAL)


def from_file(variable: str) -> str | None:
    """Return what the file of a variable holds, None without one: its name is as written, or in lower case."""
    for path in (folder() / variable, folder() / variable.lower()):
        try:
            return path.read_text("utf-8").strip()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except UnicodeDecodeError:
            raise BadSecret(f"{path} is no UTF-8 text") from None
        except OSError as error:
            raise BadSecret(f"{path} cannot be read ({error.strerror})") from error
    return None


def key(variable: str) -> str | None:
    """Return the key of an endpoint, empty where the environment says so, None where nobody does.

    It goes into a header, so what no header can hold is refused: mostly a key that was pasted with a line break.
    """
    told = os.environ.get(variable, "").strip() or from_file(variable) or None
    if told is None:
        return "" if variable in os.environ else None
    if not (told.isascii() and told.isprintable()):
        raise BadSecret(
            f"{variable}: the key has line breaks, control characters or other than ASCII ones in it; "
            "put it in again, without them"
        )
    return told


class SecretFiles(PydanticBaseSettingsSource):
    """The settings that stand in files: BACKTALK_AMQP_URL in /run/secrets/backtalk_amqp_url, and so on."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        variable = f"{self.config['env_prefix']}{field_name}".upper()
        try:
            return from_file(variable), field_name, False
        except BadSecret as error:
            problem = PydanticCustomError("secret", "{told}", {"told": str(error)})
            details = InitErrorDetails(type=problem, loc=(field_name,), input=None)
            raise ValidationError.from_exception_data(type(self).__name__, [details]) from error

    def __call__(self) -> dict[str, Any]:
        found = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: text for name, text in found.items() if text}
