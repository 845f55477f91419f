"""`python -m stages.compare`, as dvc.yaml calls it."""

from stages.shared.runtime import start

start.stage("compare")
