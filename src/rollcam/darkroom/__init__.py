"""The darkroom: a process that encodes, so that the trainer's own has no thread that does."""
