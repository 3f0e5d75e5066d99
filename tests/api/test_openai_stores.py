"""The official `openai` SDK against a real server: files, vector stores, their search, embeddings."""

from collections.abc import Callable
from typing import Any

import numpy as np
import openai
import pytest
from openai import OpenAI

MODEL = "all-MiniLM-L6-v2"
STARTUP = (
    "startup.md",
    "# Starting\n\nOpen the brine valve first, then start the pump. \U0001f6a7 Wait for 3 bar.",
)
WINTER = ("winter.md", "# Winter operation\n\nIn frost the circulation pump runs without a pause.")
PARTS = ("parts.txt", "The scraper blade is part 4711. Order two at a time.")
SCAN = ("scan.pdf", b"%PDF-1.7 and then nothing")


def client_of(server: Any) -> OpenAI:
    """The SDK, unchanged but for its address; it must not try again what is meant to be refused."""
    return OpenAI(base_url=f"{server.client.base_url}/v1", api_key="none needed", max_retries=0)


@pytest.fixture(scope="module")
def client(standing: Any) -> OpenAI:
    """Of the standing server."""
    return client_of(standing)


@pytest.fixture
def store(client: OpenAI) -> Any:
    """An empty vector store."""
    return client.vector_stores.create()


def upload(client: OpenAI, name: str, text: str | bytes) -> Any:
    """A file."""
    return client.files.create(
        file=(name, text.encode() if isinstance(text, str) else text), purpose="assistants"
    )


def put(client: OpenAI, store: Any, name: str, text: str | bytes, **said: Any) -> Any:
    """A file that is attached, once it is settled."""
    kept = upload(client, name, text)
    return client.vector_stores.files.create_and_poll(kept.id, vector_store_id=store.id, **said)


def found(client: OpenAI, store: Any, query: str, **options: Any) -> list[str]:
    """The names of the files of the results."""
    return [one.filename for one in client.vector_stores.search(store.id, query=query, **options)]


def refusal(error: pytest.ExceptionInfo[openai.APIStatusError]) -> tuple[int, str | None, str | None]:
    """Status, code and the field at fault."""
    return error.value.status_code, error.value.code, error.value.param


def test_a_file_comes_back_as_it_was_sent(client: OpenAI) -> None:
    """Byte for byte, with its name and size, until it is deleted."""
    data = bytes(range(256)) * 3
    kept = client.files.create(file=("a b.bin", data), purpose="user_data")
    assert (kept.object, kept.filename, kept.bytes, kept.purpose, kept.status) == (
        "file",
        "a b.bin",
        768,
        "user_data",
        "processed",
    )
    assert client.files.retrieve(kept.id) == kept
    assert client.files.wait_for_processing(kept.id) == kept
    assert client.files.content(kept.id).read() == data
    assert kept.id in [one.id for one in client.files.list(purpose="user_data")]
    assert kept.id not in [one.id for one in client.files.list(purpose="vision")]
    gone = client.files.delete(kept.id)
    assert (gone.id, gone.object, gone.deleted) == (kept.id, "file", True)
    with pytest.raises(openai.NotFoundError) as error:
        client.files.retrieve(kept.id)
    assert refusal(error) == (404, "not_found", "file_id")
    with pytest.raises(openai.NotFoundError):
        client.files.content(kept.id)
    with pytest.raises(openai.NotFoundError):
        client.files.delete(kept.id)


