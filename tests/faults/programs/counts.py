"""Prints a number each half second, until it has printed as many as its first argument says."""

import sys
import time

for number in range(int(sys.argv[1])):
    print(number, flush=True)
    time.sleep(0.5)
