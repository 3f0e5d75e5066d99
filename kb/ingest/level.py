"""Brings a knowledge base level with a source: new files go in, moved ones follow, gone ones leave."""

import json
from collections.abc import Callable, Sequence

from kb.catalog import Catalog
from kb.ingest.pipeline import Pipeline, Tally
from kb.ingest.source import Incoming, Wanted, plan
from kb.types import Attributes, IngestReport

Progress = Callable[[int, int, int], None]
"""Called with documents done, documents in all, and texts embedded so far."""


def silent(done: int, total: int, embedded: int) -> None:
    """Progress that nobody watches."""


def level(
    catalog: Catalog,
    pipeline: Pipeline,
    kb_id: str,
    source_id: str,
    files: Sequence[Incoming],
    *,
    whole: bool,
    attributes: Attributes | None,
    progress: Progress,
) -> IngestReport:
    """Compare by content, and do only what differs.

    whole: the files are all of the source; what the catalog knows besides is removed. attributes: for
    every document, or None to leave those that are known as they are.
    """
    known = catalog.documents.known(source_id)
    todo = plan(files, known, whole=whole)
    tally = Tally(
        documents=len(todo.unchanged) + len(todo.renamed),
        unchanged=len(todo.unchanged),
        renamed=len(todo.renamed),
        removed=len(todo.gone),
    )
    if whole:
        catalog.store.clear_failures(source_id)
    for failure in todo.unreadable:
        pipeline.refuse(failure, tally)
    for content_id, file in todo.renamed:
        catalog.store.rename(content_id, file.uri)
    if todo.gone:
        catalog.store.remove(kb_id, todo.gone)
    if attributes is not None:
        present = {*todo.unchanged, *(content_id for content_id, _ in todo.renamed)}
        # As JSON: to Python 1 and true are equal.
        wanted = json.dumps(attributes, sort_keys=True)
        stale = {
            old.content_id for old in known.values() if json.dumps(old.attributes, sort_keys=True) != wanted
        }
        catalog.store.set_attributes(kb_id, dict.fromkeys(present & stale, attributes))
    incoming = [Wanted(file, attributes or {}) for file in todo.added]
    incoming += [
        Wanted(file, known[file.uri].attributes if attributes is None else attributes)
        for file in todo.changed
    ]
    pipeline.run(incoming, tally, lambda done, embedded: progress(done, len(incoming), embedded))
    return tally.report()
