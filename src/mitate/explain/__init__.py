"""Making maps: taps, grids, layers, methods, and the one object that users call."""
