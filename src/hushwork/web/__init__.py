"""Denoising in a browser: the page, and models as its engine reads them."""
