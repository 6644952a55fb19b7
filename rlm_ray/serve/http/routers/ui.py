"""`/`: the web page. It is public; what it asks for needs the key that its user gives it."""

from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Response

from rlm_ray.serve.http.errors import Refusal

_PARTS = {
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
        return _part("index.html")

    @router.get("/page/{name}")
    async def part(name: str) -> Response:
        if name not in _PARTS:
            raise Refusal(404, "not_found", "there is no such file")
        return _part(name)

    return router


def _part(name: str) -> Response:
    return Response(_text(name), headers=_HEADERS, media_type=_PARTS[name])


@cache
def _text(name: str) -> str:
    return files("rlm_ray.serve").joinpath("static", name).read_text("utf-8")
