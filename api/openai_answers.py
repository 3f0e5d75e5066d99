"""The nouns of `kb` in the words of the `openai` SDK; `api/openai_shapes.py` describes them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from kb.catalog.files import File
from kb.catalog.holdings import Counts, Holding
from kb.catalog.paging import Listed
from kb.search.similarity import similarity
from kb.types import ChunkingPolicy, Hit, Job, KnowledgeBase

POLL = {"openai-poll-after-ms": "100"}
"""Header of an answer that will soon be another one: the SDK's helpers then look as often."""

# Of a document that was refused; "" where the fault is not its own.
_CODES = {"unsupported_format": "unsupported_file", "": "server_error"}


def seconds(moment: str) -> int:
    """A time of the catalog as Unix seconds."""
    return int(datetime.fromisoformat(moment).timestamp())


def page(listed: Listed, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A page of a list."""
    ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {}
    return {
        "object": "list",
        "data": items,
        "first_id": ends.get("first_id"),
        "last_id": ends.get("last_id"),
        "has_more": listed.more,
    }


def file(kept: File) -> dict[str, Any]:
    """A `File`."""
    return {
        "id": kept.id,
        "object": "file",
        "bytes": kept.byte_size,
        "created_at": seconds(kept.created_at),
        "filename": kept.filename,
        "purpose": kept.purpose,
        "status": "processed",
        "status_details": None,
        "expires_at": None,
    }


def vector_store(kb: KnowledgeBase, counts: Counts) -> dict[str, Any]:
    """A `VectorStore`."""
    return {
        "id": kb.id,
        "object": "vector_store",
        "created_at": seconds(kb.created_at),
        "name": kb.name,
        "description": kb.description,
        "status": "in_progress" if counts.in_progress else "completed",
        "usage_bytes": counts.byte_size,
        "file_counts": file_counts(counts),
        "metadata": kb.metadata,
        "last_active_at": None,
        "expires_after": None,
        "expires_at": None,
    }


def file_counts(counts: Counts) -> dict[str, int]:
    """`FileCounts`."""
    told = {
        "in_progress": counts.in_progress,
        "completed": counts.completed,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
    }
    return {**told, "total": sum(told.values())}


def vector_store_file(kb: KnowledgeBase, one: Holding) -> dict[str, Any]:
    """A `VectorStoreFile`."""
    code = _CODES.get(one.error_kind, "invalid_file")
    return {
        "id": one.id,
        "object": "vector_store.file",
        "created_at": seconds(one.created_at),
        "vector_store_id": kb.id,
        "status": one.state,
        "usage_bytes": one.byte_size if one.state == "completed" else 0,
        "last_error": None if one.error is None else {"code": code, "message": one.error},
        "attributes": one.attributes,
        "chunking_strategy": _strategy(one.chunking or kb.chunking),
        "filename": one.filename,
        "content_id": one.content_id,
        "content_version_id": one.version_id,
    }


def batch(job: Job, counts: Counts) -> dict[str, Any]:
    """A `VectorStoreFileBatch`: the job that attached the files."""
    # All of them may be settled a moment before the job is.
    ended = job.status if job.status in ("cancelled", "failed") else "completed"
    return {
        "id": job.id,
        "object": "vector_store.files_batch",
        "created_at": seconds(job.created_at),
        "vector_store_id": job.knowledge_base_id,
        "status": "in_progress" if counts.in_progress else ended,
        "file_counts": file_counts(counts),
    }


def result(hit: Hit, made_of: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """A `SearchResult`. made_of: file id and name of documents that are made of a file."""
    file_id, filename = made_of.get(hit.content_id, (hit.content_id, hit.uri))
    return {
        "file_id": file_id,
        "filename": filename,
        "score": float(similarity(hit.scores["dense"])),
        "attributes": hit.attributes,
        "content": [{"type": "text", "text": hit.text}],
        "content_id": hit.content_id,
        "content_version_id": hit.content_version_id,
        "start": hit.start,
        "end": hit.end,
        "page": hit.page,
        "heading": hit.heading,
    }


def _strategy(policy: ChunkingPolicy) -> dict[str, Any]:
    if policy.size is None:
        return {"type": "other"}
    sizes = {"max_chunk_size_tokens": policy.size, "chunk_overlap_tokens": policy.overlap}
    return {"type": "static", "static": sizes}
