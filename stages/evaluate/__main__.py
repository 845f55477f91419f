"""`python -m stages.evaluate VARIANT`, as dvc.yaml calls it."""

from stages.shared.networks import backend
from stages.shared.runtime import start

start.stage("evaluate", "VARIANT", setup=backend.configure)
