#!/bin/sh
# Runs every fuzz target in turn: fuzz.sh 30s. A target that finds something
# stops the run, and leaves the input in its package's testdata/fuzz.
# Minimising is kept short: a run that ends in the middle of it counts as failed.
set -eu
time=${1:-30s}
targets=$(grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' cmd internal | sort)
[ -n "$targets" ] || { echo "no fuzz targets" >&2; exit 1; }
for file in $targets; do
	pkg=./$(dirname "$file")
	for name in $(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$file"); do
		echo "== $pkg $name"
		go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 10x "$pkg"
	done
done
