"""Whether a map is true and its place is right: measures, intervals, controls."""
