#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Linear algebra with numpy, size=<n> (default 200): every result is compared bit by bit with the first one."""

import os
import sys

import numpy

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from check import Check  # noqa: E402

check = Check("python_numpy")
size = check.number("size", 200)
random = numpy.random.default_rng(7)
a = random.standard_normal((size, size))
b = random.standard_normal((size, size))
exact = random.integers(-1000, 1000, (size, size))
large = numpy.arange(4_000_000, dtype=numpy.float64)
product = a @ b
solution = numpy.linalg.solve(a, b)
spectrum = numpy.fft.fft(large[:65536])
total = large.sum()
power = exact @ exact
check.ready()
turns = 0
while True:
    check.true(numpy.array_equal(a @ b, product), "product differs")
    check.true(numpy.array_equal(numpy.linalg.solve(a, b), solution), "solution differs")
    check.true(numpy.allclose(a @ solution, b), "solution is wrong")
    check.true(numpy.array_equal(numpy.fft.fft(large[:65536]), spectrum), "spectrum differs")
    check.true(numpy.array_equal(exact @ exact, power), "product of integers differs")
    check.equal("sum", float(large.sum()), float(total))
    turns += 1
    if check.turn():
        break
check.equal("first and last", (float(large[0]), float(large[-1])), (0.0, 3_999_999.0))
check.done(turns)
