"""API keys: made once, kept as a hash, compared in constant time; and what each may call and spend."""

import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass, fields
from decimal import Decimal
from hashlib import sha256
from typing import Any, Literal

from sqlalchemy import Row, delete, func, insert, select, update

from kb.catalog.credits import checked
from kb.catalog.database import Database, new_id, now
from kb.catalog.schema import keys
from kb.errors import NotFound
from kb.types import Key

Per = Literal["day", "month"]

# 256 random bits: a fast hash is enough, nobody can guess their way through them.
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may call, and spend on it. models, tiers: None for all. hard: credits beyond which a call
    is refused, soft: beyond which it is told; None for no bound. per: a day or month in UTC, or None for
    all time together.
    """

    models: Collection[str] | None = None
    tiers: Collection[str] | None = None
    hard: Decimal | None = None
    soft: Decimal | None = None
    per: Per | None = None

    def since(self, day: str) -> str:
        """The first day (as 2026-11-24) of the period that a day is in; "" where there is but one."""
        return {"day": day, "month": f"{day[:7]}-01", None: ""}[self.per]


_LIMITS = tuple(field.name for field in fields(Limits))


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
                raise _missing(key_id)

    def admits(self, secret: str) -> str | None:
        """The id of the key whose secret this is, or None."""
        digest = _digest(secret)
        with self._database.read() as connection:
            query = select(keys.c.id, keys.c.hash).where(keys.c.hash == digest)
            found = connection.execute(query).one_or_none()
        return found.id if found is not None and hmac.compare_digest(found.hash, digest) else None

    def limits(self, key_id: str) -> Limits:
        """What a key may call and spend. Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(select(keys).where(keys.c.id == key_id)).one_or_none()
        if row is None:
            raise _missing(key_id)
        return limits_in(row)

    def limit(self, key_id: str, limits: Limits) -> None:
        """Set it; every process heeds it from its next call on. Raises NotFound, InvalidInput."""
        values = {name: getattr(limits, name) for name in _LIMITS}
        for name in ("hard", "soft"):
            if values[name] is not None:
                checked(values[name], param=name)
        for name in ("models", "tiers"):
            values[name] = None if values[name] is None else list(values[name])
        with self._database.write() as connection:
            if not connection.execute(update(keys).where(keys.c.id == key_id).values(values)).rowcount:
                raise _missing(key_id)


def limits_in(row: Row[Any]) -> Limits:
    """Those in a row of `keys`."""
    models, tiers = (None if one is None else tuple(one) for one in (row.models, row.tiers))
    return Limits(models, tiers, row.hard, row.soft, row.per)


def _missing(key_id: str) -> NotFound:
    return NotFound(f"no key {key_id!r}", param="key")


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
