"""The settings of a worker: read from the environment, and never told with their secrets."""

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from backtalk.runtime import settings as module
from backtalk.runtime.addresses import without_password
from backtalk.runtime.redis_line import Line
from backtalk.runtime.settings import Settings
from backtalk.runtime.settings_told import explain, table

CANARY = "canary-77e0"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Give each test an environment in which nothing of ours is set."""
    for name in list(os.environ):
        if name.startswith(("BACKTALK_", "OPENAI_")):
            monkeypatch.delenv(name)
    return monkeypatch


def read(environment, **variables):
    for name, value in variables.items():
        environment.setenv(name, value)
    return Settings()


def mistake(environment, **variables):
    with pytest.raises(ValidationError) as caught:
        read(environment, **variables)
    return explain(caught.value)


def test_an_empty_environment_is_enough():
    """Every setting has the default of the design."""
    settings = Settings()
    assert settings.namespace == "backtalk"
    assert settings.model_concurrency == 256
    assert settings.job_budget_seconds == 900
    assert settings.max_age_seconds == 86_400
    assert settings.backward_model is None
    assert (settings.tool_mode, settings.tool_templates) == ("inject", None)


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("BACKTALK_NAMESPACE", "team-a.prod_1", "namespace", "team-a.prod_1"),
        ("BACKTALK_CONCURRENCY", "7", "concurrency", 7),
        ("BACKTALK_MODEL_CONCURRENCY", "9", "model_concurrency", 9),
        ("BACKTALK_JOB_BUDGET_SECONDS", "12.5", "job_budget_seconds", 12.5),
        ("BACKTALK_DRAIN_SECONDS", "0", "drain_seconds", 0),
        ("BACKTALK_MAX_ATTEMPTS", "1", "max_attempts", 1),
        ("BACKTALK_MAX_AGE_SECONDS", "60", "max_age_seconds", 60),
        ("BACKTALK_BACKWARD_MODEL", "org/critic", "backward_model", "org/critic"),
        ("BACKTALK_TOOL_MODE", "native", "tool_mode", "native"),
        ("BACKTALK_TOOL_TEMPLATES", "/etc/words", "tool_templates", Path("/etc/words")),
        ("BACKTALK_TOOL_TEMPLATES", "", "tool_templates", None),
        ("BACKTALK_LOG_LEVEL", "debug", "log_level", "debug"),
        ("BACKTALK_LOG_FORMAT", "console", "log_format", "console"),
    ],
)
def test_a_variable_sets_its_setting(environment, variable, value, field, expected):
    """The names are those of the design."""
    assert getattr(read(environment, **{variable: value}), field) == expected


def test_the_broker_is_a_secret_with_a_variable(environment):
    """A password may stand in the URL, so it is not printed by accident."""
    settings = read(environment, BACKTALK_AMQP_URL=f"amqp://me:{CANARY}@rabbit:5671/vhost")
    assert settings.amqp_url.get_secret_value() == f"amqp://me:{CANARY}@rabbit:5671/vhost"
    assert CANARY not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BACKTALK_NAMESPACE", "a b"),
        ("BACKTALK_NAMESPACE", "a..b"),
        ("BACKTALK_NAMESPACE", "a.*"),
        ("BACKTALK_CONCURRENCY", "0"),
        ("BACKTALK_CONCURRENCY", "many"),
        ("BACKTALK_MODEL_CONCURRENCY", "0"),
        ("BACKTALK_JOB_BUDGET_SECONDS", "0"),
        ("BACKTALK_DRAIN_SECONDS", "-1"),
        ("BACKTALK_RESULT_SECONDS", "0"),
        ("BACKTALK_MAX_ATTEMPTS", "0"),
        ("BACKTALK_TOOL_MODE", "both"),
        ("BACKTALK_LOG_LEVEL", "loud"),
        ("BACKTALK_LOG_FORMAT", "xml"),
    ],
)
def test_a_value_that_makes_no_sense_is_explained_by_its_variable(environment, variable, value):
    """Each line names the variable to mend."""
    assert mistake(environment, **{variable: value}).startswith(f"{variable}: ")


def test_several_mistakes_are_explained_in_one_go(environment):
    """A line for each."""
    told = mistake(environment, BACKTALK_CONCURRENCY="0", BACKTALK_LOG_FORMAT="xml")
    assert [line.partition(":")[0] for line in told.splitlines()] == [
        "BACKTALK_CONCURRENCY",
        "BACKTALK_LOG_FORMAT",
    ]


@pytest.mark.parametrize(
    ("budget", "drain", "fits"), [(1679, 120, True), (1680, 120, False), (900, 900, False)]
)
def test_budget_and_drain_stay_below_the_brokers_consumer_timeout(environment, budget, drain, fits):
    """Otherwise the broker closes the channel under a job that is still allowed to run."""
    variables = {"BACKTALK_JOB_BUDGET_SECONDS": str(budget), "BACKTALK_DRAIN_SECONDS": str(drain)}
    if fits:
        assert read(environment, **variables).job_budget_seconds == budget
    else:
        told = mistake(environment, **variables)
        assert all(name in told for name in variables)
        assert "1800" in told


# ---- endpoints

LOCAL = {"base_url": "http://localhost:8000/v1", "api_key_env": "LOCAL_KEY", "concurrency": 3}


def test_the_default_endpoint_follows_the_variables_of_every_openai_client(environment):
    """OPENAI_BASE_URL and OPENAI_API_KEY make the endpoint that is named openai."""
    settings = read(environment, OPENAI_BASE_URL="http://here/v1", OPENAI_API_KEY="sk")
    (endpoint,) = settings.named_endpoints().values()
    assert (endpoint.name, endpoint.base_url, endpoint.api_key) == ("openai", "http://here/v1", "sk")
    assert endpoint.concurrency == 256


def test_without_a_base_url_the_default_endpoint_is_openais_own(environment):
    """As the SDK has it; an empty variable is none."""
    endpoint = read(environment, OPENAI_BASE_URL="").named_endpoints()["openai"]
    assert (endpoint.base_url, endpoint.api_key) == ("https://api.openai.com/v1", None)


@pytest.mark.parametrize("form", ["json", "file"])
def test_named_endpoints_come_as_json_or_as_a_file_of_it(environment, tmp_path, form):
    """A key is named by its environment variable and looked up here, in the worker."""
    text = json.dumps({"local": LOCAL, "bare": {"base_url": "http://bare/v1"}})
    path = tmp_path / "endpoints.json"
    path.write_text(text, encoding="utf-8")
    settings = read(
        environment,
        BACKTALK_ENDPOINTS=text if form == "json" else str(path),
        LOCAL_KEY="k",
        OPENAI_API_KEY="o",
    )
    endpoints = settings.named_endpoints()
    assert {
        name: (e.base_url, e.api_key, e.concurrency) for name, e in endpoints.items() if name != "openai"
    } == {
        "local": ("http://localhost:8000/v1", "k", 3),
        "bare": ("http://bare/v1", None, 256),
    }
    assert endpoints["openai"].api_key == "o"


def test_the_default_endpoint_can_be_named_like_any_other(environment):
    """What is configured under its name replaces it."""
    settings = read(environment, BACKTALK_ENDPOINTS=json.dumps({"openai": LOCAL}), LOCAL_KEY="k")
    assert settings.named_endpoints()["openai"].base_url == LOCAL["base_url"]


@pytest.mark.parametrize(
    "value",
    [
        "{",
        "/no/such/file.json",
        '{"x": {}}',
        '{"x": {"base_url": 5}}',
        '{"x": {"base_url": "http://x", "concurrency": 0}}',
        '{"x": {"base_url": "http://x", "api_key": "in plain sight"}}',
        '{"x": {"base_url": "http://x", "tool_mode": "both"}}',
        '{"x": []}',
    ],
)
def test_endpoints_that_cannot_be_read_are_explained_by_their_variable(environment, value):
    """A key in plain sight is refused as well: keys live in variables of their own."""
    assert mistake(environment, BACKTALK_ENDPOINTS=value).startswith("BACKTALK_ENDPOINTS")


def test_a_policy_that_is_no_json_is_explained_by_its_variable(environment):
    """As one that says what cannot be."""
    assert mistake(environment, BACKTALK_POLICY="{").startswith("BACKTALK_POLICY: ")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"not json"])
def test_a_file_of_endpoints_that_is_no_json_object_is_explained(environment, tmp_path, content):
    """The file is read at start, so the mistake is told at start."""
    path = tmp_path / "endpoints.json"
    path.write_bytes(content)
    assert mistake(environment, BACKTALK_ENDPOINTS=str(path)).startswith("BACKTALK_ENDPOINTS: ")


@pytest.mark.parametrize(
    ("everywhere", "modes"),
    [
        (None, {"openai": "inject", "knows": "native", "knows not": "inject", "says nothing": "inject"}),
        ("native", {"openai": "native", "knows": "native", "knows not": "inject", "says nothing": "native"}),
    ],
)
def test_each_endpoint_may_say_how_tools_reach_it(environment, everywhere, modes):
    """Those that say nothing are as the worker's setting has it, the default endpoint among them."""
    endpoints = {
        name: {"base_url": "http://x/v1", **said}
        for name, said in (
            ("knows", {"tool_mode": "native"}),
            ("knows not", {"tool_mode": "inject"}),
            ("says nothing", {}),
        )
    }
    variables = {"BACKTALK_ENDPOINTS": json.dumps(endpoints)}
    if everywhere is not None:
        variables["BACKTALK_TOOL_MODE"] = everywhere
    assert read(environment, **variables).tool_modes() == modes


