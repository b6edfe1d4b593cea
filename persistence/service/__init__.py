"""The HTTP service: an interface for programs under /v1, a console for people under /console, and probes and metrics for machines.

Whoever asks brings a bearer token of a tenant; everything happens in that tenant and in the name of the token. What another tenant has
does not exist here. The service decides nothing: it reads through ``queries`` and writes through the plane's repositories.
"""

from persistence.service.app import create_app

__all__ = ["create_app"]
