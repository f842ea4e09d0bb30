#!/bin/sh
# Runs first_figures.py, which says what it measures; arguments are passed on.
exec python3 "$(dirname "$0")/first_figures.py" "$@"
