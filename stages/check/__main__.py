"""`python -m stages.check`, as dvc.yaml calls it."""

from stages.shared.runtime import start

start.stage("check")
