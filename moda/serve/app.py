"""The server's addresses. GET / is the page; what each address takes and gives: docs/serve.md."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from moda.engine.performance import Sampling, Settings, changed
from moda.errors import ModaError
from moda.serve import socket
from moda.serve.hub import MAX_PICTURE, MAX_SOUND, RETRY_AFTER, SIZES, Hub, Refused
from moda.serve.jobs import Jobs
from moda.serve.socket import whole
from moda.serve.webrtc import Peers

PAGE = Path(__file__).with_name("page.html")
OPEN = ("/", "/healthz")  # without the token


def build(hub: Hub) -> Starlette:
    jobs, peers = Jobs(hub), Peers(hub)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        jobs.start()
        yield
        hub.closing = True
        await peers.close()
        await jobs.close()
        await hub.close()

    async def page(request: Request) -> Response:
        return FileResponse(PAGE, headers={"Cache-Control": "no-store"})

    async def about(request: Request) -> Response:
        own = [{"id": key, "name": entry.name} for key, entry in hub.portraits.items() if entry.name]
        return JSONResponse(
            {
                "portraits": own,
                "sizes": SIZES,
                "size": hub.size,
                "emotions": hub.head.description.generator.config.emotions,
                "voice": hub.voice is not None,
            }
        )

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "closing" if hub.closing else "ok", "sessions": len(hub.sessions)})

    async def metrics(request: Request) -> Response:
        return PlainTextResponse(hub.metrics())

    async def upload(request: Request) -> Response:
        return JSONResponse({"id": await hub.upload(await body(request, MAX_PICTURE))}, 201)

    async def preview(request: Request) -> Response:
        character = await hub.character(request.path_params["id"], hub.size)
        image = await asyncio.to_thread(socket.jpeg, next(iter(character.draw(character.motion))))
        return Response(image, media_type="image/jpeg")

    async def offer(request: Request) -> Response:
        values = await fields(request)
        key, sdp = await peers.connect(
            values.get("sdp", ""),
            str(values.get("portrait", "")),
            whole(values, "size", hub.size),
            whole(values, "seed", 0),
            values.get("emotion"),
        )
        return JSONResponse({"sdp": sdp, "type": "answer", "session": key}, 201)

    async def whep(request: Request) -> Response:
        sdp = (await body(request, 200_000)).decode(errors="replace")
        query = dict(request.query_params)
        size, seed = whole(query, "size", hub.size), whole(query, "seed", 0)
        key, answer = await peers.connect(sdp, request.path_params["id"], size, seed, query.get("emotion"))
        return Response(answer, 201, {"Location": f"/sessions/{key}"}, media_type="application/sdp")

    async def leave(request: Request) -> Response:
        await peers.disconnect(request.path_params["id"])
        return Response(status_code=204)

    async def new_job(request: Request) -> Response:
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise Refused(415, "a job is posted as multipart/form-data with the files portrait and sound")
        stated(request, MAX_PICTURE + MAX_SOUND)
        async with request.form(max_files=2, max_fields=10, max_part_size=MAX_SOUND) as form:
            files = {}
            for name, most in (("portrait", MAX_PICTURE), ("sound", MAX_SOUND)):
                part = form.get(name)
                if part is None or isinstance(part, str):
                    raise Refused(400, f"the file {name} is missing")
                files[name] = await part.read()
                if len(files[name]) > most:
                    raise Refused(413, f"the file {name} may have {most // 1_000_000} MB at most")
            options = job_options({name: value for name, value in form.items() if isinstance(value, str)})
        job = await jobs.new(files["portrait"], files["sound"], options)
        return JSONResponse(job.told(), 202, {"Location": f"/jobs/{job.id}"})

    def job_options(values: dict) -> dict:
        """Checked before anything waits."""
        numbers = {name: float(number(values, name)) for name in ("pose", "lips", "blink") if name in values}
        options: dict = {**numbers, "seed": whole(values, "seed", 0), "size": whole(values, "size", hub.size)}
        if "emotion" in values:
            options["emotion"] = values["emotion"]
        unknown = set(values) - {*options, "portrait", "sound"}
        if unknown:
            raise Refused(400, f"there is no option {sorted(unknown)[0][:40]!r}")
        hub.head.description.generator.config.emotion(options.get("emotion"))
        changed(Settings(), **numbers)
        Sampling(seed=options["seed"])
        if options["size"] not in SIZES:
            raise Refused(400, f"size must be one of {', '.join(map(str, SIZES))}")
        return options

    async def job(request: Request) -> Response:
        return JSONResponse(jobs.get(request.path_params["id"]).told())

    async def job_events(request: Request) -> Response:
        found = jobs.get(request.path_params["id"])

        async def events() -> AsyncIterator[str]:
            async for told in jobs.watch(found):
                yield f"data: {json.dumps(told)}\n\n"

        return StreamingResponse(
            events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    async def job_video(request: Request) -> Response:
        found = jobs.get(request.path_params["id"])
        if found.state != "done":
            raise Refused(409, f"this video is {found.state}")
        return FileResponse(found.video, media_type="video/mp4", filename="video.mp4")

    async def end_job(request: Request) -> Response:
        jobs.delete(request.path_params["id"])
        return Response(status_code=204)

    async def live(websocket: WebSocket) -> None:
        await socket.serve(hub, websocket)

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/about", about),
            Route("/healthz", health),
            Route("/metrics", metrics),
            Route("/portraits", upload, methods=["POST"]),
            Route("/portraits/{id}", preview),
            Route("/offer", offer, methods=["POST"]),
            Route("/whep/{id}", whep, methods=["POST"]),
            Route("/sessions/{id}", leave, methods=["DELETE"]),
            Route("/jobs", new_job, methods=["POST"]),
            Route("/jobs/{id}", job),
            Route("/jobs/{id}", end_job, methods=["DELETE"]),
            Route("/jobs/{id}/events", job_events),
            Route("/jobs/{id}/video", job_video),
            WebSocketRoute("/live", live),
        ],
        exception_handlers={Refused: refused, ModaError: mistaken, HTTPException: other, Exception: broken},
        lifespan=lifespan,
    )
    app.add_middleware(Gate, hub=hub)
    app.state.hub, app.state.jobs, app.state.peers = hub, jobs, peers
    return app


# -- what every request goes through -----------------------------------------------------------


class Gate:
    """The token, where there is one, and no requests that another site's page makes in a visitor's name."""

    def __init__(self, app: ASGIApp, hub: Hub) -> None:
        self.app, self.hub = app, hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
            problem = self._problem(scope, headers)
            if problem is not None:
                status, message = problem
                if scope["type"] == "websocket":
                    await socket.refuse(WebSocket(scope, receive, send), 1008, message)
                else:
                    await JSONResponse({"error": {"message": message}}, status)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _problem(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        reading = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        origin = headers.get("origin")
        if origin and not reading and urlsplit(origin).netloc != headers.get("host"):
            return 403, "requests from other sites' pages are not taken"
        if self.hub.token is None or (reading and scope["path"] in OPEN):
            return None
        given = headers.get("authorization", "").removeprefix("Bearer ")
        for pair in scope["query_string"].decode("latin-1").split("&"):
            if pair.startswith("token="):
                given = pair.removeprefix("token=")
        if not secrets.compare_digest(given.encode(), self.hub.token.encode()):
            return 401, "a token is needed: Authorization: Bearer TOKEN, or ?token=TOKEN"
        return None


async def refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    headers = {"Retry-After": str(RETRY_AFTER)} if error.status == 503 else None
    return JSONResponse({"error": {"message": error.message}}, error.status, headers)


async def mistaken(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": {"message": str(error)}}, 422)


async def other(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": {"message": error.detail}}, error.status_code, error.headers)


async def broken(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": {"message": "a fault of the server's own; it is in the log"}}, 500)


def stated(request: Request, most: int) -> None:
    """Errors: Refused where the request says that it is too long, or does not say how long it is."""
    length = request.headers.get("content-length")
    if length is None or not length.isdigit():
        raise Refused(411, "the request must state its length")
    if int(length) > most:
        raise Refused(413, f"{most // 1_000_000 or 1} MB are the most")


async def body(request: Request, most: int) -> bytes:
    stated(request, most)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise Refused(413, f"{most // 1_000_000 or 1} MB are the most")
        parts.append(part)
    if not size:
        raise Refused(400, "the request is empty")
    return b"".join(parts)


async def fields(request: Request) -> dict:
    """The JSON object of a request."""
    try:
        values = json.loads(await body(request, 400_000))
    except (ValueError, RecursionError) as error:
        raise Refused(400, "a JSON object is needed") from error
    if not isinstance(values, dict):
        raise Refused(400, "a JSON object is needed")
    return values


def number(values: dict, name: str) -> float:
    try:
        return float(values[name])
    except (TypeError, ValueError) as error:
        raise Refused(400, f"{name} must be a number") from error
