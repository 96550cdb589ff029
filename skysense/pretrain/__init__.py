"""Learning without labels: SkySense's pre-training (paper, Sec. 3.2 to 3.4) on places of one's own."""
