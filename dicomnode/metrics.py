"""Every Prometheus metric of the node, here and nowhere else.

The roles of a node are separate processes; each writes its metrics into files of one shared folder, and whoever is
asked for ``/metrics`` adds them up (prometheus-client's multiprocess mode). A process says once, before it counts
anything,

    metrics.keep_in(config.node.data / "metrics", role="receive")

and from then on ``metrics.INSTANCES_RECEIVED.labels(sop_class="MRImageStorage").inc()`` is all there is to do. The
files carry the role's name instead of a process id: a restarted role goes on counting where it stopped, and dead
processes leave nothing behind that would have to be cleaned. So no role may run twice on one folder. Without `keep_in`
(commands such as ``convert``, and tests) the counts stay in memory.

Every metric has a label, because a metric without labels creates its value when it is defined, before `keep_in`. No
label ever holds a UID, a name, a path or an address; `LABEL_VALUES` says what each label can hold, so that the number
of time series is bounded.

What waits, and for how long, is not counted by anybody: the ledger is asked when ``/metrics`` is (`Now`).

    which metric says that the planning system refuses?
    sct_node_delivered_instances_total{destination="...",outcome="refused"}
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.multiprocess import MultiProcessCollector

from pipeline.durable_files import write_whole

if TYPE_CHECKING:
    pass

STAGE_BUCKETS_S: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280)
JOURNEY_BUCKETS_S: Final = (5, 10, 20, 40, 80, 160, 320, 640, 1280, 3600, 14400, 86400)

REGISTRY: Final = CollectorRegistry()
"""Where the metrics of this process are defined; tests read it, ``/metrics`` reads the files."""

LABEL_VALUES: Final[Mapping[str, str]] = {
    "sop_class": "keyword of an accepted SOP class, or `other`",
    "status": "C-STORE status as four hexadecimal digits: 0000, A700, A900, C000 ...",
    "reason": "a reason code of pipeline.errors.REASONS, a rule of settle, or the name of a finding or preflight rule; "
    "of a refused call: address, tls, calling_ae, called_ae, caller_address, certificate, too_many, audit",
    "certificate": "own, ca",
    "rule": "the name of a rule in the configuration, or `otherwise`",
    "action": "convert, ignore",
    "state": "a state of the ledger",
    "stage": "receive, volume, synthesize, write, preflight, deliver",
    "destination": "the name of a destination in the configuration",
    "outcome": "of an instance: accepted, duplicate, warning, refused, unsent; of an attempt: delivered, postponed; "
    "of a commitment: committed, failures, refused, given_up; of a TLS handshake: agreed, refused; "
    "of TLS files: loaded, failed; "
    "of a sign-in: accepted, refused, throttled; of a message: sent, postponed, given_up",
    "role": "receive, synthesize, deliver, web",
    "held": "yes, no",
    "finding": "the name of a finding",
    "verdict": "pass, review, reject",
    "scanner": "ManufacturerModelName of one of the first `PAIRS` pairs of scanner and protocol, or `other`",
    "protocol": "ProtocolName of such a pair, or `other`",
    "channel": "mail, webhook",
    "limit": "associations, ae, connections, message, object, pdu, receiving, slow",
    "where": "of an audit record: file, syslog",
    "what": "undelivered, unproven",
    "queue": "settle, synthesize, person, deliver, proof, notice (dicomnode.cases.overview)",
    "model": "the name of an installed model",
    "worker": "the name of a synthesize process on its machine, or `cli` for commands",
}
"""Label -> what it can hold."""

INSTANCES_RECEIVED: Final = Counter(
    "sct_node_instances_received_total",
    "Instances acknowledged with Success after they were durable.",
    ["sop_class"],
    registry=REGISTRY,
)
STORE_RESPONSES: Final = Counter(
    "sct_node_store_responses_total", "Answers to C-STORE requests.", ["status"], registry=REGISTRY
)
INSTANCE_CONFLICTS: Final = Counter(
    "sct_node_instance_conflicts_total",
    "Instances that came again under the same SOP Instance UID with other bytes; both are kept.",
    ["sop_class"],
    registry=REGISTRY,
)
LIMITS: Final = Counter(
    "sct_node_limits_total",
    "Times a peer was stopped at a limit of `receive`.",
    ["limit"],
    registry=REGISTRY,
)
COMMITMENTS: Final = Counter(
    "sct_node_commitments_total",
    "Storage commitment requests that were reported, refused or given up.",
    ["outcome"],
    registry=REGISTRY,
)
SERIES_SETTLED: Final = Counter(
    "sct_node_series_settled_total",
    "Series taken as complete, by the evidence that decided.",
    ["reason"],
    registry=REGISTRY,
)
RULES: Final = Counter(
    "sct_node_rules_total",
    "New jobs by the rule that decided about their series, and what it did.",
    ["rule", "action"],
    registry=REGISTRY,
)
LATE_SERIES: Final = Counter(
    "sct_node_late_series_total",
    "Series of which more instances came after a job had taken them, by that job's state.",
    ["state"],
    registry=REGISTRY,
)
JOBS: Final = Counter("sct_node_jobs_total", "Jobs that entered a state.", ["state"], registry=REGISTRY)
REJECTED: Final = Counter(
    "sct_node_rejected_total", "Series of which no CT is made, by the reason.", ["reason"], registry=REGISTRY
)
HELD: Final = Counter("sct_node_held_total", "Jobs held for a person to look at.", ["reason"], registry=REGISTRY)
STAGE_SECONDS: Final = Histogram(
    "sct_node_stage_seconds", "Time a stage took.", ["stage"], registry=REGISTRY, buckets=STAGE_BUCKETS_S
)
CASES: Final = Counter(
    "sct_node_cases_total",
    "Synthetic CT made, by the scanner and the protocol of the MR.",
    ["scanner", "protocol"],
    registry=REGISTRY,
)
FINDINGS: Final = Counter(
    "sct_node_findings_total", "Checks of cases by their verdict.", ["finding", "verdict"], registry=REGISTRY
)
FINDING_HU: Final = Gauge(
    "sct_node_finding_hounsfield",
    "What a check that is in HU measured of the last case of a scanner and protocol.",
    ["finding", "scanner", "protocol"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
FINDING_RATIO: Final = Gauge(
    "sct_node_finding_ratio",
    "What a check that is a part of a whole (0 to 1) measured of the last case of a scanner and protocol.",
    ["finding", "scanner", "protocol"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
FINDING_METERS: Final = Gauge(
    "sct_node_finding_meters",
    "What a check that is a length measured of the last case of a scanner and protocol.",
    ["finding", "scanner", "protocol"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
FINDING_VALUE: Final = Gauge(
    "sct_node_finding_value",
    "What a check that is a number without a unit measured of the last case of a scanner and protocol.",
    ["finding", "scanner", "protocol"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
FINDING_LITERS: Final = Gauge(
    "sct_node_finding_liters",
    "What a check that is a volume measured of the last case of a scanner and protocol.",
    ["finding", "scanner", "protocol"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
FINDING_SECONDS: Final = Gauge(
    "sct_node_finding_seconds",
    "What a check that is a time measured of the last case of a scanner and protocol.",
    ["finding", "scanner", "protocol"],
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
FINDING_BY_UNIT: Final[Mapping[str, tuple[Gauge, float]]] = {
    "[hnsf'U]": (FINDING_HU, 1.0),
    "%": (FINDING_RATIO, 0.01),
    "mm": (FINDING_METERS, 0.001),
    "mL": (FINDING_LITERS, 0.001),
    "ms": (FINDING_SECONDS, 0.001),
    "": (FINDING_VALUE, 1.0),
}
"""UCUM unit of a finding -> the gauge that shows it, and the factor to the gauge's unit."""
DELIVERED_INSTANCES: Final = Counter(
    "sct_node_delivered_instances_total",
    "Instances offered to a destination, by its answer.",
    ["destination", "outcome"],
    registry=REGISTRY,
)
DELIVERY_ATTEMPTS: Final = Counter(
    "sct_node_delivery_attempts_total",
    "Associations tried to deliver a job, by what came of the whole attempt.",
    ["destination", "outcome"],
    registry=REGISTRY,
)
SCANNER_TO_DESTINATION_SECONDS: Final = Histogram(
    "sct_node_scanner_to_destination_seconds",
    "From the last MR instance received to the last CT instance accepted.",
    ["destination"],
    registry=REGISTRY,
    buckets=JOURNEY_BUCKETS_S,
)
TLS_HANDSHAKES: Final = Counter(
    "sct_node_tls_handshakes_total", "Peers that called over TLS.", ["outcome"], registry=REGISTRY
)
TLS_RELOADS: Final = Counter(
    "sct_node_tls_reloads_total", "Times that changed TLS files were loaded again.", ["outcome"], registry=REGISTRY
)
TLS_EXPIRY: Final = Gauge(
    "sct_node_tls_certificate_expires_timestamp_seconds",
    "When the node's certificate, or the last of the CAs, expires (Unix time).",
    ["certificate"],
    registry=REGISTRY,
    multiprocess_mode="max",
)
CALLS_REFUSED: Final = Counter(
    "sct_node_calls_refused_total", "Connections and associations not admitted.", ["reason"], registry=REGISTRY
)
AUDIT_FAILURES: Final = Counter(
    "sct_node_audit_failures_total", "Audit records that could not be written or sent.", ["where"], registry=REGISTRY
)
SIGN_INS: Final = Counter(
    "sct_node_sign_ins_total", "Attempts to sign in to the web page.", ["outcome"], registry=REGISTRY
)
ALARMS: Final = Counter(
    "sct_node_destination_alarms_total",
    "Deliveries that waited for too long, and those not proved for too long.",
    ["destination", "what"],
    registry=REGISTRY,
)
PROOFS: Final = Counter(
    "sct_node_proofs_total",
    "Storage commitment reports of destinations: all is kept, or there are failures.",
    ["destination", "outcome"],
    registry=REGISTRY,
)
NOTICES: Final = Counter(
    "sct_node_notices_total",
    "Notices offered to a channel, by what came of it.",
    ["channel", "outcome"],
    registry=REGISTRY,
)
ROLE_RESTARTS: Final = Counter(
    "sct_node_role_restarts_total", "Times a role's process ended and was started again.", ["role"], registry=REGISTRY
)
ROLE_LAST_TICK: Final = Gauge(
    "sct_node_role_last_tick_timestamp_seconds",
    "When a role's process last said that it is alive (Unix time).",
    ["role"],
    registry=REGISTRY,
    multiprocess_mode="max",
)

