"""Every operation of /v1 refuses query parameters that it does not know."""

from fastapi.routing import APIRoute

from persistence.service import data, dead_letters, effects, events, health, runs, signals, state, tokens
from persistence.service.parameters import StrictRoute


def test_every_route_is_strict() -> None:
    for part in (data, dead_letters, effects, events, health, runs, signals, state, tokens):
        routes = [route for route in part.router.routes if isinstance(route, APIRoute)]
        assert routes
        assert all(isinstance(route, StrictRoute) for route in routes), part.__name__
