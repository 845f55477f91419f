"""`python -m commands.report`"""

from stages.shared.runtime import start

start.command("report", after_stop="reports/index.html is as it was")
