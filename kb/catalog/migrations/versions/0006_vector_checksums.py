"""Checksums of vectors"""

import zlib

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Vectors read at once: 8 MB of them.
_AT_ONCE = 10_000


def upgrade() -> None:
    op.add_column("vectors", sa.Column("checksum", sa.BigInteger(), nullable=True))
    vectors = sa.table("vectors", *map(sa.column, ("fingerprint", "text_hash", "vector", "checksum")))
    key = (vectors.c.fingerprint, vectors.c.text_hash)
    fill = (
        vectors.update()
        .where(vectors.c.fingerprint == sa.bindparam("model"), vectors.c.text_hash == sa.bindparam("text"))
        .values(checksum=sa.bindparam("sum"))
    )
    connection, last = op.get_bind(), ("", b"")
    while True:
        query = sa.select(*key, vectors.c.vector).where(sa.tuple_(*key) > last).order_by(*key).limit(_AT_ONCE)
        rows = connection.execute(query).all()
        if not rows:
            return
        filled = [
            {"model": row.fingerprint, "text": row.text_hash, "sum": zlib.crc32(row.vector)} for row in rows
        ]
        connection.execute(fill, filled)
        last = (rows[-1].fingerprint, rows[-1].text_hash)


def downgrade() -> None:
    op.drop_column("vectors", "checksum")
