"""Logging in to the console: by a token or a one-time code; the cookie names a session, and scripts cannot read it nor other sites send it."""

from typing import Annotated
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from persistence.errors import NotAuthenticated
from persistence.service.access import COOKIE, Caller, identify
from persistence.service.console.rendering import render
from persistence.service.console.sessions import Sessions

router = APIRouter()

_HOME = "/console/"


async def visitor(request: Request) -> Caller:
    """Who looks at a page. Raises NotAuthenticated, which leads to the login."""
    sessions: Sessions = request.app.state.sessions
    caller = await identify(request, sessions.token(request.cookies.get(COOKIE)))
    request.state.caller = caller
    return caller


Visiting = Annotated[Caller, Depends(visitor)]


def is_of_this_site(request: Request) -> bool:
    """Whether a form was sent by a page of this site, as far as the browser says."""
    origin = request.headers.get("origin")
    if origin not in {None, "null"}:
        return urlsplit(origin).netloc == request.headers.get("host")
    return request.headers.get("sec-fetch-site", "same-origin") in {"same-origin", "none"}


def quoted(place: str) -> str:
    return quote(place, safe="")


def sent_to(request: Request, target: str) -> Response:
    """A redirect; for a request of htmx, one that it follows with the whole page."""
    if request.headers.get("hx-request"):
        return Response(status_code=204, headers={"HX-Redirect": target})
    return RedirectResponse(target, 303)


@router.get("/login")
async def show(request: Request, code: str | None = None, next: str = _HOME) -> Response:  # noqa: A002  it is the parameter's name
    """The form; with a code in the link, as `persistence up` prints it, no form is needed, unless somebody is logged in already: a link from
    elsewhere must not change who that is.
    """
    sessions: Sessions = request.app.state.sessions
    if code is not None and sessions.token(request.cookies.get(COOKIE)) is None:
        return await _enter(request, sessions.redeem(code), next)
    return render(request, "login.html", next=_own(next), problem=None, code=code)


@router.post("/login")
async def enter(
    request: Request,
    token: Annotated[str, Form()] = "",
    code: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = _HOME,  # noqa: A002
) -> Response:
    sessions: Sessions = request.app.state.sessions
    return await _enter(request, sessions.redeem(code) if code else token.strip(), next)


@router.post("/logout")
async def leave(request: Request) -> Response:
    sessions: Sessions = request.app.state.sessions
    sessions.end(request.cookies.get(COOKIE))
    response = RedirectResponse("/console/login", 303)
    response.delete_cookie(COOKIE, path="/console")
    return response


async def _enter(request: Request, token: str | None, place: str) -> Response:
    try:
        if token is None:
            raise NotAuthenticated("this link was used already, or is older than ten minutes")
        await identify(request, token)
    except NotAuthenticated as error:
        return render(request, "login.html", status_code=401, next=_own(place), problem=error.message, code=None)
    sessions: Sessions = request.app.state.sessions
    sessions.end(request.cookies.get(COOKIE))
    response = RedirectResponse(_own(place), 303)
    response.set_cookie(
        COOKIE,
        sessions.begin(token),
        path="/console",
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
        max_age=30 * 86_400,
    )
    return response


def _own(place: str) -> str:
    """A page of the console; anything else becomes the first page."""
    return place if place.startswith("/console/") and not place.startswith("/console/login") else _HOME
