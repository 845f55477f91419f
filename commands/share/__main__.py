"""`python -m commands.share`"""

from stages.shared.runtime import start

if __name__ == "__main__":
    start.command("share", after_stop="`make share` pushes what is missing")