AUDIT_PLACES: Final = ("file", "syslog")
MR_CLASSES: Final = ("MRImageStorage", "EnhancedMRImageStorage", "LegacyConvertedEnhancedMRImageStorage")

FILE_BYTES: Final = 1 << 18
"""Size of each of a process's files, allocated when they are made: a write to a hole of a mapped file on a full disk is
SIGBUS, and would end the process. Enough for about 1,500 values."""

KINDS: Final = ("counter", "gauge_max", "gauge_mostrecent", "histogram")
"""The files of a process, by what they hold."""


def keep_in(folder: Path, role: str) -> None:
    """Keep this process's metrics in files of `folder`, under the name of its role.

    Call it once, before anything is counted; OSError when the disk has no room for the files. `role` is unique among
    the processes that share the folder; a second process of a role needs a name of its own (``synthesize1``).

    Raises ValueError for a role name with an underscore, which the file names cannot hold.
    """
    if "_" in role or not role:
        raise ValueError(f"a role's name cannot be {role!r}: no underscore, not empty")
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        path = folder / f"{kind}_{role}.db"
        if not path.exists():  # an empty *.db is an error to its readers
            write_whole(path, bytes(FILE_BYTES))
        with path.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: role)


def begin(role: str, destinations: Iterable[str]) -> None:
    """Begin at 0 what alerts look at: a series that appears with its first count has not increased, to Prometheus.

    `role` is that of this process, `destinations` are the names of the configuration.
    """
    for child in _at_zero(role, tuple(destinations)):
        child.inc(0)


