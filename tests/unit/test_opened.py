"""The identity of a delivery, known before a byte of its body is parsed."""

import gzip

import pytest

from backtalk.runtime.opened import identify
from backtalk.transport.envelope import Delivery, Envelope
from backtalk.wire.identity import request_id, work_key


async def ack():
    return True


def opened(body=b"{}", **properties):
    return identify(Delivery(Envelope(body, **properties), queue="q", redelivered=False, ack=ack))


def test_a_named_delivery_keeps_its_name():
    """The message id is the job id."""
    one = opened(message_id="mine")
    assert (one.id, one.key) == ("mine", work_key("mine", b"{}"))


def test_an_unnamed_delivery_is_named_after_what_it_is():
    """Body, address and correlation tell it from others."""
    one = opened(reply_to="r", correlation_id="c")
    assert one.id == request_id(None, b"{}", "r", "c")


def test_the_same_job_compressed_is_the_same_work():
    """The key is of the uncompressed body, so that a sender may compress a repeat."""
    plain, packed = (
        opened(b"{}", message_id="1"),
        opened(gzip.compress(b"{}"), message_id="1", content_encoding="gzip"),
    )
    assert plain.key == packed.key


def test_the_same_id_with_another_body_is_other_work():
    """A sender who reuses an id means another job."""
    assert opened(b"{}", message_id="1").key != opened(b"{ }", message_id="1").key


def test_a_body_need_not_be_json_to_have_an_identity():
    """Who crashed a worker is known without looking inside."""
    assert opened(b"\xff\0junk").id == request_id(None, b"\xff\0junk", None, None)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"junk", "gzip"),
        (b"{}", "br"),
        (gzip.compress(b"\0" * (64 * 1024 * 1024 + 1), 1), "gzip"),
    ],
    ids=["not gzip", "unknown", "bomb"],
)
def test_a_body_that_cannot_be_unpacked_is_nobody_elses_work(body, encoding):
    """It has an id to be answered under, but does not pass for the same bytes sent as they are."""
    one = opened(body, content_encoding=encoding)
    assert one.id == request_id(None, body, None, None)
    assert one.key != opened(body, message_id=one.id).key
