"""Sinks: where finished films are published; each tracker in a file of its own."""
