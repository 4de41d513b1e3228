"""The settings every worker knows, from the environment (prefix `BACKTALK_`)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from backtalk.runtime.addresses import names_a_redis, names_an_endpoint, without_password
from backtalk.runtime.bounds import Bounds
from backtalk.runtime.openai_client import Endpoint
from backtalk.runtime.secret_files import SecretFiles, folder, key
from backtalk.transport.rabbitmq import read_address
from backtalk.transport.topology import CONSUMER_TIMEOUT_MS, DEFAULT_URL
from backtalk.wire.errors import Refused
from backtalk.wire.jobs import DEFAULT_ENDPOINT
from backtalk.wire.policy import Policy
from backtalk.wire.tools import ToolMode

# RabbitMQ before 3.12 does not know the queue's own consumer timeout and takes the node's 30 minutes
OLDEST_CONSUMER_TIMEOUT: Final = 1800
_DEFAULT_URL: Final = "OPENAI_BASE_URL"
_DEFAULT_KEY: Final = "OPENAI_API_KEY"
_ENDPOINT_FORM: Final = (
    "should be http://host:port/v1 with nothing else in it: "
    "a password or key goes into the variable or secret file that api_key_env names"
)


class EndpointSettings(BaseModel):
    """One endpoint: where it is, which variable or secret file holds its key, how many calls at once."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    base_url: str
    api_key_env: str | None = None
    concurrency: int | None = Field(default=None, ge=1)
    tool_mode: ToolMode | None = None

    @field_validator("base_url")
    @classmethod
    def _is_bare(cls, url: str) -> str:
        if not names_an_endpoint(url):
            raise ValueError(_ENDPOINT_FORM)
        return url


class Settings(Bounds):
    """Everything a worker can be told; `describe()` prints it without secrets."""

    model_config = SettingsConfigDict(
        env_prefix="BACKTALK_",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        # a value in the wrong place may well be a key
        hide_input_in_errors=True,
    )

    amqp_url: SecretStr = Field(
        SecretStr(DEFAULT_URL), description="the broker; amqps://…?cafile=…&certfile=…&keyfile=… with TLS"
    )
    namespace: str = Field(
        "backtalk", pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", description="prefix of all queues"
    )
    topology: Literal["declare", "check"] = Field(
        "declare", description="check: the queues are there, and this broker's user may not make them"
    )
    concurrency: int = Field(64, ge=1, description="messages worked on at once, and the prefetch")
    model_concurrency: int = Field(256, ge=1, description="model calls at once, for each endpoint")
    model_timeout_seconds: float = Field(300, gt=0, description="the longest a single model call may take")
    job_budget_seconds: float = Field(900, gt=0, description="the longest a message may take, all included")
    drain_seconds: float = Field(120, ge=0, description="time to finish work after SIGTERM")
    max_attempts: int = Field(5, ge=1, description="tries of a message whose endpoint is down")
    max_age_seconds: float = Field(86400, gt=0, description="an older message is not tried again")
    connect_seconds: float = Field(60, ge=0, description="how long to wait for the broker at start")
    health_port: int | None = Field(
        None, ge=0, le=65535, description="port that answers /live, /ready and /metrics; none by default"
    )
    health_host: str = Field(
        "127.0.0.1", description="address of that port; 0.0.0.0 where an orchestrator asks from outside"
    )
    hang_seconds: float = Field(
        60, ge=0, description="a worker whose event loop hangs for so long ends itself; 0: never"
    )
    result_store: SecretStr | None = Field(
        None, description="Redis that remembers paid calls and answers: redis://user:password@host:6379/0"
    )
    result_seconds: float = Field(86400, ge=1, le=10**9, description="how long they are remembered")
    backward_model: str | None = Field(None, description="model for gradients when the feedback names none")
    policy: Annotated[Policy, NoDecode] = Field(
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
    trace_endpoints: bool = Field(
        default=False, description="tell endpoints of the trace a call belongs to, by the header traceparent"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")
    log_format: Literal["json", "console"] = Field("json", description="form of the log lines")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        *_: PydanticBaseSettingsSource,
        **usual: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return usual["init_settings"], usual["env_settings"], SecretFiles(settings_cls)

    @field_validator("endpoints", "policy", mode="before")
    @classmethod
    def _read_json(cls, value: Any) -> Any:
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
        read_address(url.get_secret_value())
        return url

    @field_validator("result_store")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not names_a_redis(url.get_secret_value()):
            raise ValueError(
                "should be redis://user:password@host:port/0 (rediss:// with TLS) or unix:///path/of/socket?db=0, "
                "with special characters as %xx and no options but db, password and ssl_…"
            )
        return url

    @model_validator(mode="after")
    def _keys_are_there(self) -> Self:
        for name, endpoint in self._all_endpoints().items():
            if endpoint.api_key_env and key(endpoint.api_key_env) is None and name in self.endpoints:
                raise ValueError(
                    f"BACKTALK_ENDPOINTS: the key of {name!r} should be in {endpoint.api_key_env}, "
                    f"which is neither set nor a file in {folder()}"
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
        return {
            name: Endpoint(
                name=name,
                base_url=endpoint.base_url,
                api_key=key(endpoint.api_key_env) if endpoint.api_key_env else None,
                concurrency=endpoint.concurrency or self.model_concurrency,
                timeout=self.model_timeout_seconds,
                traced=self.trace_endpoints,
            )
            for name, endpoint in self._all_endpoints().items()
        }

    def _all_endpoints(self) -> dict[str, EndpointSettings]:
        if DEFAULT_ENDPOINT in self.endpoints:
            return self.endpoints
        url = os.environ.get(_DEFAULT_URL) or "https://api.openai.com/v1"
        if not names_an_endpoint(url):
            raise ValueError(f"{_DEFAULT_URL}: {_ENDPOINT_FORM}")
        return {
            DEFAULT_ENDPOINT: EndpointSettings(base_url=url, api_key_env=_DEFAULT_KEY),
            **self.endpoints,
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


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError as error:
        raise ValueError(f"is neither JSON nor a readable file ({error.strerror})") from error
