"""Rollcam: a flight recorder for reinforcement-learning rollouts."""
