"""Store: every name on disk, and the sidecars that tell the truth about each episode."""
