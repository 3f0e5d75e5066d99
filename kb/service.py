"""The Python API: puts the parts together, and leaves their work to them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from kb.catalog import Catalog
from kb.catalog.attachments import Attachment
from kb.catalog.attributes import checked
from kb.catalog.jobs import JobFile
from kb.content.core import Contents
from kb.context.core import ContextCore, PackedContext
from kb.context.pack import Place
from kb.embed.loaded import LoadedModels
from kb.errors import InvalidInput, ModelNotFound, ModelUnavailable, NotFound, storage
from kb.gateway.core import Gateway
from kb.gateway.endpoints import Endpoints
from kb.index.manifest import make_folder
from kb.ingest import source
from kb.ingest.chunk import check_policy, default_policy, fitting
from kb.ingest.core import IngestCore
from kb.ingest.jobs import JobRunner
from kb.ingest.level import Progress, silent
from kb.ingest.pipeline import Parser
from kb.ingest.reembed import Judge, ModelChange
from kb.ingest.sandbox import ParserProcess
from kb.ingest.source import Incoming
from kb.metering.ledger import Ledger
from kb.models.registry import ModelCatalog
from kb.protocols import Embedder, Reranker, WebSearch
from kb.remote.connectors import Connectors
from kb.search.columns import FilterKey
from kb.search.core import SearchCore
from kb.search.explain import Explainer
from kb.search.indexes import Indexes
from kb.search.live import undisturbed
from kb.search.rerank import Rerank
from kb.search.shape import MAX_TOP_K, Shape
from kb.settings import Settings
from kb.types import (
    Attributes,
    AttributeValue,
    ChunkingPolicy,
    Content,
    Expand,
    Explanation,
    Failure,
    Filter,
    IngestReport,
    Job,
    KnowledgeBase,
    Mode,
    Receipt,
    Reembedded,
    SearchResult,
)
from kb.web.brave import BraveSearch
from kb.web.guard import Guard
from kb.web.page import PARSE_SECONDS, Pages
from kb.web.remembered import RememberedSearch
from kb.web.research import Research
from kb.web.searxng import SearxngSearch

if TYPE_CHECKING:
    from kb.index.tune import Tuned
    from kb.upkeep.check import Report

# Of a context: a chunk of the default size with its reference.
_TOKENS_PER_HIT = 150


class Service:
    """Knowledge bases in one data folder. Thread-safe; several processes may share the folder."""

    def __init__(self, settings: Settings) -> None:
        with storage():
            make_folder(settings.data_dir)
        self.settings = settings
        self.catalog = Catalog(settings.database_url)
        self.language_models = ModelCatalog.read(settings.model_catalog)
        self.ledger = Ledger(self.catalog.calls, self.catalog.usage, self.language_models)
        self.endpoints = Endpoints.read(settings.endpoints)
        self.connectors = Connectors.read(settings.connectors)
        self._models = LoadedModels(settings.models_dir, threads=settings.threads, reranker=settings.reranker)
        self._indexes = Indexes(settings.indexes_dir, self.catalog)
        self._ingest = IngestCore(self.catalog, self._models, self._indexes)
        # Jobs follow each other, and to start a parser takes longer than most of them.
        self._job_parser = ParserProcess()
        self._web_parser = ParserProcess(seconds=PARSE_SECONDS, command=("-m", "kb.web.extract"))
        self.jobs = JobRunner(
            self.catalog.jobs,
            partial(self._ingest.sent, parser=self._job_parser),
            self._job_parser.close,
            settings.data_dir / "jobs.lock",
        )
        self._search = SearchCore(
            self.catalog.documents, self._models.embed_queries, self._indexes.live, self._models.reranker
        )
        self.contents = Contents(self.catalog.versions)
        self._context = ContextCore(self.catalog.versions, self.contents)
        self._explainer = Explainer(self._search, self.catalog.documents)
        self._change = ModelChange(self.catalog, self._models, self._indexes, settings.dense_weight)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release files and connections. What was acknowledged is on the disk already."""
        self._indexes.close()
        self._job_parser.close()
        self._web_parser.close()
        self.catalog.close()

    @cached_property
    def gateway(self) -> Gateway:
        """Calls language models, wherever the settings say; whoever used it closes it."""
        return self.new_gateway()

    @cached_property
    def web(self) -> Research:
        """Search of the web. Raises InvalidInput where no engine is set."""
        settings = self.settings
        engine: WebSearch
        if settings.web_search_url:
            engine = SearxngSearch(settings.web_search_url)
        elif settings.web_search_key_file:
            engine = BraveSearch(settings.web_search_key_file)
        else:
            raise InvalidInput(
                "no search engine is set: start with KB_WEB_SEARCH_URL or KB_WEB_SEARCH_KEY_FILE",
                param="tools",
            )
        pages = Pages(Guard(settings.web_networks), self._web_parser)
        return Research(
            RememberedSearch(engine), pages, partial(self.embedder, settings.model), settings.dense_weight
        )

    def new_gateway(self) -> Gateway:
        """Another one: the connections of each belong to one event loop."""
        return Gateway(self.endpoints, self.ledger, self.catalog.secrets.get("callers"))

    # Knowledge bases

    def create_knowledge_base(
        self,
        name: str,
        *,
        description: str = "",
        embedder: str | None = None,
        chunking: ChunkingPolicy | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> KnowledgeBase:
        """A new, empty knowledge base under an embedding model (by name or path) and a chunking policy.

        Raises NotFound where the embedder named cannot serve, ModelUnavailable where the default cannot.
        """
        model = embedder or self.settings.model
        try:
            loaded = self.embedder(model)
        except ModelUnavailable as error:
            if embedder is None:
                raise
            raise NotFound(str(error), param="embedder") from error
        policy = chunking or default_policy(loaded.max_tokens)
        check_policy(policy, loaded.max_tokens)
        return self.catalog.knowledge_bases.create(
            name,
            embedder=model,
            fingerprint=loaded.fingerprint,
            dim=loaded.dim,
            chunking=policy,
            description=description,
            metadata=metadata,
        )

    def knowledge_bases(self) -> list[KnowledgeBase]:
        """Every knowledge base with its counts, by name."""
        return self.catalog.knowledge_bases.all()

    def knowledge_base(self, name_or_id: str) -> KnowledgeBase:
        """One, with its counts. Raises NotFound."""
        found = self.catalog.knowledge_bases.get(name_or_id)
        return next(kb for kb in self.knowledge_bases() if kb.id == found.id)

    def filter_keys(self, kb: str) -> list[FilterKey]:
        """The attributes that the documents of a knowledge base can be filtered by. Raises NotFound."""
        return self._indexes.live(self.catalog.knowledge_bases.get(kb)).columns.keys()

    def change_knowledge_base(
        self,
        name_or_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        recall: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> KnowledgeBase:
        """Rename, describe anew, set the recall target or the metadata; None leaves a field as it is.

        To another target the index comes in the background, here and in every process; `tune` waits for it.
        """
        kb = self.catalog.knowledge_bases.get(name_or_id)
        changed = self.catalog.knowledge_bases.change(
            kb.id, name=name, description=description, recall=recall, metadata=metadata
        )
        if recall is not None:
            self._indexes.live(changed)
        return self.knowledge_base(kb.id)

    def delete_knowledge_base(self, name_or_id: str) -> KnowledgeBase:
        """Remove it with its documents, texts, vectors and indexes; returns what it was."""
        kb = self.knowledge_base(name_or_id)
        self.catalog.knowledge_bases.delete(kb.id)
        self._indexes.remove(kb.id)
        return kb

    # Documents

    def ingest(
        self,
        path: Path | str,
        kb: str,
        *,
        attributes: Mapping[str, AttributeValue] | None = None,
        progress: Progress | None = None,
    ) -> IngestReport:
        """Bring a knowledge base level with a folder (or one file of it), making it if need be.

        New and changed files go in, moved ones keep their vectors, those gone are removed; a file that
        cannot go in is in the report with its reason. Raises InvalidInput when nothing is there.
        """
        root, files = source.find(Path(path).expanduser().resolve())
        given = None if attributes is None else checked(attributes)
        target = self._existing(kb) or self.create_knowledge_base(kb)
        whole = root == Path(path).expanduser().resolve()
        with ParserProcess() as parser:
            return self.level(
                target, root.as_uri(), files, parser, whole=whole, attributes=given, progress=progress
            )

    def level(
        self,
        kb: KnowledgeBase,
        source_uri: str,
        files: Sequence[Incoming],
        parser: Parser,
        *,
        whole: bool = True,
        attributes: Attributes | None = None,
        progress: Progress | None = None,
    ) -> IngestReport:
        """Bring a knowledge base level with any source, as `ingest` does with a folder."""
        return self._ingest.level(
            kb.id, source_uri, files, parser, whole=whole, attributes=attributes, progress=progress or silent
        )

    def submit(self, kb: str, files: Sequence[JobFile]) -> Job:
        """Accept documents for ingestion in the background: when this returns they survive a crash."""
        job = self.catalog.jobs.create(self.catalog.knowledge_bases.get(kb).id, files)
        self.jobs.notify()
        return job

    def attach(self, kb: str, files: Sequence[Attachment]) -> Job:
        """Accept files that are in the catalog as documents, as `submit` does.

        A policy's size and overlap are brought down to what the model of the knowledge base can read.
        """
        found = self.catalog.knowledge_bases.get(kb)
        if any(file.chunking for file in files):
            limit = self._models.embedder_of(found).max_tokens
            files = [replace(file, chunking=fitting(file.chunking, limit)) for file in files]
        job_id = self.catalog.attachments.attach(found.id, files)
        self.jobs.notify()
        return self.catalog.jobs.get(job_id)

    def document(self, kb: str, content_id: str) -> Content:
        """Raises NotFound."""
        return self.catalog.documents.get(self.catalog.knowledge_bases.get(kb).id, content_id)

    def documents(self, kb: str, *, limit: int = 100, after: str | None = None) -> list[Content]:
        """Documents in order of their ids, starting behind `after`."""
        if not 1 <= limit <= 1000:
            raise InvalidInput("limit must be 1 to 1000", param="limit")
        return self.catalog.documents.page(self.catalog.knowledge_bases.get(kb).id, limit=limit, after=after)

    def failures(self, kb: str) -> list[Failure]:
        """Documents that were refused, with their reasons; the next ingest tries them again."""
        return self.catalog.documents.failures(self.catalog.knowledge_bases.get(kb).id)

    def delete_document(self, kb: str, content_id: str) -> Content:
        """Remove a document with every version of it; returns what it was. Raises NotFound."""
        content = self.document(kb, content_id)
        self.catalog.store.remove(self.catalog.knowledge_bases.get(kb).id, [content_id])
        return content

    def text(self, content_version_id: str, start: int = 0, end: int | None = None) -> str:
        """text[start:end] of a version, in code points."""
        return self.contents.text(content_version_id, start, end)

    # Search

    def search(
        self,
        query: str | Sequence[str],
        kbs: Sequence[str],
        *,
        top_k: int = 10,
        mode: Mode = "hybrid",
        where: Filter | None = None,
        score_threshold: float | None = None,
        dense_weight: float | None = None,
        max_per_document: int | None = None,
        collapse_duplicates: bool = False,
        group_by: Literal["document"] | None = None,
        expand: Expand | None = None,
        least_similarity: float | None = None,
        explain: bool = False,
        rerank: Rerank | None = None,
    ) -> SearchResult:
        """The passages of some knowledge bases that answer best; see `kb.search.core.SearchCore.search`
        and, for what of them comes back, `kb.search.shape.Shape`. dense_weight: None for the setting.

        One answer is of one model: whoever is overtaken by a switch to another begins again.
        """
        shape = Shape(
            top_k,
            score_threshold,
            max_per_document,
            collapse_duplicates,
            group_by,
            expand,
            least_similarity,
        )
        weight = self.settings.dense_weight if dense_weight is None else dense_weight

        def ask() -> SearchResult:
            found = [self.catalog.knowledge_bases.get(name) for name in dict.fromkeys(kbs)]
            return self._search.search(
                list({kb.id: kb for kb in found}.values()),
                query,
                shape,
                mode=mode,
                where=where,
                dense_weight=weight,
                explain=explain,
                rerank=rerank,
            )

        return undisturbed(ask)

    def pack(
        self,
        query: str | Sequence[str],
        kbs: Sequence[str],
        budget: int,
        *,
        top_k: int | None = None,
        mode: Mode = "hybrid",
        where: Filter | None = None,
        least_similarity: float | None = None,
        dense_weight: float | None = None,
        before: Sequence[Place] = (),
        numbered_from: int = 1,
    ) -> PackedContext:
        """A context of at most so many tokens that answers a question: `kb.context.core.ContextCore.pack`.

        top_k: how many hits it is made of; None for as many as such a budget could hold. dense_weight,
        least_similarity: as in `search`; with the latter what says the same is packed as often as found.
        """
        most = top_k or min(MAX_TOP_K, max(10, budget // _TOKENS_PER_HIT))
        found = self.search(
            query,
            kbs,
            top_k=most,
            mode=mode,
            where=where,
            # A search does not do both.
            collapse_duplicates=least_similarity is None,
            least_similarity=least_similarity,
            dense_weight=dense_weight,
        )
        return self._context.pack(found.hits, budget, before, numbered_from)

    def explain(
        self,
        query: str,
        content_id: str,
        kb: str,
        *,
        top_k: int = 10,
        mode: Mode = "hybrid",
        where: Filter | None = None,
        score_threshold: float | None = None,
        dense_weight: float | None = None,
        max_per_document: int | None = None,
        collapse_duplicates: bool = False,
        group_by: Literal["document"] | None = None,
        rerank: Rerank | None = None,
    ) -> Explanation:
        """Why a document is, or is not, in what `search` gives for the same arguments. Raises NotFound."""
        shape = Shape(top_k, score_threshold, max_per_document, collapse_duplicates, group_by)
        weight = self.settings.dense_weight if dense_weight is None else dense_weight

        def ask() -> Explanation:
            found = self.catalog.knowledge_bases.get(kb)
            return self._explainer.explain(
                found, query, content_id, shape, mode=mode, where=where, dense_weight=weight, rerank=rerank
            )

        return undisturbed(ask)

    def warm(self) -> None:
        """Load models and indexes of every knowledge base, so that the first query need not."""
        for kb in self.knowledge_bases():
            self._models.batcher(kb)
            self._indexes.follow(kb.id).columns.follow()
        if self.settings.reranker:
            self.reranker()
        self.gateway.warm()

    def embedder(self, model: str) -> Embedder:
        """A model by name or path, loaded once; exported first if this data folder never used it."""
        return self._models.embedder(model)

    def model_in_use(self, name: str) -> Embedder:
        """The model of the settings or of a knowledge base, by exactly the name that it has there.

        Nothing is loaded that is not at work here already. Raises ModelNotFound.
        """
        if name == self.settings.model:
            return self.embedder(name)
        kbs = self.knowledge_bases()
        for kb in kbs:
            if kb.embedder == name:
                return self._models.embedder_of(kb)
        names = ", ".join(sorted({self.settings.model, *(kb.embedder for kb in kbs)}))
        raise ModelNotFound(f"no model {name!r} is at work here; there are: {names}", param="model")

    def reranker(self) -> Reranker:
        """The reranker of the settings, loaded once; exported first if this data folder never used it.

        Raises InvalidInput where none is set, ModelUnavailable where it cannot serve.
        """
        return self._models.reranker()

    # Another model

    def reembed(
        self,
        kb: str,
        model: str,
        *,
        judge: Judge | None = None,
        only_if_better: bool = False,
        progress: Progress | None = None,
    ) -> Reembedded:
        """Bring a knowledge base under another embedding model without a pause; `rollback` takes it back.

        Vectors and a dense index are built beside the live ones, and what is written meanwhile is followed;
        an interrupted run goes on where it stopped. Then one transaction makes the model live. The model
        that was live is kept, with its vectors and index, and one kept before is dropped. Documents are not
        cut anew.

        judge: compares both before the switch. only_if_better: stay where the new one is not better; what was
        built is kept for another run. progress: called with texts done, texts to do, and texts embedded.
        Raises InvalidInput, ModelUnavailable, ModelMismatch, or DataFolderInUse while another run is at work.
        """
        found = self.catalog.knowledge_bases.get(kb)
        return self._change.to(
            found, model, judge=judge, only_if_better=only_if_better, progress=progress or silent
        )

    def rollback(self, kb: str, *, progress: Progress | None = None) -> Reembedded:
        """Return to the model that was live before, in one transaction, after embedding with it what is new.

        The two change places, so that a second rollback undoes the first. Raises NotFound where none is kept.
        """
        return self._change.back(self.catalog.knowledge_bases.get(kb), progress or silent)

    def forget(self, kb: str) -> list[str]:
        """Drop the model that a rollback would return to, and one half built, with all they take on the disk.

        Returns their names. Raises DataFolderInUse while a reembed is at work.
        """
        return self._change.forget(self.catalog.knowledge_bases.get(kb))

    # Upkeep

    def tune(self, kb: str, recall: float | None = None) -> "Tuned":
        """Set the recall target of a knowledge base and bring its dense index to it; None only tells.

        No vector is written anew, and searches go on meanwhile. Every process finds the target in the catalog
        and takes over the effort that was found for it. Raises InvalidInput.
        """
        from kb.index.tune import Tuned

        found = self.catalog.knowledge_bases.get(kb)
        dense = self._indexes.dense(found)
        before = after = dense.cost()
        if recall is not None:
            found = self.catalog.knowledge_bases.change(found.id, recall=recall)
            dense.tune(wait=True)
            after = dense.cost()
        return Tuned(found.recall, before, after)

    def check(self, kb: str | None = None, *, repair: bool = False) -> "Report":
        """Check one knowledge base or all of them; see `kb.upkeep.check.check`."""
        from kb.upkeep.check import check

        kbs = self.knowledge_bases() if kb is None else [self.knowledge_base(kb)]
        report = check(self.catalog, self._indexes, kbs, repair=repair)
        if repair:
            self._indexes.reopen()
        return report

    def backup(self, file: Path) -> dict[str, Any]:
        """Write a snapshot of the catalog; see `kb.upkeep.backup.backup`."""
        import kb
        from kb.upkeep.backup import backup

        return backup(self.catalog.database.engine, self.settings.database_url, file, kb.__version__)

    def receipts(self, kb: str | None = None) -> list[Receipt]:
        """Receipts of deletions, oldest first; `kb` may be the id of a knowledge base that is gone."""
        found = self._existing(kb) if kb else None
        return self.catalog.receipts.all(found.id if found else kb)

    def follow(self) -> None:
        """Bring the indexes of every knowledge base level with the catalog."""
        for kb in self.knowledge_bases():
            self._indexes.follow(kb.id)

    def _existing(self, name: str) -> KnowledgeBase | None:
        with suppress(NotFound):
            return self.catalog.knowledge_bases.get(name)
        return None


def open(data_dir: Path | str | None = None) -> Service:
    """The service over a data folder, made on first use; see `Settings.read` for the rest."""
    return Service(Settings.read(data_dir))


__all__ = ["Progress", "Service", "open"]
