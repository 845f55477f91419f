"""`python -m stages.prepare`, as dvc.yaml calls it."""

from stages.shared.runtime import start

start.stage("prepare")
