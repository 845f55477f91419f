"""`python -m commands.predict`"""

from stages.shared.networks import backend
from stages.shared.runtime import start

start.command(
    "predict", after_stop="the masks that shares.csv names are finished", setup=backend.configure
)
