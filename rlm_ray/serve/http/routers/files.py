"""`/v1/files`: contexts that are uploaded once and asked about often."""

import asyncio
import time
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Form, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from rlm_ray.serve.api_keys import ApiKey
from rlm_ray.serve.file_store import StoredFile
from rlm_ray.serve.http.auth import BearerAuth
from rlm_ray.serve.http.errors import error_responses
from rlm_ray.serve.http.run_service import RunService

Purpose = Annotated[str, Form(max_length=64)]


class FileObject(BaseModel):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"


class FileList(BaseModel):
    object: Literal["list"] = "list"
    data: list[FileObject]
    has_more: bool = False


class FileDeleted(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


def file_routes(service: RunService, auth: BearerAuth) -> APIRouter:
    router = APIRouter(tags=["files"])
    files = service.files

    @router.post("/v1/files", responses=error_responses(400, 413, 422))
    async def upload(
        file: UploadFile, key: Annotated[ApiKey, Depends(auth)], purpose: Purpose = "user_data"
    ) -> FileObject:
        """Keep a file, a text or a document, until it expires or is deleted."""
        name = file.filename or "file"
        stored = await asyncio.to_thread(files.save, key.name, name, purpose, file.file, time.time())
        return _object(stored)

    @router.get("/v1/files", responses=error_responses())
    async def list_files(key: Annotated[ApiKey, Depends(auth)]) -> FileList:
        """List all files of this key, the newest first."""
        found = await asyncio.to_thread(files.list_files, key.name, time.time())
        return FileList(data=[_object(stored) for stored in found])

    @router.get("/v1/files/{file_id}", responses=error_responses(404))
    async def retrieve(file_id: str, key: Annotated[ApiKey, Depends(auth)]) -> FileObject:
        """Return what is known of a file."""
        return _object(await service.file(key, file_id))

    @router.get(
        "/v1/files/{file_id}/content",
        responses=error_responses(404)
        | {200: {"content": {"application/octet-stream": {}}, "description": "The file."}},
    )
    async def content(file_id: str, key: Annotated[ApiKey, Depends(auth)]) -> StreamingResponse:
        """Return the file itself."""
        stored = await service.file(key, file_id)
        headers = {"content-length": str(stored.nbytes)}
        return StreamingResponse(files.chunks(key.name, file_id), 200, headers, "application/octet-stream")

    @router.delete("/v1/files/{file_id}", responses=error_responses(404))
    async def delete(file_id: str, key: Annotated[ApiKey, Depends(auth)]) -> FileDeleted:
        """Delete a file. Runs that have read it are not harmed."""
        await service.file(key, file_id)
        await asyncio.to_thread(files.delete, key.name, file_id)
        return FileDeleted(id=file_id)

    return router


def _object(stored: StoredFile) -> FileObject:
    return FileObject(
        id=stored.id, bytes=stored.nbytes, created_at=int(stored.created), expires_at=int(stored.expires),
        filename=stored.name, purpose=stored.purpose,
    )  # fmt: skip
