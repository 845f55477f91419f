"""`python -m commands.sweep`"""

from stages.shared.runtime import start

start.command(
    "sweep",
    after_stop="`make sweep` takes the finished trials from DVC's run cache",
    needs="optuna",
)
