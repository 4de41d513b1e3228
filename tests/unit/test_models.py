"""Model clients: an endpoint by name, no secret, and what calls have used."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtalk import get_backward_model_client, set_backward_model_client
from backtalk.autodiff.session import current
from backtalk.models import AsyncOpenAI, ModelClient, OpenAI
from backtalk.models.backward import forget_backward_model_client

USED = {
    "prompt_tokens": 1000,
    "completion_tokens": 1000,
    "total_tokens": 2000,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 7, "accepted_prediction_tokens": 2},
}
KEY = "sk-secret"


@pytest.fixture(autouse=True)
def none_chosen():
    """No test sees the model that another has chosen."""
    forget_backward_model_client()
    yield
    forget_backward_model_client()


def cost(client):
    return client.get_usage()["cost"]["amount"]


# ---- M1, M2: the backward model


def test_m1_a_path_is_an_endpoint_and_a_model():
    """Split at the first slash; models may have slashes of their own."""
    set_backward_model_client("local/meta/llama-3", completion_args={"temperature": 0})
    client = get_backward_model_client()
    assert (client.endpoint, client.model) == ("local", "meta/llama-3")
    assert client.completion_args == {"temperature": 0}


@pytest.mark.parametrize("path", ["gpt-4o", "/gpt-4o", "openai/", "", "/"])
def test_m1_a_path_without_both_is_refused(path):
    """The error shows a right one, and what was chosen before stays."""
    set_backward_model_client("openai/gpt-4o")
    before = get_backward_model_client()
    with pytest.raises(ValueError, match="openai/gpt-4o"):
        set_backward_model_client(path)
    assert get_backward_model_client() is before


def test_m1_choosing_the_same_again_changes_nothing():
    """The count of what was used goes on."""
    set_backward_model_client("openai/gpt-4o", completion_args={"seed": 1})
    before = get_backward_model_client()
    before.spend(USED)
    set_backward_model_client("openai/gpt-4o", completion_args={"seed": 1})
    assert get_backward_model_client() is before
    assert before.get_usage()["calls"] == 1


@pytest.mark.parametrize(
    ("path", "completion_args"),
    [("local/gpt-4o", {"seed": 1}), ("openai/gpt-5", {"seed": 1}), ("openai/gpt-4o", {"seed": 2})],
)
def test_m1_choosing_anything_else_begins_anew(path, completion_args):
    """Endpoint, model and arguments: where one differs, nothing is used up yet."""
    set_backward_model_client("openai/gpt-4o", completion_args={"seed": 1})
    before = get_backward_model_client()
    before.spend(USED)
    set_backward_model_client(path, completion_args=completion_args)
    after = get_backward_model_client()
    assert after is not before
    assert (after.get_usage()["calls"], after.completion_args) == (0, completion_args)


def test_m1_an_endpoint_is_known_to_the_workers_alone():
    """Any name can be chosen; what no worker knows is told by the first backward pass."""
    set_backward_model_client("nobody-knows-it/gpt-4o")
    assert get_backward_model_client().endpoint == "nobody-knows-it"


def test_m2_before_one_is_chosen_there_is_none():
    """The error names the function that chooses one."""
    with pytest.raises(RuntimeError, match="set_backward_model_client"):
        get_backward_model_client()


# ---- M3: no secrets


@pytest.mark.parametrize(
    "secret", ["api_key", "base_url", "organization", "project", "default_headers", "http_client"]
)
@pytest.mark.parametrize(
    "make",
    [
        OpenAI,
        ModelClient,
        lambda **told: set_backward_model_client("openai/gpt-4o", told),
        lambda **told: set_backward_model_client("openai/gpt-4o", completion_args=told),
    ],
    ids=["OpenAI", "ModelClient", "client_args", "completion_args"],
)
def test_m3_keys_and_addresses_are_refused_with_the_remedy(make, secret):
    """The error says where they belong, and does not repeat them."""
    with pytest.raises(TypeError, match=f"{secret}.*OPENAI_API_KEY.*BACKTALK_ENDPOINTS") as refused:
        make(**{secret: KEY})
    assert KEY not in str(refused.value)


def test_m3_a_client_is_a_name_and_needs_neither_key_nor_connection():
    """Nothing is begun when one is made, blocking or not: there is one kind."""
    client = OpenAI(model="gpt-4o", temperature=0.2)
    assert (client.endpoint, client.model, client.completion_args) == (
        "openai",
        "gpt-4o",
        {"temperature": 0.2},
    )
    assert AsyncOpenAI is OpenAI
    assert current()._line is None


def test_other_endpoints_are_named():
    """Each is what the workers call it."""
    client = ModelClient("local", model="llama-3")
    assert repr(client) == "ModelClient('local', model='llama-3')"


# ---- M4: arguments are JSON


@pytest.mark.parametrize(
    ("told", "path"),
    [
        ({"stop": object()}, "completion_args.stop: object"),
        ({"logit_bias": {1: 2}}, "completion_args.logit_bias: key 1 is int"),
        ({"metadata": {"a": [1, {"b": {2}}]}}, "completion_args.metadata.a.1.b: set"),
        ({"response_format": {"type": b"json"}}, "completion_args.response_format.type: bytes"),
    ],
)
def test_m4_what_json_cannot_hold_is_named_by_its_path(told, path):
    """At a client, and at the backward model."""
    with pytest.raises(TypeError, match=path):
        OpenAI(**told)
    with pytest.raises(TypeError, match=path):
        set_backward_model_client("openai/gpt-4o", completion_args=told)


def test_m4_json_is_taken_as_it_is():
    """Nested lists and dicts, null, numbers, and tuples for lists."""
    told = {"a": [1, 2.5, None, True, {"b": "c"}], "stop": ("x", "y")}
    assert OpenAI(**told).completion_args == told


# ---- M5: usage and cost


def test_m5_usage_is_summed_with_its_details():
    """Tokens of every kind, and the number of calls."""
    client = OpenAI(model="gpt-4o")
    client.spend(USED)
    client.spend({**USED, "prompt_tokens_details": {"cached_tokens": 10}, "service": "default", "x": None})
    assert client.get_usage() == {
        "prompt_tokens": 2000,
        "completion_tokens": 2000,
        "total_tokens": 4000,
        "prompt_tokens_details": {"cached_tokens": 10, "audio_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 14, "accepted_prediction_tokens": 4},
        "calls": 2,
        "cost": {"amount": pytest.approx(0.025, rel=0.1), "currency": "USD"},
    }


def test_m5_a_new_client_has_used_nothing():
    """No tokens, no calls, and a cost of 0, which is known."""
    assert OpenAI().get_usage() == {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "calls": 0,
        "cost": {"amount": 0.0, "currency": "USD"},
    }


def test_m5_usage_is_counted_in_every_thread():
    """No call is lost, however many threads there are."""
    client, start = OpenAI(model="gpt-4o"), threading.Barrier(8)

    def spend(_):
        start.wait(10)
        for _ in range(200):
            client.spend(USED)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(spend, range(8)))
    usage = client.get_usage()
    assert (usage["calls"], usage["total_tokens"]) == (1600, 1600 * 2000)
    assert usage["prompt_tokens_details"]["audio_tokens"] == 1600 * 3
    assert usage["cost"]["amount"] == pytest.approx(1600 * 0.0125)


def test_m5_what_is_returned_is_a_copy():
    """Nobody changes the count by changing what was returned."""
    client = OpenAI(model="gpt-4o")
    client.spend(USED)
    client.get_usage()["prompt_tokens_details"]["audio_tokens"] = 99
    assert client.get_usage()["prompt_tokens_details"]["audio_tokens"] == 3


def test_m5_the_price_is_that_of_model_and_endpoint():
    """Of the model that answered, which may be another than was asked for."""
    known, other = OpenAI(model="gpt-4o"), OpenAI(model="gpt-4o")
    known.spend(USED)
    other.spend(USED, model="gpt-4o-mini")
    assert cost(known) == pytest.approx(0.0125)
    assert 0 < cost(other) < cost(known)


@pytest.mark.parametrize(
    ("client", "used"),
    [
        (OpenAI(model="model-of-my-own"), USED),
        (ModelClient("local", model="gpt-4o"), USED),
        (OpenAI(), USED),
        (OpenAI(model="gpt-4o"), {}),
    ],
    ids=["model", "endpoint", "no model", "no tokens"],
)
def test_m5_an_unknown_price_is_null_and_never_0(client, used):
    """Where nobody can tell, nothing is claimed."""
    client.spend(used)
    assert client.get_usage()["cost"] == {"amount": None, "currency": "USD"}


@pytest.mark.parametrize(
    ("odd", "counted"),
    [
        ({"prompt_tokens": "a"}, {"prompt_tokens": 0}),
        ({"completion_tokens": []}, {"completion_tokens": 0}),
        ({"prompt_tokens": True}, {"prompt_tokens": 0}),
        ({"prompt_tokens": {"text": 3}}, {"prompt_tokens": {"text": 3}}),
        ({"prompt_tokens_details": {"cached_tokens": "x"}}, {"prompt_tokens_details": {}}),
        ({"completion_tokens": None}, {"completion_tokens": 0}),
    ],
    ids=["text", "list", "bool", "object", "text in details", "null"],
)
def test_m5_what_is_no_count_is_no_price(odd, counted):
    """Servers write all kinds of things: it is left out of the sum, and what it cost is unknown."""
    client = OpenAI(model="gpt-4o")
    client.spend({**USED, **odd})
    usage = client.get_usage()
    assert {name: usage[name] for name in counted} == counted
    assert (usage["cost"]["amount"], usage["calls"]) == (None, 1)


def test_m5_details_that_are_none_are_left_out():
    """A text in their place: the tokens are counted all the same."""
    client = OpenAI(model="gpt-4o")
    client.spend({**USED, "prompt_tokens_details": "x"})
    usage = client.get_usage()
    assert "prompt_tokens_details" not in usage
    assert usage["prompt_tokens"] == 1000


def test_m5_a_number_may_become_an_object_and_an_object_a_number():
    """From one call to the next, as endpoints differ: the later form begins anew, and nothing breaks."""
    client = OpenAI(model="gpt-4o")
    for used in ({"audio": 3}, {"audio": {"seconds": 2}}, {"audio": {"seconds": 5}}):
        client.spend({**USED, **used})
    assert client.get_usage()["audio"] == {"seconds": 7}
    client.spend({**USED, "audio": 4})
    client.spend({**USED, "audio": 4})
    assert client.get_usage()["audio"] == 8
    assert client.get_usage()["total_tokens"] == 5 * 2000


COUNTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["cached_tokens", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(
    st.lists(
        st.dictionaries(st.sampled_from([*USED, "other"]), COUNTS),
        min_size=1,
        max_size=3,
    )
)
def test_m5_no_usage_breaks_the_count(used):
    """Whatever JSON an endpoint calls its usage."""
    client = OpenAI(model="gpt-4o")
    for one in used:
        client.spend(one)
    assert client.get_usage()["calls"] == len(used)


def test_m5_one_call_of_unknown_price_makes_the_sum_unknown():
    """A sum that leaves something out is no sum; a new count begins with a known one."""
    client = OpenAI(model="gpt-4o")
    client.spend(USED, model="model-of-my-own")
    client.spend(USED)
    assert cost(client) is None
    client.clear_usage()
    client.spend(USED)
    assert cost(client) == pytest.approx(0.0125)


def test_m5_what_made_no_call_costs_nothing():
    """A backward pass of nothing but successes is free, and known to be."""
    client = OpenAI(model="model-of-my-own")
    client.spend({"calls": 0}, calls=0)
    assert (cost(client), client.get_usage()["calls"]) == (0.0, 0)


def test_m5_what_is_read_from_a_cache_costs_less():
    """Details count where the price list knows them."""
    plain, cached = OpenAI(model="gpt-4o"), OpenAI(model="gpt-4o")
    plain.spend(USED)
    cached.spend({**USED, "prompt_tokens_details": {"cached_tokens": 1000}})
    assert cost(cached) < cost(plain)


def test_m5_clearing_begins_anew():
    """Nothing is left, details included."""
    client = OpenAI(model="gpt-4o")
    client.spend(USED)
    client.clear_usage()
    assert client.get_usage() == OpenAI().get_usage()


def test_m5_a_deep_copy_keeps_the_usage_and_goes_its_own_way():
    """Counts and arguments of the copy are its own, in both directions."""
    client = OpenAI(model="gpt-4o", metadata={"a": 1})
    client.spend(USED)
    copied = copy.deepcopy(client)
    assert copied.get_usage() == client.get_usage()
    copied.spend(USED)
    copied.completion_args["metadata"]["a"] = 2
    assert (client.get_usage()["calls"], copied.get_usage()["calls"]) == (1, 2)
    assert client.completion_args == {"metadata": {"a": 1}}


def test_m5_a_deep_copy_of_the_backward_model_is_one_as_well():
    """With the model that it names."""
    set_backward_model_client("openai/gpt-4o")
    copied = copy.deepcopy(get_backward_model_client())
    assert (type(copied).__name__, copied.model) == ("BackwardModelClient", "gpt-4o")
