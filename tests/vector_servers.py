"""Stand-ins for stores whose servers cannot be had here: they answer as the interfaces of Weaviate and Pinecone are documented to."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import sqrt
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Row = dict[str, Any]


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (sqrt(sum(x * x for x in a)) * sqrt(sum(y * y for y in b)))


def weaviate() -> Starlette:
    """https://docs.weaviate.io/weaviate/api/rest and /graphql."""
    classes: dict[str, dict[str, Row]] = {}

    async def shape(request: Request) -> Response:
        if request.method == "POST":
            asked = await request.json()
            if asked["class"] in classes:
                return JSONResponse({"error": [{"message": "class name already exists"}]}, 422)
            classes[asked["class"]] = {}
            return JSONResponse(asked)
        name = request.path_params["name"]
        if name not in classes:
            return Response(status_code=404)
        if request.method == "DELETE":
            del classes[name]
        return JSONResponse({"class": name})

    async def batch(request: Request) -> Response:
        answers = []
        for one in (await request.json())["objects"]:
            known = one["class"] in classes and len(one["vector"]) > 0
            result = {"status": "SUCCESS"} if known else {"status": "FAILED", "errors": {"error": [{"message": "no such class"}]}}
            if known:
                classes[one["class"]][one["id"]] = one
            answers.append({**one, "result": result})
        return JSONResponse(answers)

    async def drop(request: Request) -> Response:
        there = classes.get(request.path_params["name"], {}).pop(request.path_params["id"], None)
        return Response(status_code=404 if there is None else 204)

    async def listing(request: Request) -> Response:
        rows = sorted(classes[request.query_params["class"]].values(), key=lambda row: row["id"])
        after = request.query_params.get("after", "")
        return JSONResponse({"objects": [row for row in rows if row["id"] > after][: int(request.query_params["limit"])]})

    async def graphql(request: Request) -> Response:
        query = (await request.json())["query"]
        name = re.search(r"Get \{ (\w+)\(", query)[1]  # type: ignore[index]
        limit = int(re.search(r"limit: (\d+)", query)[1])  # type: ignore[index]
        rows = list(classes[name].values())
        if ids := re.search(r"valueTextArray: \[(.*?)\]", query):
            rows = [row for row in rows if row["id"] in re.findall(r'"(.*?)"', ids[1])]
        for field, value in re.findall(r'path: \["(\w+)"\], operator: Equal, valueText: ("(?:[^"\\]|\\.)*")', query):
            rows = [row for row in rows if row["properties"][field] == json.loads(value)]
        if vector := re.search(r"vector: \[(.*?)\]", query):
            wanted = [float(number) for number in vector[1].split(",")]
            rows.sort(key=lambda row: -cosine(row["vector"], wanted))
            found = [{"_additional": {"id": row["id"], "distance": 1 - cosine(row["vector"], wanted)}} for row in rows]
        else:
            found = [{"digest": row["properties"]["digest"], "_additional": {"id": row["id"]}} for row in rows]
        return JSONResponse({"data": {"Get": {name: found[:limit]}}})

    return Starlette(
        routes=[
            Route("/v1/schema", shape, methods=["POST"]),
            Route("/v1/schema/{name}", shape, methods=["GET", "DELETE"]),
            Route("/v1/batch/objects", batch, methods=["POST"]),
            Route("/v1/objects/{name}/{id}", drop, methods=["DELETE"]),
            Route("/v1/objects", listing),
            Route("/v1/graphql", graphql, methods=["POST"]),
        ]
    )


def pinecone(key: str) -> Starlette:
    """https://docs.pinecone.io/reference/api/2025-04/data-plane."""
    spaces: dict[str, dict[str, Row]] = {}

    def guarded(answer: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def guard(request: Request) -> Response:
            if request.headers.get("api-key") != key:
                return JSONResponse({"code": 16, "message": "Unauthenticated"}, 401)
            answered: Response = await answer(request)
            return answered

        return guard

    async def upsert(request: Request) -> Response:
        asked = await request.json()
        spaces.setdefault(asked["namespace"], {}).update({one["id"]: one for one in asked["vectors"]})
        return JSONResponse({"upsertedCount": len(asked["vectors"])})

    async def delete(request: Request) -> Response:
        asked = await request.json()
        if asked["namespace"] not in spaces:
            return JSONResponse({"code": 5, "message": "Namespace not found"}, 404)
        if asked.get("deleteAll"):
            del spaces[asked["namespace"]]
        for one in asked.get("ids", ()):
            spaces[asked["namespace"]].pop(one, None)
        return JSONResponse({})

    async def fetch(request: Request) -> Response:
        rows = spaces.get(request.query_params["namespace"], {})
        return JSONResponse({"vectors": {one: rows[one] for one in request.query_params.getlist("ids") if one in rows}})

    async def query(request: Request) -> Response:
        asked = await request.json()
        rows = list(spaces.get(asked["namespace"], {}).values())
        for name, condition in asked.get("filter", {}).items():
            rows = [row for row in rows if row["metadata"][name] == condition["$eq"]]
        scored = sorted(((cosine(row["values"], asked["vector"]), row["id"]) for row in rows), reverse=True)
        return JSONResponse({"matches": [{"id": one, "score": score} for score, one in scored[: asked["topK"]]]})

    async def listing(request: Request) -> Response:
        ids = sorted(spaces.get(request.query_params["namespace"], {}))
        ids = [one for one in ids if one > request.query_params.get("paginationToken", "")]
        page, limit = [{"id": one} for one in ids], int(request.query_params["limit"])
        return JSONResponse({"vectors": page[:limit], **({"pagination": {"next": ids[limit - 1]}} if len(ids) > limit else {})})

    return Starlette(
        routes=[
            Route("/vectors/upsert", guarded(upsert), methods=["POST"]),
            Route("/vectors/delete", guarded(delete), methods=["POST"]),
            Route("/vectors/fetch", guarded(fetch)),
            Route("/query", guarded(query), methods=["POST"]),
            Route("/vectors/list", guarded(listing)),
        ]
    )


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[int]:
    """The port that it answers on."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running
