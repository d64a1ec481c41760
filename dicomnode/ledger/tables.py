"""The ledger's tables (SQLAlchemy). Constraints make impossible situations impossible.

UIDs have at most 64 characters (PS3.5 9.1), AE titles 16 (PS3.5 6.2). Times are Unix seconds here and aware UTC
datetimes in the rows (`dicomnode.ledger.rows`). Another table, or another column, needs a revision in
migrations/versions/ beside it; a test compares the two.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from dicomnode.ledger.states import JobEvent, State

metadata: Final = sa.MetaData()


def _one_of(column: str, words: type[State] | type[JobEvent]) -> sa.CheckConstraint:
    """Return the constraint that the column holds one of the words."""
    return sa.CheckConstraint(f"{column} IN ({', '.join(repr(str(word)) for word in words)})", name=f"{column}_known")


# One row a series (PS3.3 C.7.3.1) of which an instance ever came. `job` took the series as it is now; NULL: RECEIVING.
series: Final = sa.Table(
    "series",
    metadata,
    sa.Column("series_instance_uid", sa.String(64), primary_key=True),
    sa.Column("calling_ae", sa.String(16), nullable=False),
    sa.Column("instances", sa.Integer, nullable=False),
    sa.Column("first_at", sa.Float, nullable=False),
    sa.Column("last_at", sa.Float, nullable=False),
    sa.Column("job", sa.String(64), nullable=True),
    # the longest pause between two associations that brought it; 0: it came in one piece, as far as is known
    sa.Column("pause_s", sa.Float, nullable=False, default=0.0, server_default="0"),
    sa.CheckConstraint("instances > 0", name="some_instances"),
)

# One row an instance and series: where a SOP Instance UID has been seen. A UID belongs to one series (PS3.5 9.1).
instances: Final = sa.Table(
    "instances",
    metadata,
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
    sa.Column("series_instance_uid", sa.String(64), primary_key=True, index=True),
)

# One row a contradiction: a file of a series whose SOP Instance UID stands for something else too. Both are kept.
conflicts: Final = sa.Table(
    "conflicts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),  # in the order in which they were seen
    sa.Column("series_instance_uid", sa.String(64), nullable=False),
    sa.Column("sop_instance_uid", sa.String(64), nullable=False),
    sa.Column("name", sa.String(80), nullable=False),  # of the file in in/<series>/ that came later, without .dcm
    sa.Column("other_series", sa.String(64), nullable=True),  # the series that has the UID too; NULL: this one itself
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("chosen", sa.String(80), nullable=True),  # the file that a person chose for the UID; NULL: undecided
    sa.UniqueConstraint("series_instance_uid", "name", name="a_contradiction_is_seen_once"),
)

# One row a job: a set of instances to become one CT series. The key is what it is made of, so it exists once.
jobs: Final = sa.Table(
    "jobs",
    metadata,
    sa.Column("job", sa.String(64), primary_key=True),
    sa.Column("series_instance_uid", sa.ForeignKey(series.c.series_instance_uid), nullable=False, index=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("held", sa.Text, nullable=True),  # why a person must look; NULL: not held
    sa.Column("reason_code", sa.String(64), nullable=True),  # of the hold or the rejection
    sa.Column("reason_sentence", sa.Text, nullable=True),
    sa.Column("calling_ae", sa.String(16), nullable=False, default=""),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("model_digest", sa.String(64), nullable=False),
    sa.Column("configuration_digest", sa.String(64), nullable=False),
    sa.Column("rule", sa.Text, nullable=True),  # what decided; NULL in these three: made before there were rules
    sa.Column("destinations", sa.Text, nullable=True),  # JSON list of names: where the CT goes, and nowhere else
    sa.Column("settings", sa.Text, nullable=True),  # JSON: what of the configuration decides the result
    # JSON list, sorted: exactly what is converted. A UID, or <UID>~<digest> where a person chose those bytes
    sa.Column("sop_instance_uids", sa.Text, nullable=False),
    sa.Column("ct_series_uid", sa.String(64), nullable=True, unique=False),
    sa.Column("ct_instances", sa.Integer, nullable=True),
    sa.Column("attempt", sa.Integer, nullable=False, default=1),  # part of the engine's workflow id
    sa.Column("failures", sa.Integer, nullable=False, default=0),  # since it was received or released
    sa.Column("supersedes", sa.String(64), nullable=True),  # the job of an earlier, other set of this series
    sa.Column("superseded_by", sa.String(64), nullable=True),  # the job of a later, other set of this series
    sa.Column("replaces", sa.String(64), nullable=True),  # the CT series of an earlier job that has been sent
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
    _one_of("state", State),
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

# One row an event, never changed. `words` may hold a traceback; no patient data.
events: Final = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("event", sa.String(32), nullable=False),
    sa.Column("series_instance_uid", sa.ForeignKey(series.c.series_instance_uid), nullable=False, index=True),
    sa.Column("job", sa.ForeignKey(jobs.c.job), nullable=True, index=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("words", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=True),  # who decided: cli:NAME, web:NAME; NULL: the node itself
    _one_of("event", JobEvent),
    _one_of("state", State),
    sa.CheckConstraint("(job IS NULL) = (event = 'arrived')", name="only_arrivals_have_no_job"),
)

# One row a job and destination, made when the job is SYNTHESIZED: how far the delivery is.
deliveries: Final = sa.Table(
    "deliveries",
    metadata,
    sa.Column("job", sa.ForeignKey(jobs.c.job), primary_key=True),
    sa.Column("destination", sa.String(64), primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),  # part of the engine's workflow id
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("due_at", sa.Float, nullable=False),
    sa.Column("sentence", sa.Text, nullable=False),  # why the last attempt was not the last
    sa.Column("delivered_at", sa.Float, nullable=True),
    sa.Column("begun_at", sa.Float, nullable=True),  # since when an instance may be there; NULL: certainly none is
    sa.Column("withdrawn_at", sa.Float, nullable=True),  # a job of more instances took its place before it began
    sa.Column("resent_from", sa.Integer, nullable=True),  # the attempt from which all is sent once more; NULL: never
    sa.Column("alarmed_at", sa.Float, nullable=True),  # when it had waited too long; NULL: it has not
    # how many objects it is to get, CT and companions, as the last attempt found; NULL: none began, or the CT alone
    sa.Column("instances", sa.Integer, nullable=True),
    sa.CheckConstraint("attempt > 0", name="attempts_count_from_one"),
    sa.CheckConstraint("withdrawn_at IS NULL OR delivered_at IS NULL", name="what_is_delivered_stays"),
)

# One row a job, destination and instance: the status that the destination gave (PS3.4 B.2.3).
receipts: Final = sa.Table(
    "receipts",
    metadata,
    sa.Column("job", sa.ForeignKey(jobs.c.job), primary_key=True),
    sa.Column("destination", sa.String(64), primary_key=True),
    sa.Column("sop_instance_uid", sa.String(64), primary_key=True),
    sa.Column("status", sa.Integer, nullable=False),  # Status (0000,0900) of the C-STORE response (PS3.7 9.3.1.2)
    sa.Column("taken", sa.Boolean, nullable=False),  # Success or Warning (PS3.4 B.2.3), or a duplicate
    sa.Column("warning", sa.Boolean, nullable=False),
    sa.Column("comment", sa.Text, nullable=False),  # Error Comment (0000,0902)
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=True),  # in which attempt; NULL: before this was kept
    # its report by storage commitment: 0 it keeps it, else a Failure Reason (PS3.3 C.14.1.1); NULL: nothing yet
    sa.Column("commitment", sa.Integer, nullable=True),
    sa.CheckConstraint("status BETWEEN 0 AND 65535", name="status_is_16_bit"),
)

# One row a requestor and Transaction UID (PS3.4 Table J.3-1): a storage commitment that was asked for.
commitments: Final = sa.Table(
    "commitments",
    metadata,
    sa.Column("requestor", sa.String(16), primary_key=True),  # AE title
    sa.Column("transaction_uid", sa.String(64), primary_key=True),
    sa.Column("listed", sa.Text, nullable=False),  # JSON: SOP Instance UID -> SOP Class UID
    sa.Column("failed", sa.Text, nullable=True),  # JSON: SOP Instance UID -> Failure Reason, as it was reported
    sa.Column("attempt", sa.Integer, nullable=False),  # the next attempt at the report, due at due_at
    sa.Column("asked_at", sa.Float, nullable=False, index=True),
    sa.Column("due_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float, nullable=True, index=True),  # reported, or given up where `failed` is NULL
    sa.Column("sentence", sa.Text, nullable=False),  # why the last attempt was not the last
    sa.CheckConstraint("failed IS NULL OR ended_at IS NOT NULL", name="reported_is_ended"),
)

# One row a process that works on this database: when it last said that it is alive, by the database's clock.
processes: Final = sa.Table(
    "processes",
    metadata,
    sa.Column("executor", sa.String(160), primary_key=True),  # host/role/number, as the engine knows it
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("alive_at", sa.Float, nullable=False),
)

# One row a receiver and a series that is arriving there: `dicomnode.spool.spool.Arrival`, by the database's clock.
arrivals: Final = sa.Table(
    "arrivals",
    metadata,
    sa.Column("receiver", sa.String(160), primary_key=True),  # its executor
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

# One row a Transaction UID: a storage commitment that the node asks of a destination (PS3.4 J.3.2).
proofs: Final = sa.Table(
    "proofs",
    metadata,
    sa.Column("transaction_uid", sa.String(64), primary_key=True),
    sa.Column("job", sa.ForeignKey(jobs.c.job), nullable=False, index=True),
    sa.Column("destination", sa.String(64), nullable=False),
    sa.Column("sent_in", sa.Integer, nullable=False),  # the attempt after which the destination had everything
    sa.Column("listed", sa.Text, nullable=True),  # JSON: SOP Instance UID -> SOP Class UID; NULL: not asked for yet
    sa.Column("failed", sa.Text, nullable=True),  # JSON: SOP Instance UID -> Failure Reason; NULL: nothing reported
    sa.Column("attempt", sa.Integer, nullable=False),  # the next visit, due at due_at
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("asked_at", sa.Float, nullable=True),
    sa.Column("due_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float, nullable=True, index=True),  # reported, or there is no visit any more
    sa.Column("alarmed_at", sa.Float, nullable=True),  # when it had been unproven for too long
    sa.Column("sentence", sa.Text, nullable=False),  # why the last visit was not the last
    sa.CheckConstraint("asked_at IS NULL OR listed IS NOT NULL", name="asked_for_something"),
)

# One row a notice to people, and after its division one for each channel (`dicomnode.ledger.notices`).
notices: Final = sa.Table(
    "notices",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.String(16), nullable=False),  # `dicomnode.config.sections.Kind`
    sa.Column("job", sa.String(64), nullable=True),  # NULL: it is about the node
    sa.Column("code", sa.String(64), nullable=False),  # reason code, or the event in capitals
    sa.Column("words", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("channel", sa.String(16), nullable=True),  # mail or webhook; NULL: not divided yet
    sa.Column("attempt", sa.Integer, nullable=False),  # the next one, due at due_at
    sa.Column("due_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float, nullable=True, index=True),  # sent, or given up
    sa.Column("sent", sa.Boolean, nullable=False),
    sa.Column("sentence", sa.Text, nullable=False),  # why the last attempt was not the last
    sa.CheckConstraint("channel IS NOT NULL OR ended_at IS NULL", name="ended_on_a_channel"),
    sa.CheckConstraint("NOT sent OR ended_at IS NOT NULL", name="sent_is_ended"),
)

# One row a run of the phantom through the whole chain, compared with the reference of that model and device. Both
# deviations are NULL where nothing could be compared.
constancy: Final = sa.Table(
    "constancy",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False, index=True),
    sa.Column("executor", sa.String(160), nullable=False),  # host/role/number, or cli:NAME
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("model_digest", sa.String(64), nullable=False),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("passed", sa.Boolean, nullable=False),
    sa.Column("deviation_hu", sa.Float, nullable=True),  # the largest of any tissue
    sa.Column("deviation_mm", sa.Float, nullable=True),  # the largest of grid, body and bone
    sa.Column("sentence", sa.Text, nullable=False),
    sa.Column("measured", sa.Text, nullable=True),  # JSON: `pipeline.phantom.constancy.Measured`
    sa.Column("seconds", sa.Float, nullable=False),
)

# One row a finished CT: the histogram of its HU, to see by it how later cases drift. Bounded: the oldest rows go.
histograms: Final = sa.Table(
    "histograms",
    metadata,
    sa.Column("job", sa.ForeignKey(jobs.c.job), primary_key=True),
    sa.Column("stratum", sa.String(64), nullable=False, index=True),  # SHA-256 of scanner, protocol and model
    sa.Column("at", sa.Float, nullable=False, index=True),
    sa.Column("histogram", sa.Text, nullable=False),  # JSON: from_hu, step_hu, counts
)
