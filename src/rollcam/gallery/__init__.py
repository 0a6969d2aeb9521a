"""The gallery: find an episode, watch it, see why. Needs the extra `gallery` to be served."""
