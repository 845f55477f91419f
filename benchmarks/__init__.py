"""How fast the pipeline is, measured on the machine at hand: `make benchmark`."""
