"""The service that `control_plane.py` compares with: one table, one statement a request, nothing else.

`uvicorn bench.bare_app:app`; `BENCH_DSN` names the database. Rows are a text id and a JSON document.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import contextlib
import json
import os
from collections.abc import AsyncGenerator
from typing import Any

import asyncpg
from fastapi import FastAPI, HTTPException, Request

from steelyard.kit.ids import new_id

TABLE = "bench_bare_jobs"
_POOL = 10


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    async with asyncpg.create_pool(os.environ["BENCH_DSN"], min_size=1, max_size=_POOL) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=_lifespan)


@app.post("/jobs", status_code=202)
async def submit(request: Request) -> dict[str, Any]:
    """Insert a row, and answer with it."""
    body = await request.body()
    job_id = new_id("job")
    await request.app.state.pool.execute(f"INSERT INTO {TABLE} VALUES ($1, $2)", job_id, body.decode())
    return {"id": job_id, "spec": json.loads(body)}


@app.get("/jobs/{job_id}")
async def get(job_id: str, request: Request) -> dict[str, Any]:
    """Return a row."""
    row = await request.app.state.pool.fetchrow(f"SELECT id, spec FROM {TABLE} WHERE id = $1", job_id)
    if row is None:
        raise HTTPException(404)
    return {"id": row["id"], "spec": json.loads(row["spec"])}


@app.get("/jobs")
async def list_(request: Request, limit: int = 50) -> dict[str, Any]:
    """Return the newest rows."""
    rows = await request.app.state.pool.fetch(f"SELECT id FROM {TABLE} ORDER BY id DESC LIMIT $1", limit)
    return {"data": [{"id": row["id"]} for row in rows]}
