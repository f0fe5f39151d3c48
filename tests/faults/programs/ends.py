"""Ends as its first argument says: with that exit code, or by that signal."""

import os
import signal
import sys

print("a last line", flush=True)
if sys.argv[1].startswith("SIG"):
    os.kill(os.getpid(), signal.Signals[sys.argv[1]])
sys.exit(int(sys.argv[1]))
