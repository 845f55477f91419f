"""`python -m commands.app`"""

from stages.shared.networks import backend
from stages.shared.runtime import start

if __name__ == "__main__":
    backend.configure()
    start.command("app", after_stop="`python -m commands.app` starts it again")