def test_the_main_path(client: OpenAI) -> None:
    """Make, upload, attach and wait, search with filters and ranking, describe anew, detach."""
    store = client.vector_stores.create(name="main path", description="d", metadata={"team": "ops"})
    assert (store.name, store.object, store.status) == ("main path", "vector_store", "completed")
    assert (store.metadata, store.usage_bytes, store.file_counts.total) == ({"team": "ops"}, 0, 0)

    kept = upload(client, *STARTUP)
    attached = client.vector_stores.files.create_and_poll(
        kept.id, vector_store_id=store.id, attributes={"year": 2024, "approved": True, "team": "operations"}
    )
    assert (attached.id, attached.status, attached.vector_store_id) == (kept.id, "completed", store.id)
    assert attached.attributes == {"year": 2024, "approved": True, "team": "operations"}
    assert (attached.usage_bytes, attached.last_error) == (kept.bytes, None)
    other = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id,
        file=(WINTER[0], WINTER[1].encode()),
        attributes={"year": 2025, "team": "maintenance"},
    )
    assert other.status == "completed"
    counted = client.vector_stores.retrieve(store.id)
    assert (counted.file_counts.completed, counted.file_counts.total) == (2, 2)
    assert counted.usage_bytes == attached.usage_bytes + other.usage_bytes

    (first, *_) = client.vector_stores.search(store.id, query="How is the pump started?")
    assert (first.file_id, first.filename) == (kept.id, "startup.md")
    assert (first.attributes, first.content[0].type) == (attached.attributes, "text")
    # Beyond what the SDK knows: the exact place, which opens to the same text.
    extra = first.model_extra or {}
    opened = client.get(
        f"/contents/{extra['content_version_id']}?start={extra['start']}&end={extra['end']}", cast_to=object
    )
    assert opened["text"] == first.content[0].text  # type: ignore[index]

    filters: Any
    for filters, names in [
        ({"type": "eq", "key": "team", "value": "maintenance"}, ["winter.md"]),
        ({"type": "gte", "key": "year", "value": 2024}, ["startup.md", "winter.md"]),
        ({"type": "ne", "key": "approved", "value": True}, ["winter.md"]),
        ({"type": "in", "key": "year", "value": [2023, 2024]}, ["startup.md"]),
        ({"type": "eq", "key": "team", "value": "nobody"}, []),
    ]:
        assert sorted(set(found(client, store, "pump", filters=filters))) == names
    both: Any = {
        "type": "and",
        "filters": [
            {"type": "gt", "key": "year", "value": 2000},
            {
                "type": "or",
                "filters": [
                    {"type": "eq", "key": "team", "value": "x"},
                    {"type": "lt", "key": "year", "value": 2025},
                ],
            },
        ],
    }
    assert found(client, store, "pump", filters=both) == ["startup.md"]

    changed = client.vector_stores.files.update(
        kept.id, vector_store_id=store.id, attributes={"team": "winter"}
    )
    assert changed.attributes == {"team": "winter"}
    winter: Any = {"type": "eq", "key": "team", "value": "winter"}
    assert found(client, store, "pump", filters=winter) == ["startup.md"]
    text = client.vector_stores.files.content(kept.id, vector_store_id=store.id)
    assert [one.text for one in text] == [STARTUP[1]]

    gone = client.vector_stores.files.delete(kept.id, vector_store_id=store.id)
    assert (gone.id, gone.object, gone.deleted) == (kept.id, "vector_store.file.deleted", True)
    assert found(client, store, "How is the pump started?") == ["winter.md"]
    with pytest.raises(openai.NotFoundError) as error:
        client.vector_stores.files.retrieve(kept.id, vector_store_id=store.id)
    assert refusal(error) == (404, "not_found", "file_id")
    assert client.files.retrieve(kept.id) == kept

    renamed = client.vector_stores.update(store.id, name="renamed", metadata={})
    assert (renamed.name, renamed.metadata, renamed.file_counts.total) == ("renamed", {}, 1)
    assert client.vector_stores.delete(store.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.search(store.id, query="pump")


def test_scores_are_similarities_and_a_threshold_is_exact(client: OpenAI, store: Any) -> None:
    """(1 + cosine) / 2 of the query's and the passage's own vectors, whatever else is asked for or there."""
    texts = [f"Valve {n} of the {kind} is closed by hand." for n in range(8) for kind in ("boiler", "dairy")]
    files = [(f"{at}.txt", text.encode()) for at, text in enumerate(texts)]
    batch = client.vector_stores.file_batches.upload_and_poll(store.id, files=files)
    assert (batch.status, batch.file_counts.completed) == ("completed", 16)
    query = "Which valve of the boiler is closed?"
    every = list(client.vector_stores.search(store.id, query=query, max_num_results=50))
    assert len(every) == 16
    scores = {one.file_id: one.score for one in every}
    embedded = client.embeddings.create(model=MODEL, input=[query, f"0 {texts[0]}"], encoding_format="float")
    # What is embedded of a passage is its title and its text.
    cosine = float(np.dot(embedded.data[0].embedding, embedded.data[1].embedding))
    (of_first,) = (one.score for one in every if one.content[0].text == texts[0])
    assert of_first == pytest.approx((1 + cosine) / 2, abs=0.005)
    for threshold in (0.0, *sorted(scores.values())[3::4], 1.0):
        options: Any = {"score_threshold": threshold, "ranker": "auto"}
        kept = client.vector_stores.search(store.id, query=query, max_num_results=50, ranking_options=options)
        assert [one.file_id for one in kept] == [one.file_id for one in every if one.score >= threshold]
        assert all(scores[one.file_id] == one.score for one in kept)
    meaning: Any = {"hybrid_search": {"embedding_weight": 1, "text_weight": 0}}
    nearest = client.vector_stores.search(store.id, query=query, ranking_options=meaning)
    assert [one.score for one in nearest] == sorted(scores.values(), reverse=True)[:10]
    few = client.vector_stores.search(store.id, query=query, max_num_results=3)
    assert [(one.file_id, one.score) for one in few] == [(one.file_id, one.score) for one in every[:3]]


def test_weights_decide_between_words_and_meaning(client: OpenAI, store: Any) -> None:
    """All words: what shares a word comes first. All meaning: what says the same."""
    put(client, store, "words.txt", "The automobile museum sells tickets.")
    put(client, store, "meaning.txt", "Fixing a broken car at home.")
    query = "automobile repair"

    def first(meaning: float, words: float) -> str:
        options: Any = {"hybrid_search": {"embedding_weight": meaning, "text_weight": words}}
        return found(client, store, query, ranking_options=options)[0]

    assert (first(0, 1), first(7, 0)) == ("words.txt", "meaning.txt")


def test_several_queries_are_answered_as_one(client: OpenAI, store: Any) -> None:
    """Each result by the query that it answers best; the query comes back as it was sent."""
    for name, text in (STARTUP, WINTER, PARTS):
        put(client, store, name, text)
    page = client.vector_stores.search(store.id, query=["part 4711", "frost"], max_num_results=2)
    assert {one.filename for one in page} == {"parts.txt", "winter.md"}
    assert (page.object, (page.model_extra or {})["search_query"]) == (
        "vector_store.search_results.page",
        ["part 4711", "frost"],
    )


def test_a_file_that_cannot_be_read_fails_alone(client: OpenAI, store: Any) -> None:
    """Its status and reason tell so, and the others of its batch go in."""
    files = [SCAN, ("picture.png", b"\x89PNG\r\n\x1a\n" + bytes(64)), (PARTS[0], PARTS[1].encode())]
    batch = client.vector_stores.file_batches.upload_and_poll(store.id, files=files)
    assert (batch.status, batch.file_counts.failed, batch.file_counts.completed) == ("completed", 2, 1)
    failed = client.vector_stores.file_batches.list_files(
        batch.id, vector_store_id=store.id, filter="failed", order="asc"
    )
    told = {(one.model_extra or {})["filename"]: one.last_error for one in failed}
    assert told["scan.pdf"] is not None
    assert told["scan.pdf"].code == "invalid_file"
    assert "damaged" in told["scan.pdf"].message
    assert told["picture.png"] is not None
    assert told["picture.png"].code == "unsupported_file"
    assert [one.status for one in client.vector_stores.files.list(store.id, filter="completed")] == [
        "completed"
    ]
    counted = client.vector_stores.retrieve(store.id)
    assert (counted.status, counted.file_counts.failed, counted.file_counts.total) == ("completed", 2, 3)
    with pytest.raises(openai.ConflictError) as error:
        client.vector_stores.files.content(failed.data[0].id, vector_store_id=store.id)
    assert refusal(error) == (409, "no_text", "file_id")


def test_two_files_of_one_name_are_two_documents(client: OpenAI, store: Any) -> None:
    """Neither replaces the other; one deleted leaves the other."""
    one = put(client, store, "note.txt", "The red lamp means danger.")
    two = put(client, store, "note.txt", "The green lamp means go.")
    assert found(client, store, "lamp") == ["note.txt"] * 2
    assert client.files.delete(one.id).deleted
    (left,) = client.vector_stores.search(store.id, query="lamp")
    assert (left.file_id, left.content[0].text) == (two.id, "The green lamp means go.")


def test_a_deleted_file_is_gone_from_every_store(client: OpenAI) -> None:
    """Its bytes, and in each vector store the document and the mention of it."""
    kept = upload(client, *PARTS)
    stores = [client.vector_stores.create(file_ids=[kept.id]) for _ in range(2)]
    for store in stores:
        client.vector_stores.files.poll(kept.id, vector_store_id=store.id)
        assert found(client, store, "scraper blade") == ["parts.txt"]
    client.files.delete(kept.id)
    for store in stores:
        assert found(client, store, "scraper blade") == []
        assert list(client.vector_stores.files.list(store.id)) == []


def test_lists_go_on_by_themselves(client: OpenAI, store: Any) -> None:
    """Page after page, in either direction, also while what is listed is deleted."""
    files = [upload(client, f"{n}.txt", f"Lamp {n}.") for n in range(5)]
    ids = [one.id for one in files]
    client.vector_stores.file_batches.create_and_poll(store.id, file_ids=ids)

    def listed(**options: Any) -> list[str]:
        return [one.id for one in client.vector_stores.files.list(store.id, **options)]

    assert listed(limit=2) == ids[::-1]
    assert listed(limit=2, order="asc") == ids
    page = client.vector_stores.files.list(store.id, limit=2, order="asc")
    assert (page.has_more, [one.id for one in page.data]) == (True, ids[:2])
    assert (page.model_extra or {})["last_id"] == ids[1]
    before = client.vector_stores.files.list(store.id, limit=2, order="asc", before=ids[3])
    assert [one.id for one in before.data] == ids[1:3]
    # The others are of other tests.
    mine = [one.id for one in client.files.list(limit=2, order="asc") if one.id in ids]
    assert mine == ids
    made = [client.vector_stores.create().id for _ in range(3)]
    assert [one.id for one in client.vector_stores.list(limit=1) if one.id in made] == made[::-1]
    for one in client.vector_stores.files.list(store.id, limit=2):
        client.vector_stores.files.delete(one.id, vector_store_id=store.id)
    assert listed() == []


def test_what_came_otherwise_is_listed_too(client: OpenAI, standing: Any) -> None:
    """A knowledge base is a vector store; its documents are files under their content ids."""
    standing.client.post("/v1/knowledge_bases", json={"name": "otherwise", "chunk_size": None})
    sent = {"documents": [{"name": PARTS[0], "text": PARTS[1], "attributes": {"n": 1}}]}
    standing.client.post("/v1/knowledge_bases/otherwise/documents?wait=true", json=sent)
    store = next(one for one in client.vector_stores.list() if one.name == "otherwise")
    assert (store.file_counts.completed, store.usage_bytes) == (1, len(PARTS[1]))
    put(client, store, *WINTER)
    document = next(
        one for one in client.vector_stores.files.list(store.id, order="asc") if one.id[:4] == "doc_"
    )
    assert (document.status, document.attributes) == ("completed", {"n": 1})
    assert document.chunking_strategy is not None
    assert document.chunking_strategy.type == "other"
    (result, *_) = client.vector_stores.search(store.id, query="part 4711")
    assert (result.file_id, result.filename) == (document.id, "parts.txt")
    files = client.vector_stores.files
    assert files.update(document.id, vector_store_id=store.id, attributes={"n": 2}).attributes == {"n": 2}
    assert [one.text for one in files.content(document.id, vector_store_id=store.id)] == [PARTS[1]]
    assert files.delete(document.id, vector_store_id=store.id).deleted
    assert found(client, store, "part 4711") == ["winter.md"]


def test_a_file_is_cut_as_it_is_asked_to_be(client: OpenAI) -> None:
    """By the sizes sent, brought down to what the model reads; `auto` by those of the vector store."""
    text = " ".join(f"Sentence {n} tells of the pump." for n in range(120))
    own: Any = {"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 50}}
    store = client.vector_stores.create(chunking_strategy=own)

    def cut(**strategy: Any) -> tuple[int, int, int]:
        one = put(client, store, "long.txt", text, **strategy)
        assert one.chunking_strategy is not None
        assert one.chunking_strategy.type == "static"
        sizes = one.chunking_strategy.static
        filters: Any = {"type": "eq", "key": "n", "value": 1}
        client.vector_stores.files.update(one.id, vector_store_id=store.id, attributes={"n": 1})
        parts = found(client, store, "pump", filters=filters, max_num_results=50)
        client.vector_stores.files.delete(one.id, vector_store_id=store.id)
        return sizes.max_chunk_size_tokens, sizes.chunk_overlap_tokens, len(parts)

    small: Any = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}}
    large: Any = {"type": "static", "static": {"max_chunk_size_tokens": 4096, "chunk_overlap_tokens": 2048}}
    ours, fine, whole = cut(), cut(chunking_strategy=small), cut(chunking_strategy=large)
    assert (ours[:2], cut(chunking_strategy={"type": "auto"})) == ((200, 50), ours)
    assert (fine[:2], whole[:2]) == ((100, 0), (254, 127))
    assert fine[2] > ours[2]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"expires_after": {"anchor": "last_active_at", "days": 1}}, "expires_after"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"metadata": {"k" * 65: "v"}}, f"metadata.{'k' * 65}.[key]"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"name": "a/b"}, "name"),
        (
            {
                "chunking_strategy": {
                    "type": "static",
                    "static": {"max_chunk_size_tokens": 99, "chunk_overlap_tokens": 0},
                }
            },
            "chunking_strategy.static.max_chunk_size_tokens",
        ),
        (
            {
                "chunking_strategy": {
                    "type": "static",
                    "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 101},
                }
            },
            "chunking_strategy.static",
        ),
        ({"chunking_strategy": {"type": "other"}}, "chunking_strategy.type"),
        ({"extra_body": {"nonsense": 1}}, "nonsense"),
    ],
)
def test_a_store_that_cannot_be_is_refused(client: OpenAI, body: dict[str, Any], param: str) -> None:
    """Typed, with the field at fault; nothing was made."""
    before = [one.id for one in client.vector_stores.list()]
    with pytest.raises(openai.UnprocessableEntityError) as error:
        client.vector_stores.create(**body)
    assert refusal(error) == (422, "invalid_input", param)
    assert [one.id for one in client.vector_stores.list()] == before


