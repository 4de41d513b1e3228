"""Secrets in files: where they are looked for, that the environment wins, and that they are never told."""

import json
import os

import pytest
from pydantic import ValidationError

from backtalk.runtime.settings import Settings
from backtalk.runtime.settings_told import explain

CANARY = "canary-1d20"
URL = f"amqp://me:{CANARY}@rabbit/"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Give each test an environment in which nothing of ours is set."""
    for name in list(os.environ):
        if name.startswith(("BACKTALK_", "OPENAI_")):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def secrets(environment, tmp_path):
    """Return the folder in which secrets are looked for."""
    environment.setenv("BACKTALK_SECRETS_DIR", str(tmp_path))
    return tmp_path


def mistake():
    with pytest.raises(ValidationError) as caught:
        Settings()
    told = explain(caught.value)
    assert CANARY not in told
    return told


@pytest.mark.parametrize("name", ["backtalk_amqp_url", "BACKTALK_AMQP_URL"])
def test_a_setting_is_read_from_the_file_of_its_name(secrets, name):
    """In lower case, as secrets are named, or as the variable is written; white space around it is none of it."""
    (secrets / name).write_text(f"\n {URL}\n")
    assert Settings().amqp_url.get_secret_value() == URL


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("backtalk_result_store", "redis://:pw@redis", lambda told: told.result_store.get_secret_value()),
        (
            "backtalk_endpoints",
            '{"x": {"base_url": "http://x/v1"}}',
            lambda told: told.endpoints["x"].base_url,
        ),
        ("backtalk_policy", '{"max_calls": 7}', lambda told: told.policy.max_calls),
        ("backtalk_concurrency", "7", lambda told: told.concurrency),
    ],
)
def test_every_setting_may_stand_in_a_file(secrets, file, text, found):
    """There is no list of those that are secret enough."""
    (secrets / file).write_text(text)
    assert str(found(Settings())) in text


def test_the_environment_wins_over_a_file(secrets, environment):
    """One may try another value without taking the secret away."""
    (secrets / "backtalk_amqp_url").write_text("amqp://file/")
    environment.setenv("BACKTALK_AMQP_URL", "amqp://environment/")
    assert Settings().amqp_url.get_secret_value() == "amqp://environment/"


@pytest.mark.parametrize("empty", ["", " \n"])
def test_an_empty_file_says_nothing(secrets, empty):
    """As an empty variable says nothing."""
    (secrets / "backtalk_concurrency").write_text(empty)
    assert Settings().concurrency == 64


def test_a_folder_that_is_not_there_says_nothing(environment, tmp_path):
    """Most machines have none."""
    environment.setenv("BACKTALK_SECRETS_DIR", str(tmp_path / "absent"))
    assert Settings().concurrency == 64


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(secrets, content):
    """A folder stands there where something was to be mounted that is missing."""
    path = secrets / "backtalk_amqp_url"
    path.mkdir() if content is None else path.write_bytes(content)
    told = mistake()
    assert told.startswith("BACKTALK_AMQP_URL: ")
    assert str(path) in told


def test_a_wrong_value_in_a_file_is_told_by_its_variable(secrets):
    """And without the value, as ever."""
    (secrets / "backtalk_amqp_url").write_text(f"amqp:{CANARY}")
    assert mistake().startswith("BACKTALK_AMQP_URL: should be amqp://")


# ---- keys


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "openai_api_key"])
def test_the_default_key_may_stand_in_a_file(secrets, name):
    """Under the name of its variable."""
    (secrets / name).write_text(f"{CANARY}\n")
    settings = Settings()
    assert settings.named_endpoints()["openai"].api_key == CANARY
    assert settings.describe()["endpoints"]["openai"]["key"] is True
    assert CANARY not in f"{settings!r} {settings.describe()}"


def endpoint(environment):
    environment.setenv(
        "BACKTALK_ENDPOINTS", json.dumps({"local": {"base_url": "http://x/v1", "api_key_env": "LOCAL_KEY"}})
    )


def test_the_key_of_a_named_endpoint_may_stand_in_a_file(secrets, environment):
    """Its name is that of the variable it would be in."""
    endpoint(environment)
    (secrets / "local_key").write_text(CANARY)
    assert Settings().named_endpoints()["local"].api_key == CANARY


def test_a_key_in_the_environment_wins_and_is_stripped(secrets, environment):
    """A line break at the end is what `export KEY="$(cat file)"` is spared and other ways are not."""
    endpoint(environment)
    (secrets / "local_key").write_text("from a file")
    environment.setenv("LOCAL_KEY", f" {CANARY}\r\n")
    assert Settings().named_endpoints()["local"].api_key == CANARY


def test_an_endpoint_may_be_told_to_go_without_a_key(secrets, environment):
    """By a variable that is there and empty."""
    endpoint(environment)
    environment.setenv("LOCAL_KEY", "")
    assert Settings().named_endpoints()["local"].api_key == ""


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_key_that_is_nowhere_is_told_with_both_places(secrets, environment, content):
    """A file that is empty holds no key."""
    endpoint(environment)
    if content is not None:
        (secrets / "local_key").write_text(content)
    told = mistake()
    assert "LOCAL_KEY" in told
    assert str(secrets) in told


@pytest.mark.parametrize("bad", ["\n", "\r\n", "\t", "\x00", "\x7f", "\xa0", "ü", "\u200b", "“"])
@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "LOCAL_KEY"])
def test_a_key_that_no_header_can_hold_is_refused_at_the_start(secrets, environment, bad, variable):
    """Rather than at every call; the variable is named, the key is not."""
    endpoint(environment)
    (secrets / "openai_api_key").write_text("good")
    (secrets / "local_key").write_text("good")
    (secrets / variable.lower()).write_text(f"{CANARY}{bad}{CANARY}", encoding="utf-8", newline="")
    assert f"{variable}: the key has line breaks" in mistake()
