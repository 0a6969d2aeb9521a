"""Publish: what is owed to whom, and the threads that deliver it."""
