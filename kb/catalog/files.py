"""Files as they were sent in: bytes under a name, to be attached to any knowledge base."""

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, insert, select

from kb.catalog.database import Database, new_id, now
from kb.catalog.paging import Listed, Page, listed, paged
from kb.catalog.schema import files
from kb.errors import InvalidInput, NotFound
from kb.types import is_unicode

_PREFIX = "file_"
_DESCRIBED = select(*(column for column in files.c if column is not files.c.data))


@dataclass(frozen=True, slots=True)
class File:
    """Bytes that were sent in. purpose: what their sender wants them for; nothing here depends on it."""

    id: str
    filename: str
    purpose: str
    byte_size: int
    sha256: str
    created_at: str


class Files:
    """Rows of `files`. They are removed by `kb.catalog.attachments`, together with what was made of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, filename: str, purpose: str, data: bytes) -> File:
        """Keep bytes; when this returns they survive a crash. Raises InvalidInput."""
        if not filename.strip() or len(filename) > 512 or not is_unicode(filename):
            raise InvalidInput("a file's name is 1 to 512 characters", param="file")
        made = File(new_id("file"), filename, purpose, len(data), hashlib.sha256(data).hexdigest(), now())
        with self._database.write() as connection:
            values = {name: getattr(made, name) for name in made.__slots__}
            connection.execute(insert(files).values(**values, data=data))
        return made

    def get(self, file_id: str) -> File:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(_DESCRIBED.where(files.c.id == file_id)).one_or_none()
        if row is None:
            raise missing(file_id)
        return _file(row)

    def data(self, file_id: str) -> bytes:
        """The bytes, as they were sent. Raises NotFound."""
        with self._database.read() as connection:
            found = connection.scalar(select(files.c.data).where(files.c.id == file_id))
        if found is None:
            raise missing(file_id)
        return bytes(found)

    def page(self, page: Page, purpose: str | None = None) -> Listed:
        """Files in order of their ids, and so of time."""
        query = _DESCRIBED if purpose is None else _DESCRIBED.where(files.c.purpose == purpose)
        with self._database.read() as connection:
            rows = connection.execute(paged(query, files.c.id, page, _PREFIX)).all()
        return listed([_file(row) for row in rows], page)


def missing(file_id: str) -> NotFound:
    """The error for a file that is not there."""
    return NotFound(f"no file {file_id!r}", param="file_id")


def _file(row: Row[Any]) -> File:
    return File(row.id, row.filename, row.purpose, row.byte_size, row.sha256, row.created_at)
