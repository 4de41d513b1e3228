"""The settings every worker knows, from the environment (prefix `BACKTALK_`)."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from backtalk.runtime.openai_client import Endpoint
from backtalk.transport.topology import CONSUMER_TIMEOUT_MS, DEFAULT_URL
from backtalk.wire.errors import Refused
from backtalk.wire.jobs import DEFAULT_ENDPOINT
from backtalk.wire.policy import Policy
from backtalk.wire.tools import ToolMode

# RabbitMQ before 3.12 does not know the queue's own consumer timeout and takes the node's 30 minutes
OLDEST_CONSUMER_TIMEOUT: Final = 1800
_REDIS_OPTIONS: Final = ("db", "password", "ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile")


class EndpointSettings(BaseModel):
    """One endpoint: where it is, which environment variable holds its key, how many calls at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str
    api_key_env: str | None = None
    concurrency: int | None = Field(default=None, ge=1)
    tool_mode: ToolMode | None = None


class Settings(BaseSettings):
    """Everything a worker can be told; `describe()` prints it without secrets."""

    model_config = SettingsConfigDict(
        env_prefix="BACKTALK_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    amqp_url: SecretStr = Field(SecretStr(DEFAULT_URL), description="the broker")
    namespace: str = Field(
        "backtalk", pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", description="prefix of all queues"
    )
    concurrency: int = Field(64, ge=1, description="messages worked on at once, and the prefetch")
    model_concurrency: int = Field(256, ge=1, description="model calls at once, for each endpoint")
    model_timeout_seconds: float = Field(300, gt=0, description="the longest a single model call may take")
    job_budget_seconds: float = Field(900, gt=0, description="the longest a message may take, all included")
    drain_seconds: float = Field(120, ge=0, description="time to finish work after SIGTERM")
    max_attempts: int = Field(5, ge=1, description="tries of a message whose endpoint is down")
    max_age_seconds: float = Field(86400, gt=0, description="an older message is not tried again")
    connect_seconds: float = Field(60, ge=0, description="how long to wait for the broker at start")
    result_store: SecretStr | None = Field(
        None, description="Redis that remembers paid calls and answers: redis://user:password@host:6379/0"
    )
    result_seconds: float = Field(86400, ge=1, le=10**9, description="how long they are remembered")
    backward_model: str | None = Field(None, description="model for gradients when the feedback names none")
    policy: Policy = Field(
        default_factory=Policy,
        description='what feedback leaves open of its policy, as JSON: {"batch": "digest", "max_calls": 500}',
    )
    endpoints: Annotated[dict[str, EndpointSettings], NoDecode] = Field(
        default_factory=dict,
        description='named endpoints, as JSON or a file of it: {"name": {"base_url", "api_key_env", "concurrency", "tool_mode"}}',
    )
    tool_mode: ToolMode = Field(
        "inject",
        description="inject: tools go into prompts; native: to endpoints that have tools of their own",
    )
    tool_templates: Path | None = Field(
        None, description="folder of templates that replace the words for tools"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")
    log_format: Literal["json", "console"] = Field("json", description="form of the log lines")

    @field_validator("endpoints", mode="before")
    @classmethod
    def _read_endpoints(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        text = value if value.lstrip().startswith("{") else _read(value)
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"is neither JSON nor a file of JSON: {error}") from error

    @field_validator("amqp_url")
    @classmethod
    def _is_amqp(cls, url: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(url.get_secret_value())
            good = parts.scheme in ("amqp", "amqps") and parts.hostname and (parts.port or True)
        except ValueError:
            good = False
        if not good:
            raise ValueError("should be amqp://user:password@host:port/vhost, with special characters as %xx")
        return url

    @field_validator("result_store")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not _names_a_redis(url.get_secret_value()):
            raise ValueError(
                "should be redis://user:password@host:port/0 (rediss:// with TLS) or unix:///path/of/socket?db=0, "
                "with special characters as %xx and no options but db, password and ssl_…"
            )
        return url

    @model_validator(mode="after")
    def _keys_are_there(self) -> Self:
        for name, endpoint in self.endpoints.items():
            if endpoint.api_key_env and endpoint.api_key_env not in os.environ:
                raise ValueError(
                    f"BACKTALK_ENDPOINTS: the key of {name!r} should be in {endpoint.api_key_env}, which is not set"
                )
        return self

    @field_validator("policy")
    @classmethod
    def _goes_together(cls, policy: Policy) -> Policy:
        try:
            return policy.over(Policy())
        except Refused as refused:
            raise ValueError(str(refused)) from refused

    @model_validator(mode="after")
    def _fits_the_broker(self) -> Self:
        longest = self.job_budget_seconds + self.drain_seconds
        if longest >= min(OLDEST_CONSUMER_TIMEOUT, CONSUMER_TIMEOUT_MS / 1000):
            raise ValueError(
                f"BACKTALK_JOB_BUDGET_SECONDS + BACKTALK_DRAIN_SECONDS is {longest:g} s; it must stay below the "
                f"broker's consumer timeout of {OLDEST_CONSUMER_TIMEOUT} s, or the broker closes the channel"
            )
        return self

    def named_endpoints(self) -> dict[str, Endpoint]:
        """Return all endpoints with their keys; the default one follows OPENAI_BASE_URL and OPENAI_API_KEY."""
        default = EndpointSettings(
            base_url=os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1",
            api_key_env="OPENAI_API_KEY",
        )
        return {
            name: Endpoint(
                name=name,
                base_url=endpoint.base_url,
                api_key=os.environ.get(endpoint.api_key_env) if endpoint.api_key_env else None,
                concurrency=endpoint.concurrency or self.model_concurrency,
                timeout=self.model_timeout_seconds,
            )
            for name, endpoint in {DEFAULT_ENDPOINT: default, **self.endpoints}.items()
        }

    def tool_modes(self) -> dict[str, ToolMode]:
        """Return how tools reach each endpoint."""
        stated = {name: endpoint.tool_mode for name, endpoint in self.endpoints.items()}
        return {name: stated.get(name) or self.tool_mode for name in {DEFAULT_ENDPOINT, *stated}}

    def describe(self) -> dict[str, Any]:
        """Return the settings in force, fit to be printed: no password, no key."""
        told = self.model_dump(mode="json", exclude={"amqp_url", "result_store", "endpoints"})
        store = self.result_store and without_password(self.result_store.get_secret_value())
        endpoints = {
            name: {"base_url": without_password(endpoint.base_url or ""), "key": bool(endpoint.api_key)}
            for name, endpoint in self.named_endpoints().items()
        }
        return {
            "amqp_url": without_password(self.amqp_url.get_secret_value()),
            "result_store": store,
            **told,
            "endpoints": endpoints,
        }


def _names_a_redis(url: str) -> bool:
    """Tell whether the client can make something of a URL; what it does not know would break it later."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        return False
    if not all(name in _REDIS_OPTIONS for name in options) or not options.get("db", "0").isdecimal():
        return False
    if parts.scheme == "unix":
        return bool(parts.path)
    database = parts.path.removeprefix("/") or "0"
    return (
        parts.scheme in ("redis", "rediss") and bool(parts.hostname) and port_is_good and database.isdecimal()
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError as error:
        raise ValueError(f"is neither JSON nor a readable file ({error.strerror})") from error


def without_password(url: str) -> str:
    """Return a URL whose password and query, where secrets may be, are masked; also one that is misspelt."""
    head, at, rest = url.rpartition("@")
    place = re.split(r"[?#]", rest)[0]
    if not at:
        return place
    scheme, colon, login = head.rpartition("://")
    user = re.split(r"[:/?#]", login)[0]
    return f"{scheme}{colon}{user}:***@{place}"


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
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = default.get_secret_value() if isinstance(default, SecretStr) else default
        shown = shown.model_dump() if isinstance(shown, BaseModel) else shown
        rows.append(
            f"  BACKTALK_{name.upper():<22} {field.description} [{'' if shown in (None, {}) else shown}]"
        )
    return "\n".join(rows)