@pytest.mark.parametrize(("said", "mode"), [({}, "native"), ({"tool_mode": "inject"}, "inject")])
def test_the_default_endpoint_may_say_it_too(environment, said, mode):
    """When it is configured under its name."""
    endpoints = {"openai": {"base_url": "http://x/v1", **said}}
    settings = read(environment, BACKTALK_ENDPOINTS=json.dumps(endpoints), BACKTALK_TOOL_MODE="native")
    assert settings.tool_modes() == {"openai": mode}


def test_how_tools_are_served_is_among_the_settings_in_force(environment):
    """So that the log tells which words a worker uses."""
    told = read(environment, BACKTALK_TOOL_MODE="native", BACKTALK_TOOL_TEMPLATES="/etc/words").describe()
    assert (told["tool_mode"], told["tool_templates"]) == ("native", "/etc/words")
    json.dumps(told)


# ---- the result store


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis",
        "redis://:p%40ss@redis:6379/2",
        "rediss://me:pw@redis.example/0?ssl_cert_reqs=none",
        "redis://[::1]:6379?db=3",
        "unix:///run/redis.sock?db=1&password=pw",
    ],
)
def test_a_result_store_is_named_by_its_url(environment, url):
    """As redis-py takes it."""
    settings = read(environment, BACKTALK_RESULT_STORE=url, BACKTALK_RESULT_SECONDS="60")
    assert settings.result_store.get_secret_value() == url
    assert settings.result_seconds == 60
    Line(url)


