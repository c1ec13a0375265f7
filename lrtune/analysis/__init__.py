"""Pure functions of losses, rates and scores: what curves, sweeps and comparisons say."""
