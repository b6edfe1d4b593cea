"""The console: what happened, why, who, and what to do now, for people with a browser.

Pages are made on the server; htmx refreshes parts of them, uPlot draws. Everything it needs is in this folder, so it works offline, and
under a policy that lets the browser load nothing from elsewhere and run nothing inline.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.datastructures import State
from starlette.staticfiles import StaticFiles

from persistence.errors import NotAuthenticated, PersistenceError, TenantDenied
from persistence.service.console import files, letters, memories, pages, session, streams
from persistence.service.console.rendering import render
from persistence.service.problems import Refused, status_of

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def console(state: State) -> FastAPI:
    """The console of the service, to be mounted. state: the service's."""
    app = FastAPI(title="persistence console", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state = state
    app.include_router(session.router)
    app.include_router(pages.router)
    app.include_router(letters.router)
    app.include_router(memories.router)
    app.include_router(streams.router)
    app.include_router(files.router)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")

    @app.middleware("http")
    async def guarded(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.method == "POST" and not session.is_of_this_site(request):
            return Response("this form was sent from another site", 403, media_type="text/plain")
        response = await answer(request)
        response.headers.update(_HEADERS)
        if not request.url.path.startswith("/console/static/"):
            response.headers["Cache-Control"] = "no-store"
        return response

    async def refused(request: Request, error: Exception) -> Response:
        if isinstance(error, NotAuthenticated | TenantDenied):
            if request.url.path == "/console/live":
                return Response(status_code=401)
            place = f"{request.url.path}?{request.url.query}" if request.method == "GET" else "/console/"
            target = f"/console/login?next={session.quoted(place)}"
            return session.sent_to(request, target)
        if isinstance(error, RequestValidationError):
            return render(request, "problem.html", status_code=422, detail="This page does not exist in this form.", hint=None)
        if isinstance(error, Refused):
            return render(request, "problem.html", status_code=error.status, detail=error.detail, hint=error.hint)
        assert isinstance(error, PersistenceError)
        return render(request, "problem.html", status_code=status_of(error), detail=error.message, hint=error.hint)

    for kind in (PersistenceError, Refused, RequestValidationError):
        app.add_exception_handler(kind, refused)

    @app.exception_handler(404)
    async def nowhere(request: Request, _: Exception) -> Response:
        return render(request, "problem.html", status_code=404, detail="There is no such page.", hint=None)

    return app
