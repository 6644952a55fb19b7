"""The HTTP application of a replica, and its web page at `/`. The page is public; what it asks for needs the key that its user gives it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from importlib.metadata import version
from importlib.resources import files

from fastapi import APIRouter, FastAPI, Response
from fastapi.middleware.cors import CORSMiddleware

from rlm_ray.serve.api_keys import KeyStore
from rlm_ray.serve.config import ServerConfig
from rlm_ray.serve.http.auth import BearerAuth, Origins
from rlm_ray.serve.http.errors import ApiError, register_error_handlers
from rlm_ray.serve.http.middleware import AuthAndBodyLimitMiddleware
from rlm_ray.serve.http.routers.chat import chat_routes
from rlm_ray.serve.http.routers.files import file_routes
from rlm_ray.serve.http.routers.models import model_routes
from rlm_ray.serve.http.routers.responses import response_routes
from rlm_ray.serve.http.routers.runs import run_routes
from rlm_ray.serve.http.run_service import RunService


def create_app(
    service: RunService,
    keys: KeyStore,
    args: ServerConfig,
    serving: Callable[[], AbstractAsyncContextManager[None]],
) -> FastAPI:
    """Make the application with all routes; `serving` is entered while it serves."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with serving():
            yield

    api = FastAPI(
        title="rlm_ray",
        version=version("rlm-ray"),
        description="Questions over unbounded context, asked as OpenAI's clients ask.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    origins = Origins(args.cors_origins, has_keys=bool(keys))
    auth = BearerAuth(keys, origins)
    register_error_handlers(api)
    for routes in (chat_routes, response_routes, file_routes, run_routes, model_routes):
        api.include_router(routes(service, auth))
    api.include_router(page_routes())
    api.add_middleware(
        AuthAndBodyLimitMiddleware, auth=auth, body_bytes=args.body_bytes, file_bytes=args.file_bytes
    )
    api.add_middleware(
        CORSMiddleware, **origins.options()
    )  # the outermost: a preflight has neither key nor body
    _add_model_examples(api, service.models.ids())
    return api


def _add_model_examples(api: FastAPI, ids: list[str]) -> None:
    """Name the models of this deployment in its OpenAPI document as examples."""
    for schema in api.openapi()["components"]["schemas"].values():
        model = schema.get("properties", {}).get("model")
        if model is not None:
            model["examples"] = ids


_STATIC_FILES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "tree.js": "text/javascript; charset=utf-8",
    "client.js": "text/javascript; charset=utf-8",
}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def page_routes() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def index() -> Response:
        return _serve_static("index.html")

    @router.get("/page/{name}")
    async def part(name: str) -> Response:
        if name not in _STATIC_FILES:
            raise ApiError(404, "not_found", "there is no such file")
        return _serve_static(name)

    return router


def _serve_static(name: str) -> Response:
    return Response(_text(name), headers=_HEADERS, media_type=_STATIC_FILES[name])


@cache
def _text(name: str) -> str:
    return files("rlm_ray.serve").joinpath("static", name).read_text("utf-8")
