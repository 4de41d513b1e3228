"""An OpenAI-compatible endpoint of fixed latency, never the bottleneck: it reads lengths and nothing else."""

import argparse
import asyncio
import json
import os
import re
from typing import cast

import uvloop

LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
HEAD_END = b"\r\n\r\n"
SENTENCE = (
    "The reply names the order and offers a refund, but it is longer than asked and leaves the date out. "
)


def completion() -> bytes:
    """A chat completion of about 1.1 KB."""
    body = {
        "id": "chatcmpl-0123456789abcdefghijklmnopqrs",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "fixed-latency",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": SENTENCE * 7, "refusal": None},
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


ANSWER = http_response(b"200 OK", completion())
NO_LENGTH = http_response(b"411 Length Required", b'{"error": {"message": "send a content-length"}}')


class Connection(asyncio.Protocol):
    """One keep-alive connection; a client sends its next request when it has the answer to the last."""

    def __init__(self, latency: float) -> None:
        self.latency = latency
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
            self.received = self.received[self.needed :]
            self.needed = 0
            self.answer_later()

    def request_size(self) -> int:
        head = self.received.find(HEAD_END)
        if head < 0:
            return 0
        length = LENGTH.search(self.received, 0, head)
        if length is None:
            self.transport.write(NO_LENGTH)
            self.transport.close()
            return 0
        return head + len(HEAD_END) + int(length[1])

    def answer_later(self) -> None:
        if self.latency > 0:
            self.loop.call_later(self.latency, self.answer)
        else:
            self.answer()

    def answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(ANSWER)


async def serve(port: int, latency: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(latency), "127.0.0.1", port, backlog=4096)
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
