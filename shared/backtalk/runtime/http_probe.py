"""What an endpoint says to the worker's key, asked by requests that cost next to nothing."""

from __future__ import annotations

from typing import Final

import aiohttp
import httpx2
from pydantic_core import to_json

_SECONDS: Final = 10.0
_NO_ANSWER: Final = 0


class HttpProbe:
    """Asks the server under a base URL, with the headers of its calls; a status of 0 means that it did not answer."""

    def __init__(self, http: httpx2.AsyncClient, base_url: str, headers: httpx2.Headers) -> None:
        self._http = http
        self._base_url = base_url
        self._headers = headers

    async def listing(self, *, keyed: bool) -> int:
        """Return the status of its list of models, with the worker's key or without."""
        headers = self._headers.copy()
        if not keyed:
            del headers["authorization"]
        return await self._status(httpx2.Request("GET", f"{self._base_url}models", headers=headers))

    async def trial(self, model: str) -> int:
        """Return the status of the smallest completion there is."""
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        url = f"{self._base_url}chat/completions"
        return await self._status(httpx2.Request("POST", url, headers=self._headers, content=to_json(body)))

    async def _status(self, request: httpx2.Request) -> int:
        request.extensions["timeout"] = httpx2.Timeout(_SECONDS).as_dict()
        try:
            # whatever the body is, nobody reads it
            response = await self._http.send(request, stream=True)
            await response.aclose()
        except (httpx2.HTTPError, aiohttp.ClientError, OSError):
            return _NO_ANSWER
        return response.status_code
