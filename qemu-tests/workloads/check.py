# SPDX-License-Identifier: GPL-2.0
"""What every workload written in Python shares; check.h says what the arguments and the lines of the log mean."""

import os
import sys
import time


class Check:
    """A workload: PROGRAM LOG [key=value ...]."""

    def __init__(self, name):
        self.name = name
        self.log = sys.argv[1]
        self.options = dict(word.split("=", 1) for word in sys.argv[2:])
        self.fd = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        with open(self.log + ".beat", "w"):
            pass
        os.chmod(self.log + ".beat", 0o666)
        if os.path.exists(self.log + ".finish"):
            os.unlink(self.log + ".finish")
        self.starter = None
        if not self.number("foreground", 0):
            self._leave()
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(self.fd, 1)
        os.dup2(self.fd, 2)
        self.pid = os.getpid()
        self.beating = self.number("beat", 1)
        self.pause = self.number("pause", 10) / 1000
        self.duration = self.number("duration", 0) / 1000
        self.beats = 0
        self.next_beat = 0.0
        self.started = 0.0

    def _leave(self):
        mine, theirs = os.pipe()
        if os.fork():
            os.close(theirs)
            os._exit(0 if os.read(mine, 1) else 1)
        os.close(mine)
        self.starter = theirs
        os.setsid()

    def option(self, key, otherwise):
        return self.options.get(key, otherwise)

    def number(self, key, otherwise):
        return int(self.options.get(key, otherwise))

    def say(self, line):
        os.write(self.fd, (line + "\n").encode())

    def ready(self):
        self.started = time.monotonic()
        self.say(f"READY {self.pid}")
        if self.starter is not None:
            os.write(self.starter, b"r")
            os.close(self.starter)
            self.starter = None

    def fail(self, what):
        self.say(f"FAIL {self.name} {what}")
        os._exit(1)

    def equal(self, what, got, expected):
        if got != expected:
            self.fail(f"{what}: expected {expected!r}, got {got!r}")

    def true(self, condition, what):
        if not condition:
            self.fail(what)

    def beat(self):
        now = time.monotonic()
        if not self.beating or now < self.next_beat:
            return
        self.next_beat = now + 0.05
        fd = os.open(self.log + ".beat", os.O_RDWR | os.O_CREAT, 0o666)
        text = os.pread(fd, 32, 0).decode()
        if self.beats or text:
            self.true(
                text != "" and int(text) == self.beats,
                f"heartbeat: expected {self.beats}, got {text.strip()}: another copy runs",
            )
        self.beats += 1
        os.pwrite(fd, b"%020d\n" % self.beats, 0)
        os.close(fd)

    def finished(self):
        self.equal("getpid", os.getpid(), self.pid)
        self.beat()
        if self.duration and time.monotonic() - self.started > self.duration:
            return True
        return os.path.exists(self.log + ".finish")

    def turn(self):
        time.sleep(self.pause)
        return self.finished()

    def done(self, iterations):
        self.say(f"OK {self.name} iterations={iterations}")
        os._exit(0)
