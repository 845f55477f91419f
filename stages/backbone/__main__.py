"""`python -m stages.backbone BACKBONE`, as dvc.yaml calls it."""

from stages.shared.networks import backend
from stages.shared.runtime import start

start.stage("backbone", "BACKBONE", setup=backend.configure)
