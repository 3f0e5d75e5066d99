"""Everything that can go wrong, as one short tree.

KbError
├── InvalidInput                 the caller can mend it; `param` names the field
│   ├── InvalidFilter
│   ├── WindowExceeded           more than a language model reads at once
│   └── AddressRefused           no address of the public network, nor one that the operator opened
├── NotFound
│   └── ModelNotFound            no model of that name is at work here
├── AlreadyExists
├── NotAllowed                   the key may not call this model, or not at this tier
├── InsufficientCredits          the key has not enough left for what the call may cost
├── DocumentRefused              one document cannot go in; the others do
│   ├── UnsupportedFormat
│   ├── BrokenDocument           damaged, encrypted, or not what it claims to be
│   ├── NoText                   nothing to index, e.g. scanned pages without a text layer
│   └── TooLarge                 a size, page, time or memory limit was reached
├── ModelUnavailable             an embedding model cannot be loaded or verified
├── NoEndpoint                   no language model can be called until an operator sets one up
├── UpstreamFailed               the endpoint of a language model failed, or cannot be reached
│   ├── UpstreamRefused          what was sent is not taken there; `code` is the endpoint's
│   ├── UpstreamBusy             it is asked too much; `after` tells when to come again
│   └── UpstreamTimeout          it sent nothing in time
├── RemoteFailed                 a server of others, of tools or pages, failed or cannot be reached
│   └── RemoteTimeout            it did not answer in time
├── ModelMismatch                vectors or settings of another model were offered
│   ├── DimensionMismatch
│   └── ModelChanged             the knowledge base came under another model meanwhile
├── IndexCorrupt                 a checkpoint failed its checksum; it is rebuilt from the catalog
├── CatalogCorrupt               the database is damaged; a backup is to be restored
├── StorageFailed                the disk refused; what was acknowledged before is safe
│   └── StorageFull              it has no room
├── DataFolderInUse              another server holds the data folder
└── Interrupted                  the process was asked to stop before the work was done

Messages say what to do. HTTP statuses are chosen at the edge, in `api/errors.py`.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EIO, errno.EROFS}
# SQLite, FAISS and tantivy have errors of their own, which tell the system's in words.
_FULL_TEXT = re.compile("No space left|disk is full|quota exceeded", re.IGNORECASE)
_REFUSED_TEXT = re.compile(
    "Input/output error|disk I/O error|Read-only file system|readonly database|unable to open database"
    # Of a thread of tantivy that met it: the error itself stays there.
    "|io::Error",
    re.IGNORECASE,
)
_DAMAGED_TEXT = re.compile(
    "disk image is malformed|malformed database schema|file is not a database|unsupported file format"
)


class KbError(Exception):
    """Base of every error this library raises on purpose."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidInput(KbError):
    """An argument is malformed or out of range; `param` names it."""


class InvalidFilter(InvalidInput):
    """A filter does not follow the grammar of `kb.search.filters`."""


class WindowExceeded(InvalidInput):
    """A call has more tokens than its model reads, or leaves no room for what it asks for."""


class AddressRefused(InvalidInput):
    """An address that a user, a model or a page named may not be asked."""


class NotFound(KbError):
    """No such knowledge base, document, version, file, job, key or embedder."""


class ModelNotFound(NotFound):
    """No knowledge base is under a model of that name, and it is not the default."""


class AlreadyExists(KbError):
    """The name is taken."""


class NotAllowed(KbError):
    """The key that a call is made with is limited to others."""


class InsufficientCredits(KbError):
    """The budget of the key does not hold what the call may cost at the most."""


class DocumentRefused(KbError):
    """This document cannot be ingested; its message is the reason shown to the user, `kind` its kind."""

    kind = "refused"


class UnsupportedFormat(DocumentRefused):
    """No parser for the sniffed media type."""

    kind = "unsupported_format"


class BrokenDocument(DocumentRefused):
    """The bytes are damaged, encrypted, or not what they claim to be."""

    kind = "broken"


class NoText(DocumentRefused):
    """The document holds no text, as scanned pages without a text layer do."""

    kind = "no_text"


class TooLarge(DocumentRefused):
    """A limit on size, expansion, time or memory was reached while parsing."""

    kind = "too_large"


class ModelUnavailable(KbError):
    """An embedding model cannot be found, exported, verified or loaded."""


class NoEndpoint(KbError):
    """No endpoint is set up for a language model."""


class UpstreamFailed(KbError):
    """An endpoint gave no answer, after every try that made sense."""


class UpstreamRefused(UpstreamFailed):
    """An endpoint takes no such request. code: its word for the reason, e.g. context_length_exceeded."""

    def __init__(self, message: str, *, param: str | None = None, code: str) -> None:
        super().__init__(message, param=param)
        self.code = code


class UpstreamBusy(UpstreamFailed):
    """An endpoint is asked too much. after: seconds that it asked to wait, where it told them."""

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class UpstreamTimeout(UpstreamFailed):
    """An endpoint sent nothing in time."""


class RemoteFailed(KbError):
    """A server of others gave no answer that can be used."""


class RemoteTimeout(RemoteFailed):
    """It did not answer in time; whether it did what it was asked to is not known."""


class ModelMismatch(KbError):
    """Vectors or settings of one model were offered to another."""


class DimensionMismatch(ModelMismatch):
    """A vector's length is not the index's."""


class ModelChanged(ModelMismatch):
    """The knowledge base was switched to another model meanwhile; read it anew and go on."""


class IndexCorrupt(KbError):
    """A checkpoint does not match its manifest."""


class CatalogCorrupt(KbError):
    """The catalog is no database any more, or contradicts itself."""


class StorageFailed(KbError):
    """The disk refused to read or write; what was to be done is not done."""


class StorageFull(StorageFailed):
    """The disk is full; nothing acknowledged was lost."""


class DataFolderInUse(KbError):
    """Another server runs on this data folder."""


class Interrupted(KbError):
    """A stop was requested; what was committed stays."""


@contextmanager
def storage() -> Iterator[None]:
    """Whatever library meets it: a full disk becomes StorageFull, one that refuses StorageFailed, and
    a database that is none any more CatalogCorrupt."""
    try:
        yield
    except KbError:
        raise
    except Exception as error:
        numbers, texts = set(), []
        cause: BaseException | None = error
        while cause is not None:
            numbers.add(getattr(cause, "errno", None))
            texts.append(str(cause))
            cause = cause.__cause__
        said = " ".join(texts)
        if numbers & _FULL or _FULL_TEXT.search(said):
            raise StorageFull(
                "the disk is full; free some space and run again, nothing stored is lost"
            ) from error
        if _DAMAGED_TEXT.search(said):
            raise CatalogCorrupt(
                "the catalog is damaged; move it away and restore a backup (kb restore FILE), "
                "or ingest into an empty --data-dir"
            ) from error
        if numbers & _REFUSED or _REFUSED_TEXT.search(said):
            raise StorageFailed(
                f"the disk refused ({texts[0].splitlines()[0]}); nothing stored is lost: "
                "see that it is sound, writable and has room, and run again"
            ) from error
        raise
