"""What is said over a socket, in both directions: JSON objects, one a text message. The protocol is ``persistence.v1``."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from persistence.errors import InvalidInput
from persistence.models import Event, Json, LiveMessage

PROTOCOL: Final = "persistence.v1"
LONGEST_ORDER: Final = 64 * 1024
"""Bytes of a message from a client."""

_Channel = Annotated[str, Field(min_length=1, max_length=300, examples=["events", "run:01890a5d-ac96-774b-bcce-b302099a8057"])]
_Position = Annotated[str, Field(min_length=1, max_length=100, examples=["0-1234-5678"])]
_Id = Annotated[str | int | None, Field(description="Said again in the answer.")]


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    id: _Id = None


class Subscribe(_Order):
    """Follow a channel. after: only what comes behind this position, as it was told before; none: what comes from now on. consumer: a name under
    which the service keeps how far you are, and where you go on when you come back; then ``after`` is where a new one begins; none: at the
    beginning of the log. Takes the role operator.
    """

    do: Literal["subscribe"]
    channel: _Channel
    after: _Position | None = None
    consumer: Annotated[str, Field(min_length=1, max_length=200, pattern="^[A-Za-z0-9][A-Za-z0-9._@-]*$")] | None = None


class Unsubscribe(_Order):
    """Follow it no longer."""

    do: Literal["unsubscribe"]
    channel: _Channel


class Publish(_Order):
    """Tell those who follow a channel that is not of the log. content: at most 16 KiB."""

    do: Literal["publish"]
    channel: _Channel
    content: Json


class Ack(_Order):
    """All up to a position is dealt with by a consumer that this socket follows as."""

    do: Literal["ack"]
    consumer: Annotated[str, Field(min_length=1, max_length=200)]
    position: _Position


class Renew(_Order):
    """Go on with another token, of the same tenant, before this one ends."""

    do: Literal["renew"]
    token: Annotated[str, Field(min_length=1, max_length=1000)]


class Ping(_Order):
    """Answered by a pong."""

    do: Literal["ping"]


Order: TypeAlias = Subscribe | Unsubscribe | Publish | Ack | Renew | Ping
ORDERS: Final[tuple[type[_Order], ...]] = (Subscribe, Unsubscribe, Publish, Ack, Renew, Ping)
_ORDER: Final[TypeAdapter[Order]] = TypeAdapter(Annotated[Order, Field(discriminator="do")])


class Notice(BaseModel):
    """What the service says. ``is`` says which it is."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    def text(self) -> str:
        """As it is sent: without what is not there."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


def _is(name: str) -> Any:
    return Field(default=name, alias="is")


class Welcome(Notice):
    """You are in. tenant: whose; acts_as: as whom."""

    is_: Literal["welcome"] = _is("welcome")
    tenant: UUID
    acts_as: str


class Subscribed(Notice):
    """From this position on you are told the channel."""

    is_: Literal["subscribed"] = _is("subscribed")
    channel: str
    position: str
    consumer: str | None = None
    id: _Id = None


class Unsubscribed(Notice):
    """You are told no more of it."""

    is_: Literal["unsubscribed"] = _is("unsubscribed")
    channel: str
    id: _Id = None


class EventNotice(Notice):
    """An event of the log; position: behind it."""

    is_: Literal["event"] = _is("event")
    channel: str
    position: str
    event: Event


class MessageNotice(Notice):
    """Something that is told and not kept."""

    is_: Literal["message"] = _is("message")
    channel: str
    position: str
    message: LiveMessage


class ConsumerCount(BaseModel):
    """behind: events that a consumer has not dealt with, up to 10,000; since: when the first of them was recorded."""

    name: str
    behind: int
    since: datetime | None


class Metrics(BaseModel):
    """events: by type, within the ``seconds`` before; runs: by status; counted up to 10,000."""

    at: datetime
    seconds: float
    events: dict[str, int]
    events_a_second: float
    runs: dict[str, int]
    consumers: list[ConsumerCount]


class MetricsNotice(Notice):
    """How the tenant is doing."""

    is_: Literal["metrics"] = _is("metrics")
    channel: str
    position: str
    metrics: Metrics


class Lagging(Notice):
    """You were too slow: until ``caught_up`` you are told from where it is kept."""

    is_: Literal["lagging"] = _is("lagging")
    channel: str
    position: str


class CaughtUp(Notice):
    """You have all there was, and are told as it comes."""

    is_: Literal["caught_up"] = _is("caught_up")
    channel: str
    position: str


class EpochNotice(Notice):
    """The log was restored since your position: what you were told behind it may never have been, as far as this log goes. Now comes what it has."""

    is_: Literal["epoch"] = _is("epoch")
    channel: str
    position: str


class Missed(Notice):
    """Something was told since your position that is gone."""

    is_: Literal["missed"] = _is("missed")
    channel: str
    position: str


class TakenOver(Notice):
    """Somebody else follows as this consumer by now: you are told no more of it."""

    is_: Literal["taken_over"] = _is("taken_over")
    channel: str
    consumer: str
    id: _Id = None


class Published(Notice):
    """It was told; position: behind it."""

    is_: Literal["published"] = _is("published")
    channel: str
    position: str
    id: _Id = None


class Acked(Notice):
    """The service keeps that you are there."""

    is_: Literal["acked"] = _is("acked")
    consumer: str
    position: str
    id: _Id = None


class Renewed(Notice):
    """You go on with the other token. until: when it ends."""

    is_: Literal["renewed"] = _is("renewed")
    until: datetime | None = None
    id: _Id = None


class Pong(Notice):
    """The answer to a ping."""

    is_: Literal["pong"] = _is("pong")
    id: _Id = None


class Beat(Notice):
    """Nothing was said for fifteen seconds; the connection lives."""

    is_: Literal["beat"] = _is("beat")


class ErrorNotice(Notice):
    """What you asked for was refused, and nothing of it done. status: as HTTP has it."""

    is_: Literal["error"] = _is("error")
    status: int
    detail: str
    hint: str | None = None
    field: str | None = None
    channel: str | None = None
    id: _Id = None


NOTICES: Final[tuple[type[Notice], ...]] = (
    Welcome,
    Subscribed,
    Unsubscribed,
    EventNotice,
    MessageNotice,
    MetricsNotice,
    Lagging,
    CaughtUp,
    EpochNotice,
    Missed,
    TakenOver,
    Published,
    Acked,
    Renewed,
    Pong,
    Beat,
    ErrorNotice,
)


def read_order(text: str) -> Order:
    """What a client asks for. Raises InvalidInput, which names the field."""
    if len(text) > LONGEST_ORDER:
        raise InvalidInput(f"the message has more than {LONGEST_ORDER} characters", hint="say less at a time")
    try:
        return _ORDER.validate_json(text)
    except ValidationError as error:
        found = error.errors(include_input=False, include_context=False, include_url=False)[0]
        names = [str(part) for part in found["loc"]]
        field = ".".join(names[1:]) if names and names[0] in _DOES else ".".join(names)
        if found["type"] in {"union_tag_invalid", "union_tag_not_found"}:
            raise InvalidInput("do: is none of what can be asked for", hint=", ".join(_DOES), field="do") from None
        if not field:
            raise InvalidInput("the message is no JSON object", hint='{"do": "subscribe", "channel": "events"}') from None
        raise InvalidInput(f"{field}: {found['msg']}", hint="/v1/streams/asyncapi.json says what is sent", field=field) from None


_DOES: Final = tuple(str(order.model_fields["do"].annotation.__args__[0]) for order in ORDERS)  # type: ignore[union-attr]
