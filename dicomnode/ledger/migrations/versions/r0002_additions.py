"""What this version adds: decisions of people, proof by storage commitment, several machines, notices, constancy.

Only additions: processes of the version before can go on working beside those of this one.
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

from dicomnode.ledger.migrations.versions.r0001_tables import FACTS, events

revision = "0002"
down_revision = "0001"

NEW_FACTS: Final = ("retried", "cancelled", "resent", "alarmed", "committed", "uncommitted", "deleted")


def upgrade() -> None:
    """Columns that may be NULL, tables, and words for what can happen."""
    _more_facts()
    op.add_column("deliveries", sa.Column("resent_from", sa.Integer, nullable=True))
    op.add_column("deliveries", sa.Column("alarmed_at", sa.Float, nullable=True))
    op.add_column("deliveries", sa.Column("instances", sa.Integer, nullable=True))
    op.add_column("receipts", sa.Column("attempt", sa.Integer, nullable=True))
    op.add_column("receipts", sa.Column("commitment", sa.Integer, nullable=True))
    _proofs()
    _machines()
    _histograms()
    _notices()
    _constancy()


def _more_facts() -> None:
    """SQLite cannot change a constraint: alembic makes the table anew there and fills it from the old one."""
    words = ", ".join(map(repr, (*FACTS, *NEW_FACTS)))
    with op.batch_alter_table("events", copy_from=events) as batch:
        batch.add_column(sa.Column("by", sa.Text, nullable=True))
        batch.drop_constraint("fact_known", type_="check")
        batch.create_check_constraint("fact_known", f"fact IN ({words})")


def _proofs() -> None:
    """Storage commitment that the node asks of its destinations."""
    op.create_table(
        "proofs",
        sa.Column("transaction_uid", sa.String(64), primary_key=True),
        sa.Column("job", sa.String(64), sa.ForeignKey("jobs.job"), nullable=False, index=True),
        sa.Column("destination", sa.String(64), nullable=False),
        sa.Column("sent_in", sa.Integer, nullable=False),
        sa.Column("listed", sa.Text, nullable=True),
        sa.Column("failed", sa.Text, nullable=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("asked_at", sa.Float, nullable=True),
        sa.Column("due_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float, nullable=True, index=True),
        sa.Column("alarmed_at", sa.Float, nullable=True),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.CheckConstraint("asked_at IS NULL OR listed IS NOT NULL", name="asked_for_something"),
    )


def _histograms() -> None:
    """By what the drift of the HU is seen."""
    op.create_table(
        "histograms",
        sa.Column("job", sa.String(64), sa.ForeignKey("jobs.job"), primary_key=True),
        sa.Column("stratum", sa.String(64), nullable=False, index=True),
        sa.Column("at", sa.Float, nullable=False, index=True),
        sa.Column("histogram", sa.Text, nullable=False),
    )


def _machines() -> None:
    """Who works on the database, and what arrives where."""
    op.create_table(
        "processes",
        sa.Column("executor", sa.String(160), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("alive_at", sa.Float, nullable=False),
    )
    op.create_table(
        "arrivals",
        sa.Column("receiver", sa.String(160), primary_key=True),
        sa.Column("series_instance_uid", sa.String(64), primary_key=True),
        sa.Column("calling_ae", sa.String(16), nullable=False),
        sa.Column("first_at", sa.Float, nullable=False),
        sa.Column("last_at", sa.Float, nullable=False),
        sa.Column("begun_at", sa.Float, nullable=True),
        sa.Column("awaited_since", sa.Float, nullable=True),
        sa.Column("open_associations", sa.Integer, nullable=False),
        sa.Column("associations", sa.Integer, nullable=False),
        sa.Column("interrupted", sa.Boolean, nullable=False),
        sa.Column("pause_s", sa.Float, nullable=False),
    )


def _notices() -> None:
    """What people are to be told."""
    op.create_table(
        "notices",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("job", sa.String(64), nullable=True),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("channel", sa.String(16), nullable=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("due_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float, nullable=True, index=True),
        sa.Column("sent", sa.Boolean, nullable=False),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.CheckConstraint("channel IS NOT NULL OR ended_at IS NULL", name="ended_on_a_channel"),
        sa.CheckConstraint("NOT sent OR ended_at IS NOT NULL", name="sent_is_ended"),
    )


def _constancy() -> None:
    """Runs of the phantom through the whole chain."""
    op.create_table(
        "constancy",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False, index=True),
        sa.Column("executor", sa.String(160), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("model_digest", sa.String(64), nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("passed", sa.Boolean, nullable=False),
        sa.Column("deviation_hu", sa.Float, nullable=True),
        sa.Column("deviation_mm", sa.Float, nullable=True),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.Column("measured", sa.Text, nullable=True),
        sa.Column("seconds", sa.Float, nullable=False),
    )
