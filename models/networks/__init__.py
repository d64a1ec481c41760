"""The methods: latent diffusion model, SwinUNETR, nnU-Net, CycleGAN, Pix2Pix, behind one interface."""
