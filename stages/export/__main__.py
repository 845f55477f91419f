"""`python -m stages.export VARIANT`, as dvc.yaml calls it."""

from stages.shared.networks import backend
from stages.shared.runtime import start

start.stage("export", "VARIANT", setup=backend.configure)
