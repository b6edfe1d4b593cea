"""Sessions of the console, and codes that open one: both kept by this process alone, so that both can be ended.

A cookie holds the name of a session and nothing else. The token behind it is asked about with each page, so a session ends with its token, too.
"""

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

_IDLE_SECONDS: Final = 12 * 3600.0
_LONGEST_SECONDS: Final = 30 * 86_400.0
_CODE_SECONDS: Final = 600.0
_MOST: Final = 10_000


@dataclass(slots=True)
class _Session:
    token: str
    begun: float
    used: float


class Sessions:
    """Who is logged in. A session that nobody uses for twelve hours ends."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._codes: dict[str, tuple[str, float]] = {}

    def begin(self, token: str) -> str:
        """A new session of a token; its name, for the cookie."""
        name, now = secrets.token_urlsafe(32), time.monotonic()
        self._sessions[name] = _Session(token, now, now)
        while len(self._sessions) > _MOST:
            self._sessions.popitem(last=False)
        return name

    def token(self, name: str | None) -> str | None:
        """The token of a session; None when it has ended."""
        session, now = self._sessions.get(name or ""), time.monotonic()
        if session is None:
            return None
        if now - session.used > _IDLE_SECONDS or now - session.begun > _LONGEST_SECONDS:
            self.end(name)
            return None
        session.used = now
        return session.token

    def end(self, name: str | None) -> None:
        """Whoever has the cookie has nothing any more."""
        self._sessions.pop(name or "", None)

    def code(self, token: str) -> str:
        """A code that logs in with a token, once, within ten minutes."""
        now = time.monotonic()
        self._codes = {code: (kept, until) for code, (kept, until) in self._codes.items() if until > now}
        code = secrets.token_urlsafe(24)
        self._codes[code] = token, now + _CODE_SECONDS
        return code

    def redeem(self, code: str) -> str | None:
        """The token of a code; None when it was used, or is too old."""
        token, until = self._codes.pop(code, (None, 0.0))
        return token if until > time.monotonic() else None
