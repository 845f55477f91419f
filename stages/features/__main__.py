"""`python -m stages.features BACKBONE`, as dvc.yaml calls it."""

from stages.shared.networks import backend
from stages.shared.runtime import start

start.stage("features", "BACKBONE", setup=backend.configure)
