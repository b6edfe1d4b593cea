"""Optimistic concurrency over HTTP: ETag is an aggregate's version, If-Match the version that a change is meant for."""

from typing import Annotated

from fastapi import Header, Response

from persistence.models import AggregateModel
from persistence.service.problems import Refused

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        description='The ETag that was read, such as `"3"`: another version is refused with 412.',
        examples=['"3"'],
    ),
]


def tag(response: Response, item: AggregateModel) -> None:
    """Sets the ETag of what is answered."""
    response.headers["ETag"] = f'"{item.version}"'


def check_match(if_match: str | None, item: AggregateModel) -> None:
    """Raises Refused (412) when the item has another version than the one that is meant; (428) when none is named."""
    if if_match is None:
        raise Refused(428, "say which version is meant", "read it, then send its ETag as If-Match; or If-Match: * for any")
    tags = [part.strip() for part in if_match.split(",")]
    if "*" not in tags and f'"{item.version}"' not in tags:
        raise Refused(412, f"{item.kind} {item.id} is version {item.version}, not {if_match}", "read it again and decide anew")
