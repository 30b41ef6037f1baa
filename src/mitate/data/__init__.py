"""Photos, masks and data sets: decoding, reading, splitting, and the simulated set."""
