#!/usr/bin/env bash
# Runs the shell blocks of a document that stand behind a line "<!-- walk -->"
# against a fresh dev server: what a document shows, works. A line that ends in
# "# refused" must fail.
set -euo pipefail
cd "$(dirname "$0")/.."
doc=$(realpath "${1:?which document}")
[ -x bin/arca ] || { echo "run make first" >&2; exit 1; }
export PATH=$PWD/bin:$PATH
tmp=$(mktemp -d)
export HOME=$tmp
cd "$tmp"
server=
trap '[ -z "$server" ] || { kill $server 2>/dev/null; wait $server 2>/dev/null; } || true; rm -rf "$tmp"' EXIT

# Some port that is free: a server that finds its port taken ends at once.
export VAULT_TOKEN=root VAULT_ADDR
up=
for _ in 1 2 3 4 5; do
	addr=127.0.0.1:$((20000 + RANDOM % 20000))
	VAULT_ADDR=http://$addr
	arca server -dev -dev-no-store-token -dev-root-token-id=root -dev-listen-address=$addr >server.log 2>&1 &
	server=$!
	for _ in $(seq 100); do
		if grep -q 'server started' server.log; then up=yes && break 2; fi
		kill -0 $server 2>/dev/null || break
		sleep 0.1
	done
done
[ -n "$up" ] || { cat server.log; echo "the server did not start" >&2; exit 1; }

{
	echo 'set -euo pipefail'
	awk '/^<!-- walk -->$/ { walk = 1; next }
		walk && /^```sh$/ { on = 1; next }
		/^```$/ { if (on) walk = 0; on = 0; next }
		on && /^export VAULT_ADDR=/ { next } # another port here
		on && /# refused$/ { sub(/ *# refused$/, ""); print "if " $0 "; then echo not refused >&2; exit 1; fi"; next }
		on { print }' "$doc"
} >walk.sh
[ "$(wc -l <walk.sh)" -gt 1 ] || { echo "$doc has no walk" >&2; exit 1; }
if ! bash -x walk.sh >walk.out 2>&1; then
	cat walk.out
	echo "$1: a command failed" >&2
	exit 1
fi
echo "$1: all $(grep -cE '^\++ (arca|curl)' walk.out) commands did what it says"
