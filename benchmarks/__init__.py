"""How fast the pipeline is, measured on the machine at hand: `make benchmark`."""

import os

from stages.shared.networks.backend import ENVIRONMENT

# As the stages set it, before a measurement imports Keras.
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
