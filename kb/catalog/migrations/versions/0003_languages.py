"""The language of each version, detected for those that are visible."""

import sqlalchemy as sa
from alembic import op

from kb.language import language_of

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("versions", sa.Column("language", sa.String(length=16), nullable=True))
    versions = sa.table("versions", sa.column("id"), sa.column("text"), sa.column("language"))
    contents = sa.table("contents", sa.column("version_id"))
    connection = op.get_bind()
    # A text at a time: together they may be larger than memory.
    for version_id in connection.scalars(sa.select(contents.c.version_id)).all():
        mine = versions.c.id == version_id
        text = connection.scalar(sa.select(versions.c.text).where(mine))
        connection.execute(sa.update(versions).where(mine).values(language=language_of(text or "") or None))


def downgrade() -> None:
    raise SystemExit("languages are not taken back; restore a backup instead")
