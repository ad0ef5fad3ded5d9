"""The routes of the server."""

import asyncio
import contextlib
import hmac
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any

from jinja2 import Environment, select_autoescape
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from specialm.serving.decoding.sequence import CANCELLED, Delta
from specialm.serving.server import requests
from specialm.serving.server.answers import DONE, Answer, event, shown
from specialm.serving.server.limits import Limits, Refused
from specialm.serving.server.metrics import Metrics
from specialm.serving.server.models import Models
from specialm.serving.server.requests import Request
from specialm.serving.server.worker import Job

Handler = Callable[[HttpRequest], Awaitable[Response]]
OPEN = ("/", "/health")  # without the token
SAFE = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Server:
    """The application over some models.

    Args:
      token: that clients must bring; "" for none.
      hosts: names that requests may call this machine by; () for any. A page from elsewhere whose
        name was pointed at this machine is so refused.
    """

    def __init__(
        self, models: Models, limits: Limits, token: str = "", hosts: tuple[str, ...] = ()
    ):
        self._models, self._limits, self._token, self._hosts = models, limits, token, hosts
        self._metrics = Metrics(models)
        self.app = Starlette(
            routes=[
                self._route("/", self._page, "GET"),
                self._route("/health", self._health, "GET"),
                self._route("/metrics", self._counted, "GET"),
                self._route("/v1/models", self._list, "GET"),
                self._route("/v1/models/{name:path}", self._one, "GET"),
                self._route("/v1/completions", self._completions, "POST"),
                self._route("/v1/chat/completions", self._chat, "POST"),
                self._route("/score", self._score, "POST"),
            ],
            lifespan=self._life,
        )

    def _route(self, path: str, handler: Handler, method: str) -> Route:
        async def guarded(http: HttpRequest) -> Response:
            started = time.perf_counter()
            try:
                self._check(http, path)
                response = await handler(http)
            except Refused as error:
                response = refusal(error)
            except ClientDisconnect:
                response = Response(status_code=499)
            self._metrics.requests.labels(path, str(response.status_code)).inc()
            if not isinstance(response, StreamingResponse):
                self._metrics.whole.labels(path).observe(time.perf_counter() - started)
            return response

        return Route(path, guarded, methods=[method])

    @contextlib.asynccontextmanager
    async def _life(self, app: Starlette) -> AsyncIterator[None]:
        self._models.start()
        yield
        self._models.stop()

    def _check(self, http: HttpRequest, path: str) -> None:
        host = http.headers.get("host", "").rpartition(":")
        name = host[0] if host[1] and host[2].isdigit() else http.headers.get("host", "")
        if self._hosts and name not in self._hosts:
            raise Refused(421, f"this server does not answer to the name {name!r}.")
        if self._token and path not in OPEN:
            kind, _, given = http.headers.get("authorization", "").partition(" ")
            known = hmac.compare_digest(given.strip().encode(), self._token.encode())
            if kind.lower() != "bearer" or not known:
                raise Refused(401, "the header Authorization must be Bearer and the token.")

    async def _body(self, http: HttpRequest) -> bytes:
        """Of JSON, which a page from elsewhere cannot send without asking first."""
        kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, "the header Content-Type must be application/json.")
        most, body = self._limits.body_bytes, bytearray()
        async for chunk in http.stream():
            body += chunk
            if len(body) > most:
                raise Refused(413, f"the body has more than {most:,} bytes.")
        return bytes(body)

    async def _page(self, http: HttpRequest) -> Response:
        template = files(__package__).joinpath("page.html.j2").read_text("utf-8")
        environment = Environment(autoescape=select_autoescape(default=True))
        page = environment.from_string(template).render(
            models=list(self._models.listed), asks_token=bool(self._token)
        )
        return HTMLResponse(page, headers=SAFE)

    async def _health(self, http: HttpRequest) -> Response:
        return JSONResponse({"status": "ok"})

    async def _counted(self, http: HttpRequest) -> Response:
        text, kind = self._metrics.text()
        return Response(text, media_type=kind)

    async def _list(self, http: HttpRequest) -> Response:
        return JSONResponse({"object": "list", "data": list(self._models.listed.values())})

    async def _one(self, http: HttpRequest) -> Response:
        return JSONResponse(self._models.about(http.path_params["name"]))

    async def _score(self, http: HttpRequest) -> Response:
        given = requests.read_object(await self._body(http))
        model = await self._models.get(requests.model_of(given))
        text = requests.scored(given, self._limits)
        try:
            async with asyncio.timeout(self._limits.seconds):
                found = await model.score(text)
        except TimeoutError as error:
            raise self._late() from error
        size = len(text.encode())
        return JSONResponse(
            {
                "model": model.name,
                "bytes": size,
                "bits_per_byte": sum(bits for _, bits in found) / size,
                "tokens": [
                    {"text": shown(content), "bytes": list(content), "bits": bits}
                    for content, bits in found
                ],
            }
        )

    async def _completions(self, http: HttpRequest) -> Response:
        return await self._continue(http, is_chat=False)

    async def _chat(self, http: HttpRequest) -> Response:
        return await self._continue(http, is_chat=True)

    async def _continue(self, http: HttpRequest, is_chat: bool) -> Response:
        given = requests.read_object(await self._body(http))
        model = await self._models.get(requests.model_of(given))
        request = requests.parse(given, model, self._limits, is_chat)
        worker = request.model.worker
        jobs = worker.submit(request.prompts, request.samplings, bare=is_chat)
        name = request.model.name
        answered = {id(ids): len(ids) for ids in request.prompts}
        self._metrics.prompt_tokens.labels(name).inc(sum(answered.values()))
        answer = Answer(request)
        if request.stream:
            events = self._events(request, jobs, answer)
            return StreamingResponse(
                events, media_type="text/event-stream", headers={"Cache-Control": "no-store"}
            )
        gone = asyncio.create_task(_disconnected(http))
        texts = asyncio.create_task(self._whole(request, jobs))
        try:
            done, _ = await asyncio.wait(
                (gone, texts), timeout=self._limits.seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if texts in done:
                return JSONResponse(answer.whole(texts.result()))
            if gone in done:
                return Response(status_code=499)
            raise self._late()
        finally:
            for job in jobs:
                job.cancel()
            for task in (gone, texts):
                task.cancel()

    async def _whole(self, request: Request, jobs: list[Job]) -> list[Delta]:
        return await asyncio.gather(*(self._joined(request, job) for job in jobs))

    async def _joined(self, request: Request, job: Job) -> Delta:
        whole = Delta()
        async for delta in self._timed(request, job):
            whole.text += delta.text
            whole.tokens += delta.tokens
            whole.finish = delta.finish
        return whole

    async def _timed(self, request: Request, job: Job) -> AsyncGenerator[Delta, None]:
        """The stream of a job, with what is counted of it."""
        started, name, first = time.perf_counter(), request.model.name, True
        finish = CANCELLED
        stream = job.stream()
        try:
            async for delta in stream:
                if first and delta.tokens:
                    first = False
                    self._metrics.first.labels(name).observe(time.perf_counter() - started)
                self._metrics.drawn_tokens.labels(name).inc(len(delta.tokens))
                finish = delta.finish
                yield delta
        finally:
            await stream.aclose()
            if finish == CANCELLED or not finish:
                self._metrics.cancelled.labels(name).inc()

    async def _events(
        self, request: Request, jobs: list[Job], answer: Answer
    ) -> AsyncIterator[bytes]:
        """The events of a stream, those of all choices as they come."""
        merged: asyncio.Queue[Any] = asyncio.Queue()

        async def pump(index: int, job: Job) -> None:
            try:
                async for delta in self._timed(request, job):
                    merged.put_nowait((index, delta))
            except Exception as error:
                merged.put_nowait((index, error))

        pumps = [asyncio.create_task(pump(index, job)) for index, job in enumerate(jobs)]
        try:
            async with asyncio.timeout(self._limits.seconds):
                left = len(jobs)
                while left:
                    index, delta = await merged.get()
                    if isinstance(delta, Exception):
                        raise delta
                    left -= bool(delta.finish)
                    yield answer.event(index, delta)
            if request.usage_at_end:
                yield answer.last_event()
            yield DONE
        except TimeoutError:
            yield event(self._late().to_json())
        except Refused as error:
            yield event(error.to_json())
        finally:
            for job in jobs:
                job.cancel()
            for task in pumps:
                task.cancel()

    def _late(self) -> Refused:
        return Refused(504, f"the request took more than {self._limits.seconds:g} s.", retry=True)


def refusal(error: Refused) -> Response:
    """The answer that says why there is none."""
    headers = {"Retry-After": "1"} if error.retry else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error.to_json(), error.status, headers=headers)


async def _disconnected(http: HttpRequest) -> None:
    """Returns when the client has gone."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
