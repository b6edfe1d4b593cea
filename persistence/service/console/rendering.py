"""Templates, and how values look in them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from persistence.encoding import encode
from persistence.models import Role
from persistence.queries.words import clock, duration, tone

NONE = "(none)"
"""In the address of a page: without any."""


def render(request: Request, template: str, *, status_code: int = 200, **values: Any) -> HTMLResponse:
    """A page. What every page knows: the path, and who looks at it."""
    caller = getattr(request.state, "caller", None)
    text = _environment.get_template(template).render(
        path=request.url.path, bearer=caller.bearer if caller else None, Role=Role, **values
    )
    return HTMLResponse(text, status_code)


def pretty(value: Any) -> str:
    """JSON for people."""
    return orjson.dumps(orjson.loads(encode(value)), option=orjson.OPT_INDENT_2).decode()


def with_query(path: str, values: Mapping[str, Any], **changes: Any) -> str:
    """A link: these parameters, some changed; what is empty is left out."""
    given = {name: value for name, value in {**values, **changes}.items() if value not in {None, ""}}
    return f"{path}?{urlencode(given)}" if given else path


_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {"tone": tone, "moment": clock, "duration": duration, "pretty": pretty}
_environment.globals |= {"with_query": with_query, "NONE": NONE}
