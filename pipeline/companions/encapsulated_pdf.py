"""Encapsulated PDF (PS3.3 A.45.1): the report of a case, in the CT's study."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pydicom.uid import EncapsulatedPDFStorage

from pipeline.companions.companion import CtSeries, made_at
from pipeline.ct.elements import elements, sequence
from pipeline.ct.files import file_bytes
from pipeline.ct.provenance import RESEARCH_LABEL

TITLE: Final = "Synthetic CT report"
"""Document Title (0042,0010)."""


def encapsulated_pdf(ct: CtSeries, pdf: bytes, at: datetime) -> bytes:
    """The file that holds a PDF report, made at a moment (aware)."""
    companion = made_at(ct, "pdf", pdf, at)
    label = f"; {RESEARCH_LABEL}" if ct.research else ""
    document = elements(
        ConversionType="SYN",
        AcquisitionDateTime=None,
        BurnedInAnnotation="NO",
        DocumentTitle=TITLE + label,
        MIMETypeOfEncapsulatedDocument="application/pdf",
        EncapsulatedDocument=pdf + b"\0" * (len(pdf) % 2),
        EncapsulatedDocumentLength=len(pdf),
    )
    sources = sequence("SourceInstanceSequence", ct.references())
    name = sequence("ConceptNameCodeSequence", [])
    shared = companion.shared() | companion.content_time()
    return file_bytes(EncapsulatedPDFStorage, companion.sop_instance_uid, shared, document, sources, name)
