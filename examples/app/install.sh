#!/bin/sh
# Install the application where it was cloned.
set -eu
cd "$(dirname "$0")"
python3 -m compileall -q app
