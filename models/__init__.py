"""Tensors: the latent diffusion model, its training and its weights. No DICOM, no sockets, no database, no clock."""