def test_there_is_no_result_store_unless_it_is_named(environment):
    """An empty variable names none."""
    settings = read(environment, BACKTALK_RESULT_STORE="")
    assert (settings.result_store, settings.result_seconds) == (None, 86_400)
    assert settings.describe()["result_store"] is None


@pytest.mark.parametrize(
    "url",
    [
        "redis",
        "localhost:6379",
        "http://redis:6379",
        "redis://",
        "redis://host:port",
        "redis://host:99999",
        "redis://host/name",
        "redis://host?db=one",
        "redis://host?foo=1",
        "redis://host?foo",
        "unix://",
    ],
)
def test_a_result_store_that_makes_no_sense_is_explained(environment, url):
    """The message names the variable and the right form, and repeats no secret."""
    told = mistake(environment, BACKTALK_RESULT_STORE=url)
    assert told.startswith("BACKTALK_RESULT_STORE: should be redis://")


@pytest.mark.parametrize(
    "url", [f"redis://me:{CANARY}@redis:6379/0", f"unix:///run/redis.sock?password={CANARY}"]
)
def test_the_password_of_the_result_store_is_not_told(environment, url):
    """Neither in the log nor in a message."""
    settings = read(environment, BACKTALK_RESULT_STORE=url)
    assert CANARY not in f"{settings!r} {settings.describe()}"
    assert settings.describe()["result_store"].startswith(url.partition("//")[0])
    assert CANARY not in mistake(environment, BACKTALK_RESULT_STORE=f"http://:{CANARY}@redis")


