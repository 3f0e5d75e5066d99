"""Everything that can go wrong, as one short tree.

KbError
├── InvalidInput                 the caller can mend it; `param` names the field
│   └── InvalidFilter
├── NotFound
├── AlreadyExists
├── DocumentRefused              one document cannot go in; the others do
│   ├── UnsupportedFormat
│   ├── BrokenDocument           damaged, encrypted, or not what it claims to be
│   ├── NoText                   nothing to index, e.g. scanned pages without a text layer
│   └── TooLarge                 a size, page, time or memory limit was reached
├── ModelUnavailable             an embedding model cannot be loaded or verified
├── ModelMismatch                vectors or settings of another model were offered
│   ├── DimensionMismatch
│   └── ModelChanged             the knowledge base came under another model meanwhile
├── IndexCorrupt                 a checkpoint failed its checksum; it is rebuilt from the catalog
├── StorageFull                  the disk has no room; what was acknowledged is safe
├── DataFolderInUse              another server holds the data folder
└── Interrupted                  the process was asked to stop before the work was done

Messages say what to do. HTTP statuses are chosen at the edge, in `api/errors.py`.
"""


class KbError(Exception):
    """Base of every error this library raises on purpose."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidInput(KbError):
    """An argument is malformed or out of range; `param` names it."""


class InvalidFilter(InvalidInput):
    """A filter does not follow the grammar of `kb.search.filters`."""


class NotFound(KbError):
    """No such knowledge base, document, version, job or key."""


class AlreadyExists(KbError):
    """The name is taken."""


class DocumentRefused(KbError):
    """This document cannot be ingested; its message is the reason shown to the user."""


class UnsupportedFormat(DocumentRefused):
    """No parser for the sniffed media type."""


class BrokenDocument(DocumentRefused):
    """The bytes are damaged, encrypted, or not what they claim to be."""


class NoText(DocumentRefused):
    """The document holds no text, as scanned pages without a text layer do."""


class TooLarge(DocumentRefused):
    """A limit on size, expansion, time or memory was reached while parsing."""


class ModelUnavailable(KbError):
    """An embedding model cannot be found, exported, verified or loaded."""


class ModelMismatch(KbError):
    """Vectors or settings of one model were offered to another."""


class DimensionMismatch(ModelMismatch):
    """A vector's length is not the index's."""


class ModelChanged(ModelMismatch):
    """The knowledge base was switched to another model meanwhile; read it anew and go on."""


class IndexCorrupt(KbError):
    """A checkpoint does not match its manifest."""


class StorageFull(KbError):
    """The disk is full; nothing acknowledged was lost."""


class DataFolderInUse(KbError):
    """Another server runs on this data folder."""


class Interrupted(KbError):
    """A stop was requested; what was committed stays."""
