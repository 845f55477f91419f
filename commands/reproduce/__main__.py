"""`python -m commands.reproduce`"""

from stages.shared.runtime import start

start.command("reproduce", after_stop="nothing was changed")
