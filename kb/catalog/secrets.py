"""Random values that belong to a data folder, for hashes that nobody outside of it can repeat."""

import secrets as random
from contextlib import suppress

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from kb.catalog.database import Database
from kb.catalog.schema import secrets

_BYTES = 32


class Secrets:
    """Rows of `secrets`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> bytes:
        """32 random bytes, the same for a name in every process and for as long as the catalog is there."""
        known = self._known(name)
        if known is not None:
            return known
        # Who comes second finds the name taken, and takes what the first one made.
        with suppress(IntegrityError), self._database.write() as connection:
            connection.execute(insert(secrets).values(name=name, value=random.token_bytes(_BYTES)))
        made = self._known(name)
        assert made is not None
        return made

    def _known(self, name: str) -> bytes | None:
        with self._database.read() as connection:
            found: bytes | None = connection.scalar(select(secrets.c.value).where(secrets.c.name == name))
            return found
