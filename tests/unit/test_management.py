"""What the management API is asked, and that nobody else gets to see the password."""

import pytest
from fixtures.management import binding, management, policy

from backtalk.operate.management import Management, NotTold, virtual_host
from backtalk.operate.policies import Policy
from backtalk.transport.topology import Binding

AMQP = "amqp://guest:guest@localhost/"


async def test_bindings_of_exchanges_to_queues_are_told():
    """Those of exchanges to exchanges are none of ours."""
    between = {**binding("a", "k", "b"), "destination_type": "exchange"}
    with management({"bindings/%2F": [binding("jobs", "forward.#", "q"), between]}) as api:
        assert await Management(api.url(), amqp_url=AMQP).bindings() == {Binding("jobs", "forward.#", "q")}


async def test_policies_are_told_with_those_of_operators():
    """Of the virtual host that the AMQP URL names."""
    answers = {
        "policies/shop%2Feu": [policy("a", "^ns", **{"max-length": 5})],
        "operator-policies/shop%2Feu": [policy("b", "x", priority=3)],
    }
    with management(answers) as api:
        asked = await Management(api.url(), amqp_url="amqp://localhost/shop%2Feu").policies()
    assert asked == (
        Policy("a", "^ns", "queues", 0, {"max-length": 5}),
        Policy("b", "x", "queues", 3, {}, operator=True),
    )


@pytest.mark.parametrize(
    ("login", "answer", "told"),
    [
        ("ops:wrong", [], "refused user or password"),
        ("ops:s%40cret", None, "virtual host"),
        ("ops:s%40cret", b"<html>", "no management API"),
    ],
)
async def test_what_goes_wrong_is_told_without_the_password(login, answer, told):
    """And with what to look at."""
    with management({"bindings/%2F": answer}) as api, pytest.raises(NotTold, match=told) as raised:
        await Management(api.url(login), amqp_url=AMQP).bindings()
    assert login.partition(":")[2] not in str(raised.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"[" * 200_000,
        [{"name": "q", "messages_ready": "\x1b[31m"}],
        [{"name": "q", "consumers": [1]}],
        [{"name": ["q"]}],
        [{"name": "q", "messages_details": {}, "message_stats": {"ack_details": {"rate": 10**400}}}],
        b'[{"name": "q", "messages_details": {}, "message_stats": {"ack_details": {"rate": NaN}}}]',
    ],
)
async def test_levels_are_numbers_or_not_told(answer):
    """Whatever somebody else answers in the place of the API."""

    class Any(dict):
        def get(self, _):
            return answer

    with management({}) as api:
        api.answers = Any()
        with pytest.raises(NotTold, match="no management API"):
            await Management(api.url(), amqp_url=AMQP).levels()


async def test_an_api_that_is_not_there_is_told():
    """Nobody waits for it."""
    with management({}) as api:
        url = api.url()
    with pytest.raises(NotTold, match="did not answer"):
        await Management(url, amqp_url=AMQP).bindings()


async def test_the_password_goes_nowhere_else():
    """A redirect is not followed."""
    with management({}) as other, management({}) as api:
        api.elsewhere = f"http://127.0.0.1:{other.port}/api/bindings/%2F"
        with pytest.raises(NotTold, match="302"):
            await Management(api.url(), amqp_url=AMQP).bindings()
        assert other.asked == []


@pytest.mark.parametrize(
    "url", ["localhost:15672", "ftp://h", "http://", "http://h:port", "file:///etc/passwd"]
)
def test_what_is_no_address_of_an_api_is_refused(url):
    """With the form that it should have."""
    with pytest.raises(NotTold, match="should be http://"):
        Management(url, amqp_url=AMQP)


@pytest.mark.parametrize(
    ("url", "vhost"),
    [("amqp://h", "/"), ("amqp://h/", "/"), ("amqp://h/%2F", "/"), ("amqp://h/a%2Fb?heartbeat=5", "a/b")],
)
def test_the_virtual_host_is_that_of_the_amqp_url(url, vhost):
    """As aio-pika reads it."""
    assert virtual_host(url) == vhost
