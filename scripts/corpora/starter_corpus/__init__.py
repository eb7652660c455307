"""Building blocks of the starter corpus: voices that are spoken, noises that are computed."""