def test_what_is_wrong_is_told_by_the_kind_of_error(client: OpenAI, store: Any) -> None:
    """The SDK's own classes, with a code for programs."""
    with pytest.raises(openai.ConflictError) as taken:
        client.vector_stores.create(name=store.name)
    assert refusal(taken) == (409, "already_exists", "name")
    before = [one.id for one in client.vector_stores.list()]
    with pytest.raises(openai.NotFoundError) as none:
        client.vector_stores.create(file_ids=["file_none"])
    assert refusal(none) == (404, "not_found", "file_id")
    assert [one.id for one in client.vector_stores.list()] == before
    missing: list[Callable[[], Any]] = [
        lambda: client.vector_stores.retrieve("kb_none"),
        lambda: client.vector_stores.delete("kb_none"),
        lambda: client.vector_stores.search("kb_none", query="a"),
        lambda: client.vector_stores.files.create(store.id, file_id="file_none"),
        lambda: client.vector_stores.files.retrieve("file_none", vector_store_id=store.id),
        lambda: client.vector_stores.files.update("doc_none", vector_store_id=store.id, attributes={}),
        lambda: client.vector_stores.files.delete("doc_none", vector_store_id=store.id),
        lambda: client.vector_stores.file_batches.retrieve("job_none", vector_store_id=store.id),
        lambda: client.vector_stores.file_batches.cancel("job_none", vector_store_id=store.id),
    ]
    for call in missing:
        with pytest.raises(openai.NotFoundError) as error:
            call()
        assert error.value.code == "not_found"
    search = client.vector_stores.search
    options: Any = {"score_threshold": 1.5}
    faults: list[tuple[Callable[[], Any], str]] = [
        (lambda: search(store.id, query=""), "query"),
        (lambda: search(store.id, query="a", max_num_results=51), "max_num_results"),
        (lambda: search(store.id, query="a", rewrite_query=True), "rewrite_query"),
        (lambda: search(store.id, query="a", ranking_options=options), "ranking_options.score_threshold"),
        (lambda: client.vector_stores.file_batches.create(store.id, file_ids=[]), "file_ids"),
        (lambda: client.vector_stores.list(limit=101), "limit"),
        (lambda: client.files.create(file=("a.txt", b"a"), purpose="x"), "purpose"),  # type: ignore[arg-type]
        (
            lambda: client.files.create(
                file=("a.txt", b"a"),
                purpose="batch",
                expires_after={"anchor": "created_at", "seconds": 3600},
            ),
            "expires_after",
        ),
    ]
    for call, param in faults:
        with pytest.raises(openai.UnprocessableEntityError) as fault:
            call()
        assert fault.value.param == param
    with pytest.raises(openai.UnprocessableEntityError) as unfit:
        search(store.id, query="a", filters={"type": "like", "key": "k", "value": 1})  # type: ignore[typeddict-item]
    assert refusal(unfit) == (422, "invalid_filter", "filters.type")


