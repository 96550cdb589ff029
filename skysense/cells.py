"""SkySense's own division of the Earth: cells of equal area, each with a bank of prototypes."""
