"""`python -m commands.reproduce`"""

from stages.shared.runtime import start

if __name__ == "__main__":
    start.command("reproduce", after_stop="nothing was changed")