def test_embeddings_are_the_vectors_of_the_service(client: OpenAI, service: Any) -> None:
    """As numbers or as base64 (the SDK's own choice), of unit length, in order; tokens are the model's."""
    texts = ["Open the brine valve first.", "Bei Frost läuft die Pumpe.", "x" * 5000, "\U0001f6a7"]
    own = service.embedder(MODEL)
    expected = own.embed_passages(texts)
    numbers = client.embeddings.create(model=MODEL, input=texts, encoding_format="float")
    packed = client.embeddings.create(model=MODEL, input=texts)
    for answer in (numbers, packed):
        assert [one.index for one in answer.data] == [0, 1, 2, 3]
        made = np.array([one.embedding for one in answer.data], np.float32)
        np.testing.assert_array_equal(made, expected)
    tokens = [min(len(own.token_starts(text)), own.max_tokens) for text in texts]
    assert (numbers.model, numbers.usage.prompt_tokens) == (MODEL, sum(tokens))
    alone = client.embeddings.create(model=MODEL, input=texts[0], dimensions=384, user="somebody")
    assert len(alone.data) == 1
    assert float(np.dot(alone.data[0].embedding, expected[0])) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"model": "text-embedding-3-small", "input": "a"}, 404, "model_not_found", "model"),
        ({"model": "/etc", "input": "a"}, 404, "model_not_found", "model"),
        ({"model": MODEL, "input": ""}, 422, "invalid_input", "input"),
        ({"model": MODEL, "input": []}, 422, "invalid_input", "input"),
        ({"model": MODEL, "input": ["a", " "]}, 422, "invalid_input", "input"),
        ({"model": MODEL, "input": [1, 2]}, 422, "invalid_input", "input"),
        ({"model": MODEL, "input": [[1, 2]]}, 422, "invalid_input", "input"),
        ({"model": MODEL, "input": ["a"] * 2049}, 422, "invalid_input", "input"),
        ({"model": MODEL, "input": "a", "dimensions": 64}, 422, "invalid_input", "dimensions"),
    ],
)
def test_embeddings_that_cannot_be_are_refused(
    client: OpenAI, body: dict[str, Any], status: int, code: str, param: str
) -> None:
    """A model that is not at work here is unknown, whatever the name stands for."""
    with pytest.raises(openai.APIStatusError) as error:
        client.embeddings.create(**body)
    assert refusal(error) == (status, code, param)


