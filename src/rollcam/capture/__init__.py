"""Capture: from what `render()` returned to one well-formed frame, and the choice of episodes."""
