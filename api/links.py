"""OpenAPI links: which operations take what an answer names. Made from the document itself.

An operation is linked to where each parameter of its path is named by the answer, or was a parameter of the
request that it answers.
"""

from collections.abc import Iterator
from typing import Any

# Path parameters, by the answers that name them and where. What is in a list is named by its first.
_NAMES: dict[str, dict[str, str]] = {
    "KnowledgeBase": {"kb": "/id"},
    "KnowledgeBases": {"kb": "/data/0/id"},
    "Document": {"document": "/id", "content_version_id": "/content_version_id"},
    "Documents": {"document": "/data/0/id", "content_version_id": "/data/0/content_version_id"},
    "Job": {"job": "/id", "kb": "/knowledge_base_id"},
    "LanguageModels": {"model": "/data/0/id"},
    "File": {"file_id": "/id"},
    "Files": {"file_id": "/data/0/id"},
    "VectorStore": {"vector_store_id": "/id"},
    "VectorStores": {"vector_store_id": "/data/0/id"},
    "VectorStoreFile": {"file_id": "/id"},
    "VectorStoreFiles": {"file_id": "/data/0/id"},
    "FileBatch": {"batch_id": "/id"},
    "ModelResponse": {"response_id": "/id"},
    "Run": {"run_id": "/id", "approval_id": "/approvals/0/id"},
    "Results": {"file_id": "/data/0/file_id"},
    "SearchAnswer": {
        "kb": "/hits/0/knowledge_base_id",
        "document": "/hits/0/content_id",
        "content_version_id": "/hits/0/content_version_id",
    },
}


def add_links(document: dict[str, Any]) -> None:
    """Put them beside the answers of an OpenAPI document."""
    operations = [one for path in document["paths"].values() for one in path.values()]
    for operation in operations:
        asked = {name: f"$request.path.{name}" for name in _path(operation)}
        for status, response in operation["responses"].items():
            told = {name: f"$response.body#{at}" for name, at in _NAMES.get(_model(response), {}).items()}
            if status.startswith("2") and told:
                response["links"] = dict(_links(operations, told, asked))


def _links(
    operations: list[dict[str, Any]], told: dict[str, str], asked: dict[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    known = asked | told
    for target in operations:
        needed = _path(target)
        if told.keys() & needed and needed <= known.keys():
            parameters = {f"path.{name}": known[name] for name in sorted(needed)}
            yield target["operationId"], {"operationId": target["operationId"], "parameters": parameters}


def _path(operation: dict[str, Any]) -> set[str]:
    return {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}


def _model(response: dict[str, Any]) -> str:
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    return str(schema.get("$ref", "")).rpartition("/")[2]
