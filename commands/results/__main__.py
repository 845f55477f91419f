"""`python -m commands.results`"""

from stages.shared.runtime import start

start.command("results", after_stop="`make results` prints the table")
