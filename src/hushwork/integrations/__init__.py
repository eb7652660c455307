"""The streaming denoiser inside voice agents and telephone gateways."""
