"""A storage commitment that was asked for is reported although every process of the node was killed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt

from dicomnode.commitment import PUSH_MODEL, WELL_KNOWN_INSTANCE
from dicomnode.config import Commitment, Peer, Receive


def test_a_request_is_reported_after_sigkill_of_every_process(
    node: Callable[..., Any], thigh_series: list[Path], free_port: Callable[[], int]
) -> None:
    port, reports = free_port(), list[tuple[int, str]]()
    receive = Receive(disk_reserve_bytes=0, peers=(Peer("SCANNER", "127.0.0.1", port),))
    running = node(receive=receive, commitment=Commitment(timeout_s=3.0, retry_first_s=0.5, retry_max_s=1.0))
    running.start()
    running.push(thigh_series)
    scanner, transaction = AE("SCANNER"), generate_uid()
    scanner.add_requested_context(PUSH_MODEL)
    association = scanner.associate("127.0.0.1", running.config.node.port)
    asked = request(transaction, thigh_series)
    assert association.send_n_action(asked, 1, PUSH_MODEL, WELL_KNOWN_INSTANCE)[0].Status == 0x0000
    running.kill()
    association.abort()

    def hear(event: evt.Event) -> tuple[int, None]:
        reports.append((event.event_type or 0, str(event.event_information.TransactionUID)))
        return 0x0000, None

    scanner.add_supported_context(PUSH_MODEL, scu_role=True, scp_role=True)
    server = scanner.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, hear)])
    running.start()
    running.until(lambda: reports, "the report comes")
    running.until(lambda: "storage commitment reported" in running.log(), "and its answer is heard")
    assert reports == [(1, transaction)]
    assert server is not None
    server.shutdown()


def request(transaction: str, paths: list[Path]) -> Dataset:
    """Action Information that lists files (PS3.4 Table J.3-1)."""
    asked = Dataset()
    asked.TransactionUID = transaction
    asked.ReferencedSOPSequence = []
    for one in map(pydicom.dcmread, paths):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
        asked.ReferencedSOPSequence.append(item)
    return asked
