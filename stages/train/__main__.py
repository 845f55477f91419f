"""`python -m stages.train VARIANT`, as dvc.yaml calls it."""

from stages.shared.networks import backend
from stages.shared.runtime import start

start.stage("train", "VARIANT", setup=backend.configure)
