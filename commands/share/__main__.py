"""`python -m commands.share`"""

from stages.shared.runtime import start

start.command("share", after_stop="`make share` pushes what is missing")
