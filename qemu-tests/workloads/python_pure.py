#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""What ordinary Python programs hold: objects of many kinds, generators half-way, threads, an open file, a big number."""

import collections
import decimal
import hashlib
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from check import Check  # noqa: E402

check = Check("python_pure")


def primes():
    composite = collections.defaultdict(list)
    number = 2
    while True:
        if number not in composite:
            yield number
            composite[number * number].append(number)
        else:
            for prime in composite.pop(number):
                composite[prime + number].append(prime)
        number += 1


def is_prime(number):
    return all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def counter(index):
    while not closing:
        with lock:
            counts[index] += 1
            total[0] += 1
        time.sleep(0.01)


lock = threading.Lock()
closing = False
counts = [0] * 4
total = [0]
threads = [threading.Thread(target=counter, args=(index,)) for index in range(4)]
table = {str(number): hashlib.md5(b"%d" % number).hexdigest() for number in range(50000)}
tree = None
for number in random.Random(1).sample(range(10000), 10000):
    tree = (number, tree)
generator = primes()
dice = random.Random(42)
again = random.Random(42)
big = 1
decimal.getcontext().prec = 200
third = decimal.Decimal(1) / 3
file = open(check.log + ".data", "w+", encoding="utf-8")
lines = 0
for thread in threads:
    thread.start()
check.ready()
turns = 0
last = 1
while True:
    prime = next(generator)
    check.true(prime > last and is_prime(prime), f"{prime} comes after {last}")
    last = prime
    turns += 1
    big = big * turns
    check.equal("factorial", big % (turns + 1) == 0 or is_prime(turns + 1) or turns == 3, True)
    for _ in range(100):
        key = str(dice.randrange(50000))
        check.equal("table", table[key], hashlib.md5(key.encode()).hexdigest())
    check.equal("a third", third * 3 + decimal.Decimal(10) ** -200, 1)
    file.write(f"{turns} {prime}\n")
    lines += 1
    if check.turn():
        break
closing = True
for thread in threads:
    thread.join()
check.equal("sum of the counts", sum(counts), total[0])
check.true(min(counts) > 0, "a thread did nothing")
for _ in range(turns * 100):
    again.randrange(50000)
check.equal("random state", again.getstate(), dice.getstate())
seen = set()
while tree:
    seen.add(tree[0])
    tree = tree[1]
check.equal("list", len(seen), 10000)
file.seek(0)
check.equal("lines of the file", sum(1 for line in file if is_prime(int(line.split()[1]))), lines)
file.close()
os.unlink(check.log + ".data")
check.done(turns)
