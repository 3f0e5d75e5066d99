"""The tables of the catalog. `migrations/` brings a database to REVISION; a test holds the two together."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from kb.catalog.credits import Credits

REVISION = "0013"

# SQLite finds a row by its number at once where the key is an INTEGER, and through an index where it is not.
_Number = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _owner(table: str) -> ForeignKey:
    return ForeignKey(f"{table}.id", ondelete="CASCADE")


knowledge_bases = Table(
    "knowledge_bases",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("embedder", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("dim", Integer, nullable=False),
    Column("chunk_size", Integer),
    Column("chunk_overlap", Integer, nullable=False),
    Column("created_at", String(32), nullable=False),
    # NULL is the default, `kb.types.RECALL`.
    Column("recall", Float),
    # Its owner's own words by their own keys; NULL is none.
    Column("metadata", JSON),
)

# The models of a knowledge base beside the live one: `building`, and `previous`, which a rollback returns to.
# Their vectors are kept as those of the live one are.
models = Table(
    "models",
    metadata,
    Column("kb_id", String(64), _owner("knowledge_bases"), primary_key=True),
    Column("state", String(16), primary_key=True),
    Column("embedder", Text, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("dim", Integer, nullable=False),
    Column("created_at", String(32), nullable=False),
)

# The source of the documents that are made of files.
FILES = "files"

# Where documents come from: a folder, "upload" for what is sent in, or FILES.
sources = Table(
    "sources",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kb_id", String(64), _owner("knowledge_bases"), nullable=False),
    Column("uri", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
    UniqueConstraint("kb_id", "uri"),
)

contents = Table(
    "contents",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kb_id", String(64), _owner("knowledge_bases"), nullable=False),
    Column("source_id", String(64), _owner("sources"), nullable=False),
    Column("uri", Text, nullable=False),
    # The version that is visible. Older ones keep their text, so that an old citation still opens.
    Column("version_id", String(64), nullable=False),
    Column("attributes", JSON, nullable=False),
    Column("created_at", String(32), nullable=False),
    UniqueConstraint("source_id", "uri"),
    Index(None, "kb_id", "id"),
)

versions = Table(
    "versions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("content_id", String(64), _owner("contents"), nullable=False, index=True),
    Column("title", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("media_type", String(255), nullable=False),
    Column("byte_size", BigInteger, nullable=False),
    Column("characters", BigInteger, nullable=False),
    Column("pages", JSON, nullable=False),
    Column("headings", JSON, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("text", Text, nullable=False),
    # As `kb.language` detected it; NULL is unknown.
    Column("language", String(16)),
    # By `kb.tokens`; NULL where the version went in before they were counted.
    Column("tokens", BigInteger),
)

# Only the visible version of a content has chunks. `text` repeats versions.text[start:end], so that a hit
# from a book-sized document reads a kilobyte and not the book.
chunks = Table(
    "chunks",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),
    Column("kb_id", String(64), _owner("knowledge_bases"), nullable=False),
    Column("content_id", String(64), _owner("contents"), nullable=False, index=True),
    Column("version_id", String(64), _owner("versions"), nullable=False, index=True),
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("page", Integer),
    Column("heading", Text),
    Column("context", Text, nullable=False),
    Column("text_hash", LargeBinary(16), nullable=False, index=True),
    Column("text", Text, nullable=False),
    # By `kb.tokens`; NULL where the chunk went in before they were counted.
    Column("tokens", Integer),
    Index(None, "kb_id", "id"),
)

# float16, by what was embedded and by which model: a text is embedded once, wherever it stands.
vectors = Table(
    "vectors",
    metadata,
    Column("fingerprint", String(64), primary_key=True),
    Column("text_hash", LargeBinary(16), primary_key=True),
    Column("vector", LargeBinary, nullable=False),
    # CRC-32 of the bytes: any text tells its own damage by its hash, a vector by nothing else.
    Column("checksum", BigInteger),
)

# One row per attribute of a content; exactly one of text, number and flag is set.
attributes = Table(
    "attributes",
    metadata,
    Column("content_id", String(64), _owner("contents"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("kb_id", String(64), nullable=False),
    Column("text", String(512)),
    Column("number", Float),
    Column("flag", Boolean),
    Index(None, "kb_id", "key", "text"),
    Index(None, "kb_id", "key", "number"),
)

# The numbered feed that indexes follow: chunks first_chunk..last_chunk were added or removed.
changes = Table(
    "changes",
    metadata,
    Column("seq", _Number, primary_key=True, autoincrement=False),
    Column("kb_id", String(64), _owner("knowledge_bases"), nullable=False),
    Column("added", Boolean, nullable=False),
    Column("first_chunk", BigInteger, nullable=False),
    Column("last_chunk", BigInteger, nullable=False),
    Index(None, "kb_id", "seq"),
)

# Numbers handed out inside the writing transaction, so that they are gapless in commit order.
counters = Table(
    "counters",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

failures = Table(
    "failures",
    metadata,
    Column("source_id", String(64), _owner("sources"), primary_key=True),
    Column("uri", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
    # As in `kb.types.Failure`; NULL is unknown.
    Column("kind", String(32)),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kb_id", String(64), _owner("knowledge_bases"), nullable=False),
    Column("status", String(16), nullable=False, index=True),
    Column("files", Integer, nullable=False),
    Column("report", JSON),
    Column("error", Text),
    Column("created_at", String(32), nullable=False),
    Column("finished_at", String(32)),
)

# What a job still has to take in. The bytes lie here until then, so that a 202 survives a restart.
job_files = Table(
    "job_files",
    metadata,
    Column("job_id", String(64), _owner("jobs"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("attributes", JSON, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

# Files as they were sent in, to be attached to any knowledge base.
files = Table(
    "files",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("filename", Text, nullable=False),
    Column("purpose", String(64), nullable=False),
    Column("byte_size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", String(32), nullable=False),
    # The last one: a row's other columns are read without it.
    Column("data", LargeBinary, nullable=False),
)

# That a file is to be a document of a knowledge base, at the place `uri` of the source FILES, by the job that
# takes it in. How far that is follows from the job, the document and the quarantine: nothing here repeats it.
attachments = Table(
    "attachments",
    metadata,
    Column("kb_id", String(64), _owner("knowledge_bases"), primary_key=True),
    Column("file_id", String(64), _owner("files"), primary_key=True, index=True),
    Column("job_id", String(64), _owner("jobs"), nullable=False, index=True),
    Column("uri", Text, nullable=False),
    # Until the document is there; then its own are meant.
    Column("attributes", JSON, nullable=False),
    # Both NULL where it is cut by the policy of the knowledge base.
    Column("chunk_size", Integer),
    Column("chunk_overlap", Integer),
    # The version that was visible when a file was attached once more; another one is this attachment's.
    Column("replaces", String(64)),
    Column("created_at", String(32), nullable=False),
    Index(None, "kb_id", "uri"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    Column("created_at", String(32), nullable=False),
    # What it may call; NULL is everything.
    Column("models", JSON(none_as_null=True)),
    Column("tiers", JSON(none_as_null=True)),
    # Credits that it may spend, per day or month (UTC), or once and for all; NULL is no bound.
    Column("hard", Credits),
    Column("soft", Credits),
    Column("per", String(8)),
)

# Calls of language models, one row for each that went to an endpoint: written before it, settled once after.
# No foreign keys: what was spent stays, whatever becomes of the key and the knowledge bases.
calls = Table(
    "calls",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("run_id", String(128)),
    Column("key_id", String(64)),
    # Sorted, with commas between them; "" is none.
    Column("knowledge_base_ids", Text, nullable=False),
    Column("endpoint", String(128), nullable=False),
    Column("model", String(128), nullable=False),
    Column("tier_asked", String(16), nullable=False),
    # The one that answered; NULL while it is open.
    Column("tier", String(16)),
    Column("status", String(16), nullable=False),
    Column("error", String(64)),
    # While it is open: what the call is taken to have been, should nobody settle it.
    Column("input", BigInteger, nullable=False),
    Column("cached", BigInteger, nullable=False),
    Column("output", BigInteger, nullable=False),
    Column("reasoning", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("credits", Credits, nullable=False),
    # What it might have cost at the most.
    Column("reserved", Credits, nullable=False),
    Column("started_at", String(32), nullable=False, index=True),
    Column("finished_at", String(32)),
    # When it was made by a process that is no more, if it is open still.
    Column("expires_at", String(32), nullable=False),
    Index(None, "status", "expires_at"),
)

# The same by key and day on which calls began, so that a budget is looked at in a few rows however many
# calls there were; changed in the transactions that change `calls`.
spending = Table(
    "spending",
    metadata,
    Column("key_id", String(64), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("credits", Credits, nullable=False),
    # Of calls that are open.
    Column("reserved", Credits, nullable=False),
)

# Random values of this data folder, each made when first asked for.
secrets = Table(
    "secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

# Responses that are kept, and those that are being made. No foreign keys: one that others go on from can be
# deleted, and a key revoked.
responses = Table(
    "responses",
    metadata,
    Column("id", String(64), primary_key=True),
    # Whose it is; NULL is everybody's.
    Column("key_id", String(64)),
    # The one that it goes on from.
    Column("previous_id", String(64)),
    Column("created_at", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("body", JSON, nullable=False),
    Column("input", JSON, nullable=False),
    # [version, start, end] of each passage that was packed, so that the next one begins with the same.
    Column("places", JSON, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    # Until when it is believed to be at work; NULL is always.
    Column("expires_at", String(32)),
    # All that was streamed, as compressed JSON lines; NULL while it is running. The last one: a row's other
    # columns are read without it.
    Column("events", LargeBinary),
    Index(None, "status", "expires_at"),
)

# What one that is running has streamed, as it came.
response_events = Table(
    "response_events",
    metadata,
    Column("response_id", String(64), _owner("responses"), primary_key=True),
    Column("first_seq", BigInteger, primary_key=True),
    Column("last_seq", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

# Tool calls of a run: written before the call and after it, and so never made twice. No foreign key: a
# run that is not kept makes calls as well.
steps = Table(
    "steps",
    metadata,
    Column("response_id", String(64), primary_key=True),
    Column("call_id", String(128), primary_key=True),
    Column("label", String(64), nullable=False),
    Column("name", String(128), nullable=False),
    Column("arguments", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("output", Text),
    Column("started_at", String(32), nullable=False),
    Column("finished_at", String(32)),
    # One that was allowed has the id of its approval, whichever response goes on with it.
    Index(None, "call_id", unique=True),
)

# Calls that wait for a person's yes. digest: of the server, the tool's definition and the arguments, which
# the yes is bound to. continued_by: the response that goes on after the word that was said.
approvals = Table(
    "approvals",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("response_id", String(64), nullable=False, index=True),
    Column("key_id", String(64)),
    Column("call_id", String(128), nullable=False),
    Column("label", String(64), nullable=False),
    Column("name", String(128), nullable=False),
    Column("arguments", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", Text),
    Column("created_at", String(32), nullable=False),
    Column("decided_at", String(32)),
    Column("continued_by", String(64)),
)

# That a document was deleted. No foreign key: a receipt outlives its knowledge base, and nothing in it
# tells the text; sha256 is that of the bytes, so that whoever still holds them can name what was deleted.
receipts = Table(
    "receipts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kb_id", String(64), nullable=False),
    Column("content_id", String(64), nullable=False),
    Column("deleted_at", String(32), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Index(None, "kb_id", "id"),
)
