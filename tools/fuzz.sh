#!/bin/sh
# Runs every fuzz target in turn: fuzz.sh 30s. A target that finds something
# stops the run, and leaves the input in its package's testdata/fuzz.
# Minimising is kept short: a run that ends in the middle of it counts as failed.
# Each package is built once, rather than for each of its targets.
set -eu
time=${1:-30s}
pkgs=$(grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' cmd internal | xargs -n1 dirname | sort -u)
[ -n "$pkgs" ] || { echo "no fuzz targets" >&2; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cache=$(go env GOCACHE)/fuzz
for pkg in $pkgs; do
	go test -c -fuzz . -o "$tmp/fuzz.test" "./$pkg"
	for name in $(cat "$pkg"/*_test.go | sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p'); do
		echo "== ./$pkg $name"
		(cd "$pkg" && "$tmp/fuzz.test" -test.run '^$' -test.fuzz "^$name\$" -test.fuzztime "$time" -test.fuzzminimizetime 10x -test.fuzzcachedir "$cache/$pkg")
	done
done
