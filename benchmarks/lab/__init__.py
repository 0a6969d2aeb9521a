"""What the benchmarks share: environments, recorders, trials in processes of their own, tables."""
