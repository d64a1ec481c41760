"""DICOM objects that accompany the CT: RT Structure Set, Segmentation, Parametric Map, Structured Report, PDF."""