# ---- secrets


def test_the_settings_in_force_are_told_without_secrets(environment):
    """Keys and passwords never leave the worker, not even into its own log."""
    endpoints = {"local": {"base_url": "http://host/v1", "api_key_env": "LOCAL_KEY"}}
    told = read(
        environment,
        BACKTALK_AMQP_URL=f"amqp://me:{CANARY}@rabbit/%2f?heartbeat=20",
        BACKTALK_RESULT_STORE=f"redis://me:{CANARY}@redis/0",
        BACKTALK_ENDPOINTS=json.dumps(endpoints),
        LOCAL_KEY=CANARY,
        OPENAI_API_KEY=CANARY,
    ).describe()
    assert CANARY not in json.dumps(told)
    assert told["amqp_url"] == "amqp://me:***@rabbit/%2f"
    assert told["endpoints"]["local"] == {"base_url": "http://host/v1", "key": True}
    assert told["endpoints"]["openai"]["key"] is True
    assert told["namespace"] == "backtalk"


@pytest.mark.parametrize(
    "variables",
    [
        {"BACKTALK_ENDPOINTS": '{"x": {"base_url": "http://x", "api_key": "' + CANARY + '"}}'},
        {"BACKTALK_ENDPOINTS": '{"x": {"base_url": "http://x", "concurrency": "' + CANARY + '"}}'},
        {"BACKTALK_ENDPOINTS": '{"x": "' + CANARY},
        {"BACKTALK_ENDPOINTS": '{"x": "' + CANARY + '"}'},
        {"BACKTALK_ENDPOINTS": f"/no/such/{CANARY}"},
        {"BACKTALK_CONCURRENCY": CANARY},
        {"BACKTALK_LOG_LEVEL": CANARY},
        {"BACKTALK_NAMESPACE": f"{CANARY} with a space"},
        {"BACKTALK_AMQP_URL": f"amqp://me:{CANARY}@x", "BACKTALK_JOB_BUDGET_SECONDS": "9999"},
        {"BACKTALK_AMQP_URL": f"amqp://me:{CANARY}@x?{CANARY}=1"},
        {"BACKTALK_POLICY": '{"batch": "' + CANARY},
        {"BACKTALK_POLICY": '{"batch": "' + CANARY + '"}'},
        {"BACKTALK_ENDPOINTS": '{"x": {"base_url": "http://me:' + CANARY + '@x/v1"}}'},
        {"BACKTALK_ENDPOINTS": '{"x": {"base_url": "http://x/v1?token=' + CANARY + '"}}'},
        {"OPENAI_BASE_URL": f"https://me:{CANARY}@proxy/v1"},
        {"OPENAI_BASE_URL": f"https://proxy/v1#{CANARY}"},
        {"OPENAI_API_KEY": f"{CANARY}\n{CANARY}"},
        {"OPENAI_API_KEY": f"{CANARY}\x7f"},
        {"OPENAI_API_KEY": f"{CANARY}\u2013"},
    ],
    ids=ascii,
)
def test_a_mistake_is_explained_without_the_value(environment, variables):
    """A value in the wrong variable may well be a key."""
    told = mistake(environment, **variables)
    assert CANARY not in told
    assert any(name in told for name in variables)


