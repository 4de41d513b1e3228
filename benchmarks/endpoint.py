"""An OpenAI-compatible endpoint of fixed latency, never the bottleneck: it reads lengths, and the end of a question.

Whoever asks for a JSON object with numbered keys gets one; a GET is told how many calls there were so far.
"""

import argparse
import asyncio
import json
import os
import re
from dataclasses import dataclass
from functools import cache
from typing import cast

import uvloop

LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
# the words that end a question about several texts, and the numbers of those texts
NUMBERED = b"Its keys are "
NUMBER = re.compile(rb'\\"(\d+)\\"')
TAIL = 8192
HEAD_END = b"\r\n\r\n"
SENTENCE = (
    "The reply names the order and offers a refund, but it is longer than asked and leaves the date out. "
)


def completion(content: str) -> bytes:
    body = {
        "id": "chatcmpl-0123456789abcdefghijklmnopqrs",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "fixed-latency",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 412, "completion_tokens": 154, "total_tokens": 566},
        "system_fingerprint": "fp_0123456789",
    }
    return json.dumps(body).encode()


def http_response(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (
        status,
        len(body),
    )
    return head + body


# about 1.1 KB
ANSWER = http_response(b"200 OK", completion(SENTENCE * 7))
NO_LENGTH = http_response(b"411 Length Required", b'{"error": {"message": "send a content-length"}}')


@cache
def numbered(count: int) -> bytes:
    """The answer to a question about so many texts."""
    said = {str(number): SENTENCE * 7 for number in range(1, count + 1)}
    return http_response(b"200 OK", completion(json.dumps(said)))


def answer_to(request: bytes) -> bytes:
    tail = request.find(NUMBERED, max(0, len(request) - TAIL))
    return ANSWER if tail < 0 else numbered(len(NUMBER.findall(request, tail)))


@dataclass
class Calls:
    """How many calls there were, over all connections."""

    count: int = 0

    def told(self) -> bytes:
        return http_response(b"200 OK", b'{"calls": %d}' % self.count)


class Connection(asyncio.Protocol):
    """One keep-alive connection; a client sends its next request when it has the answer to the last."""

    def __init__(self, latency: float, calls: Calls) -> None:
        self.latency = latency
        self.calls = calls
        self.received = b""
        self.needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # not an isinstance check: uvloop's transports derive from nothing of asyncio
        self.transport = cast("asyncio.Transport", transport)
        self.loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.needed:
            self.needed = self.request_size()
        if self.needed and len(self.received) >= self.needed:
            request, self.received = self.received[: self.needed], self.received[self.needed :]
            self.needed = 0
            self.calls.count += 1
            self.answer_later(answer_to(request))

    def request_size(self) -> int:
        head = self.received.find(HEAD_END)
        if head < 0:
            return 0
        if self.received.startswith(b"GET "):
            self.received = self.received[head + len(HEAD_END) :]
            self.answer(self.calls.told())
            return 0
        length = LENGTH.search(self.received, 0, head)
        if length is None:
            self.transport.write(NO_LENGTH)
            self.transport.close()
            return 0
        return head + len(HEAD_END) + int(length[1])

    def answer_later(self, answer: bytes) -> None:
        if self.latency > 0:
            self.loop.call_later(self.latency, self.answer, answer)
        else:
            self.answer(answer)

    def answer(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)


async def serve(port: int, latency: float) -> None:
    loop = asyncio.get_running_loop()
    calls = Calls()
    server = await loop.create_server(lambda: Connection(latency, calls), "127.0.0.1", port, backlog=4096)
    bound = server.sockets[0].getsockname()[1]
    print(f"ready http://127.0.0.1:{bound}/v1", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; the ready line names it")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds from request to answer")
    arguments = parser.parse_args()
    try:
        uvloop.run(serve(arguments.port, arguments.latency))
    except KeyboardInterrupt:
        os._exit(130)


if __name__ == "__main__":
    main()
