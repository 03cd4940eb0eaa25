#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""
Counts and hashes over size=<MiB> (default 64) of live data, and says now and then how far it is:

    iteration 1234 chain 0f1e2d3c4b5a6978 data 64 MiB ok on node1

Each iteration takes one block, checks it against the hash it had, changes it, and lets its new hash into the chain. So
the chain shows that nothing was lost, repeated or altered on the way. `demo.py verify LOG` computes the chain again from
nothing and compares every line of a log, but for the host's name, which is what changes. progress=<ms> is the time between two lines.
"""

import hashlib
import os
import sys
import time

BLOCK = 256 * 1024


def first(index):
    """The block as it is at the beginning."""
    seed = hashlib.sha256(b"block %d" % index).digest()
    return bytearray(seed * (BLOCK // len(seed)))


class Work:
    def __init__(self, size):
        self.count = size * 1024 * 1024 // BLOCK
        self.blocks = [first(index) for index in range(self.count)]
        self.hashes = [hashlib.sha256(block).digest() for block in self.blocks]
        self.chain = b"\0" * 32
        self.iteration = 0

    def intact(self, index):
        return hashlib.sha256(self.blocks[index]).digest() == self.hashes[index]

    def step(self):
        index = int.from_bytes(self.chain[:4], "big") % self.count
        block = self.blocks[index]
        intact = self.intact(index)
        place = int.from_bytes(self.chain[4:8], "big") % (BLOCK - 32)
        block[place : place + 32] = self.chain
        block[:8] = self.iteration.to_bytes(8, "big")
        self.hashes[index] = hashlib.sha256(block).digest()
        self.chain = hashlib.sha256(self.chain + self.hashes[index]).digest()
        self.iteration += 1
        return intact

    def line(self):
        return f"iteration {self.iteration} chain {self.chain.hex()[:16]} data {self.count * BLOCK >> 20} MiB ok"


def verify(log, size):
    """Whether every line of the log is what it must be."""
    with open(log, encoding="utf-8") as file:
        lines = [line.strip() for line in file if line.startswith("iteration ")]
    work = Work(size)
    last = -1
    for line in lines:
        wanted = int(line.split()[1])
        if wanted <= last:
            sys.exit(f"{log}: iteration {wanted} comes after {last}")
        last = wanted
        while work.iteration < wanted:
            work.step()
        if work.line() != line.split(" on ")[0]:
            sys.exit(f"{log}: expected {work.line()!r}, got {line!r}")
    if not lines:
        sys.exit(f"{log}: no line")
    print(f"{len(lines)} lines, {last} iterations verified")


def main():
    if len(sys.argv) >= 3 and sys.argv[1] == "verify":
        options = dict(word.split("=", 1) for word in sys.argv[3:])
        verify(sys.argv[2], int(options.get("size", 64)))
        return
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from check import Check

    check = Check("demo")
    check.pause = check.number("pause", 0) / 1000
    interval = check.number("progress", 250) / 1000
    work = Work(check.number("size", 64))
    check.ready()
    due = 0.0
    while True:
        check.true(work.step(), f"a block has changed by itself, iteration {work.iteration}")
        now = time.monotonic()
        if now >= due:
            due = now + interval
            check.say(f"{work.line()} on {os.uname().nodename}")
            if check.finished():
                break
        if check.pause:
            time.sleep(check.pause)
    for index in range(work.count):
        check.true(work.intact(index), f"block {index} has changed by itself")
    check.done(work.iteration)


main()
