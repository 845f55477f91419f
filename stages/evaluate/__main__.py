"""`python -m stages.evaluate VARIANT`, as dvc.yaml calls it."""

from stages.shared.networks import backend
from stages.shared.runtime import start

if __name__ == "__main__":
    start.stage("evaluate", "VARIANT", setup=backend.configure)
