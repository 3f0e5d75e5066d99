"""A recall target for each knowledge base"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("knowledge_bases", sa.Column("recall", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("knowledge_bases", "recall")
