"""The doctor: does everything that filming needs work on this machine, and if not, what to do."""
