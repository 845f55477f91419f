"""`python -m commands.new`"""

from stages.shared.runtime import start

start.command("new", after_stop="`make new` can be run again")