def test_a_mistake_that_nobody_explains_does_not_hold_the_value_either(environment):
    """A traceback ends up in a log as well."""
    environment.setenv("BACKTALK_AMQP_URL", f"amqp://me:{CANARY}@rabbit/?secret={CANARY}")
    environment.setenv("BACKTALK_ENDPOINTS", '{"x": {"base_url": "' + CANARY + '"}}')
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert CANARY not in f"{caught.value} {caught.value!r}"


def test_an_address_whose_files_cannot_be_read_is_told_at_the_start(environment, tmp_path):
    """By the name of the file: a mount that is missing is the usual mistake."""
    told = mistake(environment, BACKTALK_AMQP_URL=f"amqps://me:{CANARY}@rabbit/?cafile={tmp_path}/ca.pem")
    assert told.startswith("BACKTALK_AMQP_URL: cafile: ")
    assert f"{tmp_path}/ca.pem cannot be read" in told
    assert CANARY not in told


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("amqp://guest:guest@host:5672/vhost", "amqp://guest:***@host:5672/vhost"),
        ("amqp://host", "amqp://host"),
        ("amqp://user@host", "amqp://user:***@host"),
        ("amqp://:secret@host", "amqp://:***@host"),
        ("amqp://u:p@ss@host", "amqp://u:***@host"),
        ("https://host/v1?key=secret#secret", "https://host/v1"),
        ("", ""),
    ],
)
def test_a_url_is_told_without_password_and_query(url, told):
    """Where it is and who asks may be known."""
    assert without_password(url) == told


@pytest.mark.parametrize(
    "url",
    [
        f"user:{CANARY}@host:5672/",
        f"amqp:user:{CANARY}@host",
        f"amqp:/user:{CANARY}@host",
        f"amqp://user:pass/{CANARY}@host",
        f"amqp://user:{CANARY}/x@host",
        f"amqp://user:pass#{CANARY}@host",
    ],
)
def test_a_url_with_a_slip_in_it_is_told_without_password_too(url):
    """A scheme forgotten or a slash not escaped must not bring the password into the log."""
    assert CANARY not in without_password(url)


def test_help_lists_every_setting_with_its_variable():
    """Each has a documented default."""
    rows = table().splitlines()
    assert len(rows) == len(Settings.model_fields)
    assert all(f"BACKTALK_{name.upper()} " in table() for name in Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())


def test_settings_are_frozen(environment):
    """What a worker was told at start holds until it ends."""
    with pytest.raises(ValidationError):
        read(environment).concurrency = 1


def test_the_oldest_brokers_timeout_is_the_one_that_counts():
    """RabbitMQ before 3.12 takes the node's 30 minutes, whatever the queue says."""
    assert module.OLDEST_CONSUMER_TIMEOUT == 1800


@pytest.mark.parametrize(
    "url", ["foo", "http://host/", "amqp://", "amqp://user:canary-77e0#@host/", "amqp://host:port/"]
)
def test_an_address_that_is_none_is_told_at_the_start(url, monkeypatch):
    """With the variable's name, and without the password."""
    monkeypatch.setenv("BACKTALK_AMQP_URL", url)
    with pytest.raises(ValidationError) as caught:
        Settings()
    told = explain(caught.value)
    assert told.startswith("BACKTALK_AMQP_URL: ")
    assert CANARY not in told


def test_a_key_that_is_not_there_is_told_at_the_start(monkeypatch):
    """A worker that would call an endpoint without its key does not start."""
    endpoints = {"local": {"base_url": "http://host/v1", "api_key_env": "NO_SUCH_VARIABLE"}}
    monkeypatch.setenv("BACKTALK_ENDPOINTS", json.dumps(endpoints))
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert "NO_SUCH_VARIABLE" in explain(caught.value)
