"""mitate beside its peers, as ratios in one process. No test reads a clock; these do."""
