"""`python` and `dvc` of the tests: has a parent fork the command, or becomes the real program.

    python -I -S client.py FOLDER PROGRAM REAL ARGUMENT...

It is started for every command, so it imports next to nothing.
"""

import _signal
import _socket
import marshal
import os
import sys

OWN_PACKAGES = ("benchmarks", "commands", "stages")
# SIGKILL can't be handed on: when this process is gone, the parent ends the child.
HANDED_ON = (
    _signal.SIGHUP,
    _signal.SIGINT,
    _signal.SIGQUIT,
    _signal.SIGTERM,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
)


def parent_of(program: str, arguments: list[str]) -> str | None:
    """The parent that has what the command imports; None if there is none."""
    seed = os.environ.get("PYTHONHASHSEED")
    if program not in os.environ.get("WARM_PROGRAMS", "python dvc").split():
        return None
    if program == "dvc":
        return "dvc" if seed is None else None
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        return None
    if arguments[:1] == ["-m"] and arguments[1].partition(".")[0] in OWN_PACKAGES:
        return {None: "keras", "0": "keras-0"}.get(seed)
    return None


def run(connection: _socket.socket, real: str, arguments: list[str]) -> int:
    """Have the command run; its exit status, below 0 the signal that ended it."""
    child, early = [], []

    def hand_on(number: int, _frame: object) -> None:
        if child:
            os.kill(child[0], number)
        else:
            early.append(number)

    ignored = [n for n in HANDED_ON if _signal.getsignal(n) == _signal.SIG_IGN]
    for number in HANDED_ON:
        if number not in ignored:
            _signal.signal(number, hand_on)
    umask = os.umask(0)
    os.umask(umask)
    wanted = {
        "command": [real, *arguments],
        "environment": dict(os.environb),
        "folder": os.getcwd(),  # noqa: PTH109  pathlib takes longer to import than all else
        "cores": list(os.sched_getaffinity(0)),
        "umask": umask,
        "ignored": ignored,
        "group": os.getpgrp(),
    }
    message = marshal.dumps(wanted)
    message = len(message).to_bytes(8) + message
    streams = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)]
    sent = connection.sendmsg([message], rights)
    connection.sendall(message[sent:])
    said = b""
    while said.count(b"\n") < 2:
        more = connection.recv(64)
        if not more:
            os.write(2, b"the parent of the tests' programs is gone\n")
            return 1
        said += more
        if not child and b"\n" in said:
            child.append(int(said.partition(b"\n")[0]))
            for number in early:
                os.kill(child[0], number)
    return int(said.split(b"\n")[1])


def main() -> None:
    folder, program, real, *arguments = sys.argv[1:]
    if parent := parent_of(program, arguments):
        connection = _socket.socket(_socket.AF_UNIX)
        try:
            connection.connect(f"{folder}/{parent}.socket")
        except OSError:
            # It outlives the tests, as DVC's workers may.
            pass
        else:
            status = run(connection, real, arguments)
            if status >= 0:
                os._exit(status)
            if -status != _signal.SIGKILL:
                _signal.signal(-status, _signal.SIG_DFL)
            os.kill(os.getpid(), -status)
    os.execv(real, [real, *arguments])


main()
