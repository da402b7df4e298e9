"""An analyst whose operations are toys: the real server without the training libraries, so that a test takes milliseconds."""

import os
import sys
import time

from tuitune.analyst.server import Operation, Server
from tuitune.errors import UserError


def echo(progress, **args):
    progress("one moment")
    print("a library's chatter")
    return args


def sleep(progress, seconds):
    time.sleep(seconds)
    return {"slept": seconds}


def endless(progress):
    while True:
        pass


def refuse(progress):
    raise UserError("row 3 is no row; mend it")


def fault(progress):
    raise KeyError("assistant")


def die(progress):
    os._exit(9)


def hungry(progress):
    return {"size": len(bytearray(64 << 30))}


def render(progress, watch, seconds, forked=False):
    if forked and os.fork():
        time.sleep(15)
    watch.slot = 1 if forked else 0
    watch.begin()
    until = time.monotonic() + seconds
    while time.monotonic() < until:  # a render works
        pass
    watch.end()
    return {"rendered": seconds}


def large(progress, size):
    return {"text": "x" * size}


def remember(progress, file, seconds):
    def write():
        progress("remembering")
        time.sleep(seconds)
        with open(file, "w") as output:
            output.write("remembered")

    progress.afterwards.append(write)
    return {"answered": True}


operations = {
    "remember": Operation(remember, 5),
    "echo": Operation(echo, 5),
    "sleep": Operation(sleep, 20),
    "endless": Operation(endless, 2),
    "refuse": Operation(refuse, 5),
    "fault": Operation(fault, 5),
    "die": Operation(die, 5),
    "hungry": Operation(hungry, 5),
    "render": Operation(render, 20, renders=True),
    "large": Operation(large, 20),
}
answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
Server(operations, sys.stdin.fileno(), answers).serve()