def test_all_of_it_outlives_a_kill(serve: Callable[[], Any], until: Callable[..., Any]) -> None:
    """What was accepted goes in after the next start; ids, attributes and bytes are as they were."""
    first = serve()
    client = client_of(first)
    store = client.vector_stores.create(name="kept", metadata={"a": "b"})
    done = put(client, store, *PARTS, attributes={"n": 1})
    files = [upload(client, f"{n}.txt", f"Valve number {n} opens at {n} bar.") for n in range(20)]
    batch = client.vector_stores.file_batches.create(
        store.id, file_ids=[one.id for one in files], attributes={"late": True}
    )
    first.kill()

    again = client_of(serve())
    again.vector_stores.file_batches.poll(batch.id, vector_store_id=store.id, poll_interval_ms=50)
    counted = again.vector_stores.retrieve(store.id)
    assert (counted.metadata, counted.file_counts.completed) == ({"a": "b"}, 21)
    assert again.files.content(done.id).read() == PARTS[1].encode()
    assert again.vector_stores.files.retrieve(done.id, vector_store_id=store.id).attributes == {"n": 1}
    late: Any = {"type": "eq", "key": "late", "value": True}
    assert found(again, store, "Valve number 17", filters=late, max_num_results=1) == ["17.txt"]


def test_a_cancelled_batch_keeps_what_is_in(client: OpenAI, store: Any) -> None:
    """And nothing else of it ever comes in."""
    ids = [upload(client, f"{n}.txt", f"Lamp {n}.").id for n in range(30)]
    batch = client.vector_stores.file_batches.create(store.id, file_ids=ids)
    ended = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
    assert ended.file_counts.in_progress == 0
    assert ended.file_counts.completed + ended.file_counts.cancelled == 30
    # A later one is done after it.
    put(client, store, *PARTS)
    later = client.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store.id)
    assert (later.status, later.file_counts) == (ended.status, ended.file_counts)
    lamps = found(client, store, "Lamp", max_num_results=50)
    assert len(lamps) == ended.file_counts.completed + 1
