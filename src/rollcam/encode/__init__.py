"""Encode: from frames to files that every browser plays, and back. The only door to PyAV."""
