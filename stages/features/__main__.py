"""`python -m stages.features`, as dvc.yaml calls it."""

from stages.shared.networks import backend
from stages.shared.runtime import start

start.stage("features", setup=backend.configure)
