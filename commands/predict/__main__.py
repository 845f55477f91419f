"""`python -m commands.predict`"""

from stages.shared.networks import backend
from stages.shared.runtime import start

if __name__ == "__main__":
    start.command(
        "predict", after_stop="the pictures that shares.csv names are done", setup=backend.configure
    )
