"""Every Prometheus metric of the node is defined in this file, and nowhere else.

The roles of a node are separate processes. Each writes its metrics into files of one shared folder, and the process
that answers ``/metrics`` adds them up (prometheus-client's multiprocess mode). Before a process counts anything, it
calls

    metrics.keep_in(config.node.data / "metrics", role="receive")

After that, ``metrics.INSTANCES_RECEIVED.labels(sop_class="MRImageStorage").inc()`` is all it takes to count. The files
carry the name of the role instead of a process id: a restarted role continues its counts, and a dead process leaves
nothing to clean up. Therefore no role may run twice on one folder. Without `keep_in` (in commands such as ``convert``,
and in tests) the counts stay in memory.

Every metric has a label, because a metric without labels creates its value when it is defined, before `keep_in`. No
label ever holds a UID, a patient's name, a path or an address. `LABEL_VALUES` states what each label can hold, so that
the number of time series is bounded.

Queue lengths and waiting times are not counted here: `dicomnode.web.health` reads them from the ledger when
``/metrics`` is requested.

    Which metric shows that the planning system refuses instances (PS3.4 B.2.3)?
    sct_node_delivered_instances_total{destination="...",outcome="refused"}
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.samples import Sample

from pipeline.durable_files import write_whole

STAGE_BUCKETS_S: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280)
JOURNEY_BUCKETS_S: Final = (5, 10, 20, 40, 80, 160, 320, 640, 1280, 3600, 14400, 86400)

REGISTRY: Final = CollectorRegistry()
"""The metrics that this process defines. Tests read it; ``/metrics`` reads the files."""

LABEL_VALUES: Final[Mapping[str, str]] = {
    "sop_class": "keyword of an accepted SOP class, or `other`",
    "status": "C-STORE status (PS3.4 Table B.2-1) as four hexadecimal digits: 0000, A700, A900, C000 ...",
    "reason": "a reason code of pipeline.errors.REASONS, a rule of settle, or the name of a finding or preflight rule; "
    "of a refused call: address, tls, calling_ae, called_ae, caller_address, certificate, too_many, audit",
    "certificate": "own, ca",
    "rule": "the name of a rule in the configuration, or `otherwise`",
    "action": "convert, ignore",
    "state": "a state of the ledger",
    "stage": "receive, volume, synthesize, write, preflight, deliver",
    "destination": "the name of a destination in the configuration",
    "outcome": "of an instance: accepted, duplicate, warning, refused, unsent; of an attempt: delivered, postponed; "
    "of a commitment (PS3.4 J.3): committed, failures, refused, given_up; of a TLS handshake: agreed, refused; "
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
    "where": "of an audit record (PS3.15 A.5): file, syslog (RFC 5424)",
    "what": "undelivered, unproven",
    "queue": "settle, synthesize, person, deliver, proof, notice (dicomnode.cases.overview)",
    "model": "the name of an installed model",
    "worker": "the name of a synthesize process on its machine, or `cli` for commands",
}
"""Label -> the values that it can hold."""

METRICS: Final[Mapping[str, tuple[str, str]]] = {
    "sct_node_instances_received_total": ("sop_class", "Instances acknowledged with Success after they were durable."),
    "sct_node_store_responses_total": ("status", "Answers to C-STORE requests."),
    "sct_node_instance_conflicts_total": (
        "sop_class",
        "Instances that came again under the same SOP Instance UID with other bytes; both are kept.",
    ),
    "sct_node_limits_total": ("limit", "Times a peer was stopped at a limit of `receive`."),
    "sct_node_commitments_total": ("outcome", "Storage commitment requests that were reported, refused or given up."),
    "sct_node_series_settled_total": ("reason", "Series taken as complete, by the evidence that decided."),
    "sct_node_rules_total": ("rule action", "New jobs by the rule that decided about their series, and what it did."),
    "sct_node_late_series_total": (
        "state",
        "Series of which more instances came after a job had taken them, by that job's state.",
    ),
    "sct_node_jobs_total": ("state", "Jobs that entered a state."),
    "sct_node_rejected_total": ("reason", "Series of which no CT is made, by the reason."),
    "sct_node_held_total": ("reason", "Jobs held for a person to look at."),
    "sct_node_stage_seconds": ("stage", "Time a stage took."),
    "sct_node_cases_total": ("scanner protocol", "Synthetic CT made, by the scanner and the protocol of the MR."),
    "sct_node_findings_total": ("finding verdict", "Checks of cases by their verdict."),
    "sct_node_finding_hounsfield": (
        "finding scanner protocol",
        "What a check that is in HU measured of the last case of a scanner and protocol.",
    ),
    "sct_node_finding_ratio": (
        "finding scanner protocol",
        "What a check that is a part of a whole (0 to 1) measured of the last case of a scanner and protocol.",
    ),
    "sct_node_finding_meters": (
        "finding scanner protocol",
        "What a check that is a length measured of the last case of a scanner and protocol.",
    ),
    "sct_node_finding_value": (
        "finding scanner protocol",
        "What a check that is a number without a unit measured of the last case of a scanner and protocol.",
    ),
    "sct_node_finding_liters": (
        "finding scanner protocol",
        "What a check that is a volume measured of the last case of a scanner and protocol.",
    ),
    "sct_node_finding_seconds": (
        "finding scanner protocol",
        "What a check that is a time measured of the last case of a scanner and protocol.",
    ),
    "sct_node_delivered_instances_total": ("destination outcome", "Instances offered to a destination, by its answer."),
    "sct_node_delivery_attempts_total": (
        "destination outcome",
        "Associations tried to deliver a job, by what came of the whole attempt.",
    ),
    "sct_node_scanner_to_destination_seconds": (
        "destination",
        "From the last MR instance received to the last CT instance accepted.",
    ),
    "sct_node_tls_handshakes_total": ("outcome", "Peers that called over TLS."),
    "sct_node_tls_reloads_total": ("outcome", "Times that changed TLS files were loaded again."),
    "sct_node_tls_certificate_expires_timestamp_seconds": (
        "certificate",
        "When the node's certificate, or the last of the CAs, expires (Unix time).",
    ),
    "sct_node_calls_refused_total": ("reason", "Connections and associations not admitted."),
    "sct_node_audit_failures_total": ("where", "Audit records that could not be written or sent."),
    "sct_node_sign_ins_total": ("outcome", "Attempts to sign in to the web page."),
    "sct_node_destination_alarms_total": (
        "destination what",
        "Deliveries that waited for too long, and those not proved for too long.",
    ),
    "sct_node_proofs_total": (
        "destination outcome",
        "Storage commitment reports of destinations: all is kept, or there are failures.",
    ),
    "sct_node_notices_total": ("channel outcome", "Notices offered to a channel, by what came of it."),
    "sct_node_role_restarts_total": ("role", "Times a role's process ended and was started again."),
    "sct_node_role_last_tick_timestamp_seconds": (
        "role",
        "When a role's process last said that it is alive (Unix time).",
    ),
}
"""Name of a metric -> its labels, and the text that ``/metrics`` shows. Dashboards and alert rules name them."""


def _counter(name: str) -> Counter:
    labels, text = METRICS[name]
    return Counter(name, text, labels.split(), registry=REGISTRY)


def _gauge(name: str, of_processes: Literal["max", "mostrecent"]) -> Gauge:
    """A gauge for which `of_processes` selects one of the values that several processes have set."""
    labels, text = METRICS[name]
    return Gauge(name, text, labels.split(), registry=REGISTRY, multiprocess_mode=of_processes)


def _histogram(name: str, buckets: Sequence[float]) -> Histogram:
    labels, text = METRICS[name]
    return Histogram(name, text, labels.split(), registry=REGISTRY, buckets=buckets)


INSTANCES_RECEIVED: Final = _counter("sct_node_instances_received_total")
STORE_RESPONSES: Final = _counter("sct_node_store_responses_total")
INSTANCE_CONFLICTS: Final = _counter("sct_node_instance_conflicts_total")
LIMITS: Final = _counter("sct_node_limits_total")
COMMITMENTS: Final = _counter("sct_node_commitments_total")
SERIES_SETTLED: Final = _counter("sct_node_series_settled_total")
RULES: Final = _counter("sct_node_rules_total")
LATE_SERIES: Final = _counter("sct_node_late_series_total")
JOBS: Final = _counter("sct_node_jobs_total")
REJECTED: Final = _counter("sct_node_rejected_total")
HELD: Final = _counter("sct_node_held_total")
STAGE_SECONDS: Final = _histogram("sct_node_stage_seconds", STAGE_BUCKETS_S)
CASES: Final = _counter("sct_node_cases_total")
FINDINGS: Final = _counter("sct_node_findings_total")
FINDING_HU: Final = _gauge("sct_node_finding_hounsfield", "mostrecent")
FINDING_RATIO: Final = _gauge("sct_node_finding_ratio", "mostrecent")
FINDING_METERS: Final = _gauge("sct_node_finding_meters", "mostrecent")
FINDING_VALUE: Final = _gauge("sct_node_finding_value", "mostrecent")
FINDING_LITERS: Final = _gauge("sct_node_finding_liters", "mostrecent")
FINDING_SECONDS: Final = _gauge("sct_node_finding_seconds", "mostrecent")
DELIVERED_INSTANCES: Final = _counter("sct_node_delivered_instances_total")
DELIVERY_ATTEMPTS: Final = _counter("sct_node_delivery_attempts_total")
SCANNER_TO_DESTINATION_SECONDS: Final = _histogram("sct_node_scanner_to_destination_seconds", JOURNEY_BUCKETS_S)
TLS_HANDSHAKES: Final = _counter("sct_node_tls_handshakes_total")
TLS_RELOADS: Final = _counter("sct_node_tls_reloads_total")
TLS_EXPIRY: Final = _gauge("sct_node_tls_certificate_expires_timestamp_seconds", "max")
CALLS_REFUSED: Final = _counter("sct_node_calls_refused_total")
AUDIT_FAILURES: Final = _counter("sct_node_audit_failures_total")
SIGN_INS: Final = _counter("sct_node_sign_ins_total")
ALARMS: Final = _counter("sct_node_destination_alarms_total")
PROOFS: Final = _counter("sct_node_proofs_total")
NOTICES: Final = _counter("sct_node_notices_total")
ROLE_RESTARTS: Final = _counter("sct_node_role_restarts_total")
ROLE_LAST_TICK: Final = _gauge("sct_node_role_last_tick_timestamp_seconds", "max")

FINDING_BY_UNIT: Final[Mapping[str, tuple[Gauge, float]]] = {
    "[hnsf'U]": (FINDING_HU, 1.0),
    "%": (FINDING_RATIO, 0.01),
    "mm": (FINDING_METERS, 0.001),
    "mL": (FINDING_LITERS, 0.001),
    "ms": (FINDING_SECONDS, 0.001),
    "": (FINDING_VALUE, 1.0),
}
"""UCUM unit of a finding -> the gauge that shows it, and the factor that converts the unit to that of the gauge."""

AUDIT_PLACES: Final = ("file", "syslog")
MR_CLASSES: Final = ("MRImageStorage", "EnhancedMRImageStorage", "LegacyConvertedEnhancedMRImageStorage")

FILE_BYTES: Final = 1 << 18
"""Size of each file of a process, enough for about 1,500 values. The blocks are allocated when the file is created,
because a write to a hole of a memory-mapped file on a full disk raises SIGBUS and would end the process."""

KINDS: Final = ("counter", "gauge_max", "gauge_mostrecent", "histogram")
"""Kinds of metrics, of which a process has one file each."""


def keep_in(folder: Path, role: str) -> None:
    """Keep the metrics of this process in files of `folder`, under the name of its role.

    Call it once, before anything is counted. `role` is unique among the processes that share the folder; a second
    process of a role needs a name of its own (``synthesize1``).

    Raises:
        ValueError: for a role name with an underscore, which the file names cannot hold.
        OSError: if the disk has no space for the files.
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


