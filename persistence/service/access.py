"""Who asks: a bearer token, what it may do, and how often."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, TypedDict
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from limits import RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.requests import HTTPConnection

from persistence.errors import NotAuthenticated
from persistence.models import Bearer, NewSignal, Role, Signal
from persistence.plane import Plane
from persistence.service.problems import Refused
from persistence.service.token_cache import TokenCache
from persistence.transaction import Transaction

COOKIE = "persistence_session"
_SOURCE = "http"
STREAMS_OF_TOKEN = 20
STREAMS_OF_TENANT = 100


class RateLimit:
    """So many requests a second and token, in this process."""

    def __init__(self, per_second: int) -> None:
        self._item = RateLimitItemPerSecond(per_second)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def spend(self, bearer: Bearer) -> None:
        """Raises Refused (429) for one too many."""
        if not self._limiter.hit(self._item, str(bearer.token_id)):
            raise Refused(
                429,
                f"more than {self._item.amount} requests a second with this token",
                "wait a second, then go on",
                {"Retry-After": "1"},
            )


class FailureLimit:
    """So many failed authentications a minute and address, in this process. Tokens that held of late are not held up by it."""

    def __init__(self, per_minute: int) -> None:
        self._item = RateLimitItemPerMinute(per_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def check(self, address: str) -> None:
        """Raises Refused (429) for an address that has failed too often."""
        if not self._limiter.test(self._item, address):
            raise Refused(429, "too many failed authentications from this address", "wait a minute", {"Retry-After": "60"})

    def note(self, address: str) -> None:
        self._limiter.hit(self._item, address)


class Circumstances(TypedDict):
    """Who acts, in whose name, from where."""

    actor: str
    user_id: UUID
    source: str


class Caller:
    """Who asks, and the transactions of theirs."""

    def __init__(self, plane: Plane, bearer: Bearer, recheck: Callable[[], Awaitable[Bearer]]) -> None:
        """recheck: asks whether the token still holds; raises NotAuthenticated."""
        self.plane = plane
        self.bearer = bearer
        self.recheck = recheck

    @property
    def circumstances(self) -> Circumstances:
        """What their events carry."""
        return {"actor": self.bearer.acts_as, "user_id": self.bearer.user_id, "source": _SOURCE}

    def reading(self) -> Transaction:
        """For questions: all that is read is of one moment."""
        return self.plane.snapshot(self.bearer.tenant_id, **self.circumstances)

    async def receive(self, signal: NewSignal) -> Signal:
        [received] = await self.plane.receive(self.bearer.tenant_id, [signal], **self.circumstances)
        return received

    def transaction(self) -> Transaction:
        return self.plane.transaction(self.bearer.tenant_id, **self.circumstances)


def plane_of(request: HTTPConnection) -> Plane:
    plane: Plane = request.app.state.plane
    return plane


async def identify(request: HTTPConnection, text: str | None, *, without_database: bool = False) -> Caller:
    """The caller of a token's text. without_database: even while it is away. Raises NotAuthenticated, Unavailable, or Refused (429)."""
    if not text:
        raise NotAuthenticated("no token was given", hint="send it as: Authorization: Bearer pp_…")
    tokens: TokenCache = request.app.state.token_cache
    failures: FailureLimit = request.app.state.failure_limit
    address = request.client.host if request.client else "?"
    if not tokens.knows(text):
        failures.check(address)
    try:
        bearer = await (tokens.bearer_remembered(text) if without_database else tokens.bearer(text))
    except NotAuthenticated:
        failures.note(address)
        raise
    request.app.state.rate_limit.spend(bearer)
    return Caller(plane_of(request), bearer, partial(tokens.bearer, text))


class Needs(HTTPBearer):
    """A dependency: the caller, who must have at least a role. (One dependency for token and caller: each costs FastAPI as much as all of this.)"""

    def __init__(self, *roles: Role, without_database: bool = False) -> None:
        """roles: any of them will do. without_database: even while it is away."""
        said = "A token of `persistence token issue`: it names its tenant, role and actor."
        super().__init__(auto_error=False, scheme_name="token", description=said)
        self._roles = roles
        self._without_database = without_database

    async def __call__(self, request: Request) -> Caller:  # type: ignore[override]
        credentials = await super().__call__(request)
        found = await identify(request, credentials.credentials if credentials else None, without_database=self._without_database)
        require(found, *self._roles)
        return found


@contextmanager
def streaming(request: Request, caller: Caller) -> Iterator[str | None]:
    """Counts a stream for as long as the block lasts; or says why there is none to be had: so many of a token, and of a tenant, are open."""
    streams: Counter[UUID] = request.app.state.streams
    owners = (caller.bearer.token_id, caller.bearer.tenant_id)
    for owner, most, whose in zip(
        owners, (STREAMS_OF_TOKEN, STREAMS_OF_TENANT), ("with this token", "of this tenant"), strict=True
    ):
        if streams[owner] >= most:
            yield f"{most} streams {whose} are open already"
            return
    streams.update(owners)
    try:
        yield None
    finally:
        streams.subtract(owners)
        for owner in owners:
            if streams[owner] <= 0:
                del streams[owner]


def require(caller: Caller, *roles: Role) -> None:
    """Raises Refused (403) where the token's role covers none of these."""
    if not any(caller.bearer.role.covers(role) for role in roles):
        wanted = " or ".join(roles)
        raise Refused(
            403, f"the token {caller.bearer.name!r} has the role {caller.bearer.role}; this takes {wanted}", "use another token"
        )


Reading = Annotated[Caller, Depends(Needs(Role.READER))]
Operating = Annotated[Caller, Depends(Needs(Role.OPERATOR))]
Administering = Annotated[Caller, Depends(Needs(Role.ADMIN))]
Keeping = Annotated[Caller, Depends(Needs(Role.KEEPER))]
KnowingSecrets = Annotated[Caller, Depends(Needs(Role.ADMIN, Role.KEEPER))]
