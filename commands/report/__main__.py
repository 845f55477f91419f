"""`python -m commands.report`"""

from stages.shared.runtime import start

if __name__ == "__main__":
    start.command("report", after_stop="reports/index.html is as it was")