def start_at_zero(role: str, destinations: Sequence[str]) -> None:
    """Create the counters that alert rules watch with the value 0.

    Prometheus sees no increase in a time series that appears with its first count.

    Args:
        role: the role of this process.
        destinations: the names of the destinations in the configuration.
    """
    watched = [AUDIT_FAILURES.labels(where=where) for where in AUDIT_PLACES]
    if role == "serve":
        watched += [ROLE_RESTARTS.labels(role=one) for one in ("receive", "synthesize", "deliver", "web")]
    if role == "receive":
        watched += [COMMITMENTS.labels(outcome=outcome) for outcome in ("failures", "given_up")]
        watched += [INSTANCE_CONFLICTS.labels(sop_class=keyword) for keyword in MR_CLASSES]
        watched += [LATE_SERIES.labels(state=state) for state in ("SYNTHESIZED", "DELIVERED")]
    if role == "synthesize":
        watched += [JOBS.labels(state="SYNTHESIZED")]
    if role == "deliver":
        watched += [ALARMS.labels(name, what) for name in destinations for what in ("undelivered", "unproven")]
        watched += [DELIVERY_ATTEMPTS.labels(name, "delivered") for name in destinations]
        watched += [DELIVERED_INSTANCES.labels(name, "refused") for name in destinations]
    if role in ("receive", "deliver"):
        watched += [PROOFS.labels(name, "failures") for name in destinations]
    for counter in watched:
        counter.inc(0)


def tick(role: str) -> None:
    """Record that the process of `role` is alive; each role calls it about every second."""
    ROLE_LAST_TICK.labels(role=role).set_to_current_time()


def last_ticks(folder: Path) -> dict[str, float]:
    """Read role -> Unix time (s) of the last tick of its process from the files in `folder`."""
    samples = _samples(folder, "sct_node_role_last_tick_timestamp_seconds")
    return {sample.labels["role"]: sample.value for sample in samples}


def label_values(folder: Path, family: str, labels: Sequence[str]) -> set[tuple[str, ...]]:
    """Read the values of `labels` under which any process has counted a metric, from the files in `folder`."""
    return {tuple(sample.labels[label] for label in labels) for sample in _samples(folder, family)}


def _samples(folder: Path, family: str) -> Iterable[Sample]:
    """Read the samples of one metric from the files of all processes; none if the folder does not exist."""
    families = MultiProcessCollector(None, path=str(folder)).collect() if folder.is_dir() else ()
    return [sample for one in families if one.name == family for sample in one.samples]
