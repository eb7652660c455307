"""What a denoising network computes, stated once: tables, specification and the program for inference. No torch."""
