"""`/`: the web page. It is public; what it asks for needs the key that its user gives it."""

from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Response

from rlm_ray.serve.http.errors import ApiError

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
