"""`python -m stages.backbone`, as dvc.yaml calls it."""

from stages.shared.networks import backend
from stages.shared.runtime import start

start.stage("backbone", setup=backend.configure)
