"""Files and folders denoised, checked and reported: the product around the denoiser. No torch."""
