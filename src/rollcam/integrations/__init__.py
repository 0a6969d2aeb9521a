"""Integrations: thin adapters that know one framework each and nothing of files or codecs."""
