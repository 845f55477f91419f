"""`python -m commands.sweep`"""

from stages.shared.runtime import start

if __name__ == "__main__":
    start.command("sweep", after_stop="`make sweep` takes the finished trials from DVC's run cache")
