"""What stores share that are asked by HTTP."""

from typing import Any, Final

import httpx2

from persistence.stores.memory.vectors import StoreFailed

_TIMEOUT: Final = 30.0
_SAID: Final = 300


class HttpStore:
    """A store's address, and how it is asked."""

    def __init__(self, name: str, url: str, headers: dict[str, str]) -> None:
        self._name = name
        # fit: allow outside_call because what asks for vectors that are kept is an effect
        self._client = httpx2.AsyncClient(base_url=url, headers=headers, timeout=_TIMEOUT)

    async def ask(self, method: str, path: str, *, missing: Any = None, may_miss: bool = False, **request: Any) -> Any:
        """The JSON that it answers; ``missing`` for 404 where that may be. Raises StoreFailed."""
        try:
            answer = await self._client.request(method, path, **request)
        except httpx2.HTTPError as error:
            raise StoreFailed(f"{self._name}: {type(error).__name__}: {error}") from error
        if may_miss and answer.status_code == 404:
            return missing
        if not answer.is_success:
            raise StoreFailed(f"{self._name}: {method} {path} was answered {answer.status_code}: {answer.text[:_SAID]}")
        return answer.json() if answer.content else None

    async def close(self) -> None:
        await self._client.aclose()
