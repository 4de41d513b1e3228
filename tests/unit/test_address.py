"""The URL of a broker: what it may hold, and that no part of it is told when it is wrong."""

import ssl

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from backtalk.client import BadAddress, TransportError
from backtalk.transport.rabbitmq.address import HEARTBEAT_SECONDS, read_address

CANARY = "canary-51f3"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a folder with an authority, a certificate, its key, and another key."""
    folder = tmp_path_factory.mktemp("certificates")
    ca = trustme.CA()
    issued = ca.issue_cert("worker")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "client.pem")
    issued.private_key_pem.write_to_path(folder / "client.key")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    ca.issue_cert("other").private_key_pem.write_to_path(folder / "other.key")
    (folder / "nothing.pem").write_text("nothing\n")
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (folder / "locked.key").write_bytes(locked)
    return folder


def refusal(url):
    with pytest.raises(BadAddress) as caught:
        read_address(url)
    return str(caught.value)


def secured(files, **names):
    options = "&".join(f"{option}={files / name}" for option, name in names.items())
    return f"amqps://me:{CANARY}@rabbit/jobs?{options}"


@pytest.mark.parametrize(
    "url",
    [
        "amqp://rabbit",
        "amqp://rabbit/",
        "amqp://guest:guest@127.0.0.1:5672/",
        "amqp://me:p%40ss%23@rabbit:5672/team%2Fprod",
        "amqp://me:pw@[::1]:5672//",
    ],
)
def test_a_plain_address_is_taken_as_it_stands(url):
    """Nothing is encrypted that nobody asked to be."""
    address = read_address(url)
    assert (address.url, address.tls, address.heartbeat) == (url, None, HEARTBEAT_SECONDS)


def test_the_heartbeat_is_an_option_and_no_option_stays_in_the_url():
    """What is connected to is the bare address."""
    address = read_address("amqp://me:pw@rabbit:5673/jobs?heartbeat=7")
    assert (address.url, address.heartbeat) == ("amqp://me:pw@rabbit:5673/jobs", 7)


def test_tls_demands_a_certificate_that_fits_the_host(files):
    """Whatever the version of Python has as its default."""
    address = read_address(secured(files, cafile="ca.pem", certfile="client.pem", keyfile="client.key"))
    assert address.url == f"amqps://me:{CANARY}@rabbit/jobs"
    assert (address.tls.verify_mode, address.tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert address.tls.minimum_version == ssl.TLSVersion.TLSv1_2
    assert [one["subject"] for one in address.tls.get_ca_certs()] != []


def test_a_named_authority_is_the_only_one_that_counts(files):
    """The system's hundred authorities have no business with a private broker."""
    assert len(read_address(secured(files, cafile="ca.pem")).tls.get_ca_certs()) == 1


def test_certificate_and_key_may_lie_in_one_file(files):
    """As many tools write them."""
    assert read_address(secured(files, certfile="both.pem")).tls is not None


def test_an_address_is_shown_without_its_password():
    """It may stand in a traceback."""
    assert CANARY not in repr(read_address(f"amqp://me:{CANARY}@rabbit/"))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"cafile": "absent.pem"}, ("cafile: ", "absent.pem cannot be read (No such file or directory)")),
        ({"cafile": "."}, ("cafile: ", "cannot be read (Is a directory)")),
        ({"cafile": "nothing.pem"}, ("cafile: ", "nothing.pem holds no certificate")),
        ({"certfile": "client.pem", "keyfile": "absent.key"}, ("keyfile: ", "absent.key cannot be read")),
        ({"certfile": "client.pem"}, ("client.pem", "the key in it")),
        ({"certfile": "nothing.pem", "keyfile": "client.key"}, ("nothing.pem", "client.key")),
        ({"certfile": "client.pem", "keyfile": "other.key"}, ("client.pem", "other.key")),
        ({"certfile": "client.pem", "keyfile": "locked.key"}, ("locked.key", "without a passphrase")),
        ({"keyfile": "client.key"}, ("keyfile: ", "certfile")),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_the_url_is_not(files, names, told):
    """A missing mount is the usual mistake."""
    said = refusal(secured(files, **names))
    assert all(word in said for word in told)
    assert CANARY not in said


def test_turning_the_check_off_is_refused_with_the_reason():
    """Other clients know the option; here it says what it would do."""
    said = refusal(f"amqps://me:{CANARY}@rabbit/?no_verify_ssl=1")
    assert "would get the password" in said
    assert "cafile" in said


@pytest.mark.parametrize("option", ["cafile", "certfile", "keyfile"])
def test_certificates_for_a_plain_connection_are_refused(files, option):
    """Whoever names them believes in encryption that is not there."""
    assert "amqps://" in refusal(f"amqp://me:{CANARY}@rabbit/?{option}={files}/client.pem")


@pytest.mark.parametrize("value", ["0", "-1", "3601", "1.5", "soon", "²", ""])
def test_a_heartbeat_is_whole_seconds(value):
    """Zero would turn it off, and a broker that is gone would never be missed."""
    refusal(f"amqp://me:{CANARY}@rabbit/?heartbeat={value}")


@pytest.mark.parametrize(
    "url",
    [
        f"amqp://me:{CANARY}@rabbit/?timeout=3",
        f"amqp://me:{CANARY}@rabbit/?{CANARY}",
        f"amqp://me:12?{CANARY}=3@rabbit/",
        f"amqp://me:12?{CANARY}@rabbit/",
        f"amqps://me:{CANARY}@rabbit/?cafile=",
        f"amqps://me:{CANARY}@rabbit/?heartbeat=5&heartbeat=6",
    ],
)
def test_an_option_that_means_nothing_is_refused_and_not_repeated(url):
    """A question mark in a password makes an option of its rest."""
    said = refusal(url)
    assert "%3F" in said
    assert CANARY not in said


@pytest.mark.parametrize(
    "url",
    [
        "",
        "foo",
        f"http://me:{CANARY}@rabbit/",
        "amqp://",
        "amqp:///vhost",
        f"amqp://me:{CANARY}@rabbit:port/",
        f"amqp://me:{CANARY}@rabbit:99999/",
        f"amqp://me:{CANARY}@[::1/",
        f"amqp://me:12#{CANARY}@rabbit/",
        f"amqp://me:{CANARY}@rabbit/#x",
    ],
)
def test_what_is_no_address_is_told_with_the_right_form(url):
    """And without a word of what it was."""
    said = refusal(url)
    assert said.startswith("should be amqp://user:password@host:port/vhost")
    assert CANARY not in said


def test_a_bad_address_is_told_like_any_trouble_with_the_broker():
    """Whoever handles the one handles the other; settings take it for a wrong value."""
    assert issubclass(BadAddress, TransportError)
    assert issubclass(BadAddress, ValueError)
