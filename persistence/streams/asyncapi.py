"""The protocol of the sockets as an AsyncAPI document (https://www.asyncapi.com/docs/reference/specification/v3.0.0)."""

from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema

from persistence.canon import CANON
from persistence.streams.messages import NOTICES, ORDERS, PROTOCOL

_ABOUT = """
The log of a tenant as it grows, and what is told of it and not kept. Connect with `Authorization: Bearer pp_…`; a browser, which cannot send
headers, offers the protocols `persistence.v1` and `bearer.pp_…`. Close codes: 1001 the service stops, 4401 the token is over, 4408 nothing was
taken for too long.
"""


def document() -> dict[str, Any]:
    """The AsyncAPI 3.0 document."""
    orders = [(order, "validation") for order in ORDERS]
    notices = [(notice, "serialization") for notice in NOTICES]
    named, definitions = models_json_schema(
        [*orders, *notices],  # type: ignore[list-item]
        by_alias=True,
        ref_template="#/components/schemas/{model}",
    )
    schemas = dict(definitions.get("$defs", {}))
    messages = {}
    for (model, _), schema in named.items():
        name = _name(model)
        if "$ref" in schema:
            reference = {"$ref": schema["$ref"]}
        else:
            schemas[name] = schema
            reference = {"$ref": f"#/components/schemas/{name}"}
        messages[name] = {"name": name, "summary": (model.__doc__ or "").split("\n")[0], "payload": reference}
    mine, theirs = [_name(notice) for notice in NOTICES], [_name(order) for order in ORDERS]
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "persistence streams", "version": version("persistence-plane"), "description": _ABOUT.strip()},
        "defaultContentType": "application/json",
        "channels": {
            "streams": {
                "address": "/v1/streams",
                "description": "One socket for any number of channels.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            }
        },
        "operations": {
            "say": {
                "action": "receive",
                "summary": "What a client says.",
                "channel": {"$ref": "#/channels/streams"},
                "messages": [{"$ref": f"#/channels/streams/messages/{name}"} for name in theirs],
            },
            "hear": {
                "action": "send",
                "summary": "What the service says.",
                "channel": {"$ref": "#/channels/streams"},
                "messages": [{"$ref": f"#/channels/streams/messages/{name}"} for name in mine],
            },
        },
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "persistence token issue makes one."}},
        },
        "x-protocol": PROTOCOL,
        "x-channels": {
            name: {"follow": rule.follow, **({} if rule.publish is None else {"publish": rule.publish})}
            for name, rule in CANON.rules.channels.items()
        },
    }


def _name(model: type[Any]) -> str:
    return model.__name__
