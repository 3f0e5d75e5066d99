"""Files, and what knowledge bases they are attached to"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("knowledge_bases", sa.Column("metadata", sa.JSON(), nullable=True))
    op.add_column("failures", sa.Column("kind", sa.String(length=32), nullable=True))
    op.create_table(
        "files",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("purpose", sa.String(length=64), nullable=False),
        sa.Column("byte_size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
    )
    op.create_table(
        "attachments",
        sa.Column("kb_id", sa.String(length=64), nullable=False),
        sa.Column("file_id", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("chunk_size", sa.Integer(), nullable=True),
        sa.Column("chunk_overlap", sa.Integer(), nullable=True),
        sa.Column("replaces", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["kb_id"], ["knowledge_bases.id"], name=op.f("fk_attachments_kb_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["file_id"], ["files.id"], name=op.f("fk_attachments_file_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_attachments_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("kb_id", "file_id", name=op.f("pk_attachments")),
    )
    op.create_index(op.f("ix_attachments_kb_id_uri"), "attachments", ["kb_id", "uri"])
    op.create_index(op.f("ix_attachments_file_id"), "attachments", ["file_id"])
    op.create_index(op.f("ix_attachments_job_id"), "attachments", ["job_id"])


def downgrade() -> None:
    op.drop_table("attachments")
    op.drop_table("files")
    op.drop_column("failures", "kind")
    op.drop_column("knowledge_bases", "metadata")
