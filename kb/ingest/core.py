"""Trip 1 as a whole: the documents of a source, or those sent in, go into a knowledge base."""

from collections.abc import Iterable, Sequence
from functools import partial

from kb.catalog import Catalog
from kb.catalog.schema import FILES
from kb.embed.loaded import LoadedModels
from kb.ingest.level import Progress, level
from kb.ingest.pipeline import Parser, Pipeline, Tally
from kb.ingest.source import Incoming, Wanted
from kb.protocols import Embedder
from kb.search.indexes import Indexes
from kb.types import Attributes, IngestReport, Job, KnowledgeBase

# Documents sent in share one source: the same name again replaces the document.
_UPLOADS = "upload"


class IngestCore:
    """Takes documents in under the model that a knowledge base has at that moment; its indexes follow."""

    def __init__(self, catalog: Catalog, models: LoadedModels, indexes: Indexes) -> None:
        self._catalog = catalog
        self._models = models
        self._indexes = indexes

    def level(
        self,
        kb_id: str,
        source_uri: str,
        files: Sequence[Incoming],
        parser: Parser,
        *,
        whole: bool,
        attributes: Attributes | None,
        progress: Progress,
    ) -> IngestReport:
        """Bring a knowledge base level with a source; see `kb.ingest.level.level`."""
        source_id = self._catalog.store.source(kb_id, source_uri)
        report = level(
            self._catalog,
            self._pipeline(kb_id, source_id, parser),
            kb_id,
            source_id,
            files,
            whole=whole,
            attributes=attributes,
            progress=progress,
        )
        # Who called may close at once: the next start should find the index written.
        self._indexes.follow(kb_id).settle()
        return report

    def sent(self, job: Job, documents: Iterable[Wanted], parser: Parser) -> IngestReport:
        """Take in the documents of a job. Raises NotFound where the knowledge base is gone."""
        tally, kb_id = Tally(), job.knowledge_base_id
        attached = self._catalog.jobs.attaches(job.id)
        source_id = self._catalog.store.source(kb_id, FILES if attached else _UPLOADS)
        pipeline = self._pipeline(kb_id, source_id, parser, job.id if attached else None)
        pipeline.run(documents, tally, lambda done, embedded: None)
        self._indexes.follow(kb_id)
        return tally.report()

    def _pipeline(self, kb_id: str, source_id: str, parser: Parser, job_id: str | None = None) -> Pipeline:
        return Pipeline(self._catalog.store, partial(self._under, kb_id), parser, source_id, job_id)

    def _under(self, kb_id: str) -> tuple[KnowledgeBase, Embedder]:
        kb = self._catalog.knowledge_bases.get(kb_id)
        return kb, self._models.embedder_of(kb)
