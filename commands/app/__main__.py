"""`python -m commands.app`"""

from stages.shared.networks import backend
from stages.shared.runtime import start

start.command(
    "app",
    after_stop="`python -m commands.app` starts it again",
    needs="gradio",
    setup=backend.configure,
)
