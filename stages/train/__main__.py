"""`python -m stages.train VARIANT`, as dvc.yaml calls it."""

from stages.shared.networks import backend
from stages.shared.runtime import start

if __name__ == "__main__":
    start.stage("train", "VARIANT", setup=backend.configure)
