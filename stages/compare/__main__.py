"""`python -m stages.compare`, as dvc.yaml calls it."""

from stages.shared.runtime import start

if __name__ == "__main__":
    start.stage("compare")
