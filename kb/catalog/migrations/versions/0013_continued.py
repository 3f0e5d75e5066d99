"""Which response goes on after a person's word; a call that was allowed is one step, whoever makes it"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# What made the call, else the first that went on from the response that asked: there was one at the most,
# since a word was taken once. Where there is none its process was killed: the word can be given again.
_CONTINUED = """
    UPDATE approvals SET continued_by = coalesce(
        (SELECT response_id FROM steps WHERE steps.call_id = approvals.id),
        (SELECT min(id) FROM responses WHERE responses.previous_id = approvals.response_id)
    )
    WHERE status <> 'pending'
"""


def upgrade() -> None:
    op.create_index(op.f("ix_steps_call_id"), "steps", ["call_id"], unique=True)
    op.add_column("approvals", sa.Column("continued_by", sa.String(length=64), nullable=True))
    op.execute(_CONTINUED)


def downgrade() -> None:
    op.drop_column("approvals", "continued_by")
    op.drop_index(op.f("ix_steps_call_id"), "steps")