def _at_zero(role: str, destinations: Sequence[str]) -> Iterable[Counter]:
    """The counters that a role begins at 0."""
    yield from (AUDIT_FAILURES.labels(where=where) for where in AUDIT_PLACES)
    if role == "serve":
        yield from (ROLE_RESTARTS.labels(role=one) for one in ("receive", "synthesize", "deliver", "web"))
    if role == "receive":
        yield from (COMMITMENTS.labels(outcome=outcome) for outcome in ("failures", "given_up"))
        yield from (INSTANCE_CONFLICTS.labels(sop_class=keyword) for keyword in MR_CLASSES)
        yield from (LATE_SERIES.labels(state=state) for state in ("SYNTHESIZED", "DELIVERED"))
    if role == "synthesize":
        yield JOBS.labels(state="SYNTHESIZED")
    if role == "deliver":
        yield from (ALARMS.labels(name, what) for name in destinations for what in ("undelivered", "unproven"))
        yield from (DELIVERY_ATTEMPTS.labels(name, "delivered") for name in destinations)
        yield from (DELIVERED_INSTANCES.labels(name, "refused") for name in destinations)
    if role in ("receive", "deliver"):
        yield from (PROOFS.labels(name, "failures") for name in destinations)


def tick(role: str) -> None:
    """Say that the process of `role` is alive; each role calls it about every second."""
    ROLE_LAST_TICK.labels(role=role).set_to_current_time()


def last_ticks(folder: Path) -> dict[str, float]:
    """Role -> Unix time at which its process last said that it is alive, from the files in `folder`."""
    if not folder.is_dir():
        return {}
    families = MultiProcessCollector(None, path=str(folder)).collect()
    name = "sct_node_role_last_tick_timestamp_seconds"
    samples = [sample for family in families if family.name == name for sample in family.samples]
    return {sample.labels["role"]: sample.value for sample in samples}


def seen(folder: Path, family: str, labels: Sequence[str]) -> set[tuple[str, ...]]:
    """The values of labels that any process has counted under the name of a metric, from the files in `folder`."""
    if not folder.is_dir():
        return set()
    families = MultiProcessCollector(None, path=str(folder)).collect()
    samples = [sample for one in families if one.name == family for sample in one.samples]
    return {tuple(sample.labels[label] for label in labels) for sample in samples}
