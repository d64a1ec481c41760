"""Revision 0001: the tables of version 0.1.0, frozen as they were, whatever `dicomnode.ledger.tables` holds later."""

from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

STATES: Final = ("RECEIVING", "RECEIVED", "SYNTHESIZED", "DELIVERED", "REJECTED")
EVENTS: Final = (
    *("arrived", "settled", "synthesized", "rejected", "failed", "held", "released", "rejected_by_person", "postponed"),
    *("accepted", "delivered", "superseded", "replaced", "conflicted", "retried", "cancelled", "resent", "alarmed"),
    *("committed", "commitment_failed", "deleted"),
)

metadata: Final = sa.MetaData()


def _one_of(column: str, words: Iterable[str]) -> sa.CheckConstraint:
    """Return the constraint that the column holds one of the words."""
    return sa.CheckConstraint(f"{column} IN ({', '.join(map(repr, words))})", name=f"{column}_known")


series: Final = sa.Table(
    "series",
    metadata,
    sa.Column("series_instance_uid", sa.String(64), primary_key=True),
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("instances", sa.Integer, nullable=False),
    sa.Column("first_at", sa.Float, nullable=False),
    sa.Column("last_at", sa.Float, nullable=False),
    sa.Column("job", sa.String(64), nullable=True),
    sa.Column("pause_s", sa.Float, nullable=False, default=0.0, server_default="0"),
    sa.CheckConstraint("instances > 0", name="some_instances"),
)
sa.Table(
    "instances",
    metadata,
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
    sa.Column("series_instance_uid", sa.String(64), primary_key=True, index=True),
)
sa.Table(
    "conflicts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("series_instance_uid", sa.String(64), nullable=False),
    sa.Column("sop_instance_uid", sa.String(64), nullable=False),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("other_series", sa.String(64), nullable=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("chosen", sa.String(80), nullable=True),
    sa.UniqueConstraint("series_instance_uid", "name", name="a_contradiction_is_seen_once"),
)
jobs: Final = sa.Table(
    "jobs",
    metadata,
    sa.Column("job", sa.String(64), primary_key=True),
    sa.Column("series_instance_uid", sa.ForeignKey(series.c.series_instance_uid), nullable=False, index=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("held", sa.Text, nullable=True),
    sa.Column("reason_code", sa.String(64), nullable=True),
    sa.Column("reason_sentence", sa.Text, nullable=True),
    sa.Column("calling_ae", sa.String(16), nullable=False, default=""),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("model_digest", sa.String(64), nullable=False),
    sa.Column("configuration_digest", sa.String(64), nullable=False),
    sa.Column("rule", sa.Text, nullable=True),
    sa.Column("destinations", sa.Text, nullable=True),
    sa.Column("settings", sa.Text, nullable=True),
    sa.Column("sop_instance_uids", sa.Text, nullable=False),
    sa.Column("ct_series_uid", sa.String(64), nullable=True, unique=False),
    sa.Column("ct_instances", sa.Integer, nullable=True),
    sa.Column("attempt", sa.Integer, nullable=False, default=1),
    sa.Column("failures", sa.Integer, nullable=False, default=0),
    sa.Column("supersedes", sa.String(64), nullable=True),
    sa.Column("superseded_by", sa.String(64), nullable=True),
    sa.Column("replaces", sa.String(64), nullable=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
    _one_of("state", STATES),
    sa.CheckConstraint("state <> 'RECEIVING'", name="a_job_has_its_instances"),
    sa.CheckConstraint("held IS NULL OR state <> 'REJECTED'", name="what_is_rejected_waits_for_nobody"),
    sa.CheckConstraint("held IS NULL OR reason_code IS NOT NULL", name="held_for_a_reason"),
    sa.CheckConstraint("state <> 'REJECTED' OR reason_code IS NOT NULL", name="rejected_for_a_reason"),
    sa.CheckConstraint("(reason_code IS NULL) = (reason_sentence IS NULL)", name="a_reason_is_said"),
    sa.CheckConstraint(
        "state NOT IN ('SYNTHESIZED', 'DELIVERED') OR (ct_series_uid IS NOT NULL AND ct_instances > 0)",
        name="synthesized_has_a_series",
    ),
    sa.CheckConstraint("state <> 'RECEIVED' OR ct_series_uid IS NULL", name="received_has_none_yet"),
)
sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("event", sa.String(32), nullable=False),
    sa.Column("series_instance_uid", sa.ForeignKey(series.c.series_instance_uid), nullable=False, index=True),
    sa.Column("job", sa.ForeignKey(jobs.c.job), nullable=True, index=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("words", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=True),
    _one_of("event", EVENTS),
    _one_of("state", STATES),
    sa.CheckConstraint("(job IS NULL) = (event = 'arrived')", name="only_arrivals_have_no_job"),
)
sa.Table(
    "deliveries",
    metadata,
    sa.Column("job", sa.ForeignKey(jobs.c.job), primary_key=True),
    sa.Column("destination", sa.String(64), primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("due_at", sa.Float, nullable=False),
    sa.Column("sentence", sa.Text, nullable=False),
    sa.Column("delivered_at", sa.Float, nullable=True),
    sa.Column("begun_at", sa.Float, nullable=True),
    sa.Column("withdrawn_at", sa.Float, nullable=True),
    sa.Column("resent_from", sa.Integer, nullable=True),
    sa.Column("alarmed_at", sa.Float, nullable=True),
    sa.Column("instances", sa.Integer, nullable=True),
    sa.CheckConstraint("attempt > 0", name="attempts_count_from_one"),
    sa.CheckConstraint("withdrawn_at IS NULL OR delivered_at IS NULL", name="what_is_delivered_stays"),
)
sa.Table(
    "receipts",
    metadata,
    sa.Column("job", sa.ForeignKey(jobs.c.job), primary_key=True),
    sa.Column("destination", sa.String(64), primary_key=True),
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("taken", sa.Boolean, nullable=False),
    sa.Column("warning", sa.Boolean, nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=True),
    sa.Column("commitment", sa.Integer, nullable=True),
    sa.CheckConstraint("status BETWEEN 0 AND 65535", name="status_is_16_bit"),
)
sa.Table(
    "commitments",
    metadata,
    sa.Column("requestor", sa.String(16), primary_key=True),
    sa.Column("transaction_uid", sa.String(64), primary_key=True),
    sa.Column("listed", sa.Text, nullable=False),
    sa.Column("failed", sa.Text, nullable=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("asked_at", sa.Float, nullable=False, index=True),
    sa.Column("due_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float, nullable=True, index=True),
    sa.Column("sentence", sa.Text, nullable=False),
    sa.CheckConstraint("failed IS NULL OR ended_at IS NOT NULL", name="reported_is_ended"),
)
sa.Table(
    "processes",
    metadata,
    sa.Column("executor", sa.String(160), primary_key=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("alive_at", sa.Float, nullable=False),
)
sa.Table(
    "arrivals",
    metadata,
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
sa.Table(
    "proofs",
    metadata,
    sa.Column("transaction_uid", sa.String(64), primary_key=True),
    sa.Column("job", sa.ForeignKey(jobs.c.job), nullable=False, index=True),
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
sa.Table(
    "notices",
    metadata,
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
sa.Table(
    "constancy",
    metadata,
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
sa.Table(
    "histograms",
    metadata,
    sa.Column("job", sa.ForeignKey(jobs.c.job), primary_key=True),
    sa.Column("stratum", sa.String(64), nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False, index=True),
    sa.Column("histogram", sa.Text, nullable=False),
)


def upgrade() -> None:
    """Make the tables."""
    metadata.create_all(op.get_bind())
