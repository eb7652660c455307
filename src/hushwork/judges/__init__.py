"""Judges that no loss uses: networks that imitate listeners, and a speech recogniser."""
