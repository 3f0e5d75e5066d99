"""API keys: made once, kept as a hash, compared in constant time."""

import hmac
import secrets
from hashlib import sha256

from sqlalchemy import delete, func, insert, select

from kb.catalog.database import Database, new_id, now
from kb.catalog.schema import keys
from kb.errors import NotFound
from kb.types import Key

# 256 random bits: a fast hash is enough, nobody can guess their way through them.
_SECRET_BYTES = 32


class Keys:
    """The API keys of a data folder."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str) -> tuple[Key, str]:
        """A new key and its secret, which is not stored and cannot be shown again."""
        secret = "kb_" + secrets.token_urlsafe(_SECRET_BYTES)
        key = Key(new_id("key"), name, now())
        with self._database.write() as connection:
            row = {"id": key.id, "name": name, "hash": _digest(secret), "created_at": key.created_at}
            connection.execute(insert(keys).values(row))
        return key, secret

    def all(self) -> list[Key]:
        """Every key, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(keys).order_by(keys.c.id))
            return [Key(row.id, row.name, row.created_at) for row in rows]

    def exist(self) -> bool:
        """Whether any key was made."""
        with self._database.read() as connection:
            return bool(connection.scalar(select(func.count()).select_from(keys)))

    def delete(self, key_id: str) -> None:
        """Revoke a key. Raises NotFound."""
        with self._database.write() as connection:
            if not connection.execute(delete(keys).where(keys.c.id == key_id)).rowcount:
                raise NotFound(f"no key {key_id!r}", param="key")

    def admits(self, secret: str) -> bool:
        """Whether this is the secret of a key."""
        digest = _digest(secret)
        with self._database.read() as connection:
            found = connection.scalar(select(keys.c.hash).where(keys.c.hash == digest))
        return found is not None and hmac.compare_digest(found, digest)


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
