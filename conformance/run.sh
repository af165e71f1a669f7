#!/usr/bin/env bash
# Plays recorded scenarios against ./bin/arca and compares the result with what
# was reached before: run.sh vault|kes|kmip FOLDER [arguments of the runner].
#
# FOLDER holds the runner and its scenarios. conformance/KIND.scores holds one
# line per area, "area passed total"; the run fails when an area has fewer
# scenarios passed than recorded there. Areas that are not in the file, or that
# the runner does not know, count for nothing. After a gain, write the new board
# into the file: the last thing printed is in its form.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:?which kind: vault, kes or kmip}
dir=${2:?where the runner is}
shift 2
scores=conformance/$kind.scores
arca=$PWD/bin/arca
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# Each play_KIND prints the runner's output; board_KIND turns it into lines of
# "area passed total".
play_vault() {
	(cd "$dir" && go build -o "$tmp/runner" .)
	(cd "$dir" && "$tmp/runner" run "$@" \
		-target "$arca server -dev -dev-no-store-token -dev-root-token-id=root -dev-listen-address={addr}")
}
board_vault() { awk '$2 ~ /^[0-9]+\/[0-9]+$/ && $1 != "all" { split($2, n, "/"); print $1, n[1], n[2] }'; }

play_kes() {
	(cd "$dir" && go build -o "$tmp/runner" .)
	(cd "$dir" && "$tmp/runner" -kes "$arca" "$@" scenarios)
}
board_kes() { awk '$3 == "of" && $2 ~ /^[0-9]+$/ { print $1, $2, $4 }'; }

# The runner for KMIP plays against a server that is there: one with a role that may
# do everything. The versions are those that are spoken.
play_kmip() {
	local api=127.0.0.1:${ARCA_CONFORM_PORT:-18290} port=${ARCA_CONFORM_KMIP:-18291} up=
	"$arca" server -dev -dev-no-store-token -dev-root-token-id=root "-dev-listen-address=$api" >"$tmp/server.log" 2>&1 &
	server=$!
	(
		export VAULT_ADDR=http://$api VAULT_TOKEN=root
		for _ in $(seq 100); do
			"$arca" status >/dev/null 2>&1 && up=1 && break
			sleep 0.1
		done
		[ -n "$up" ] || { cat "$tmp/server.log"; exit 1; }
		"$arca" secrets enable kmip
		"$arca" write kmip/config "listen_addrs=127.0.0.1:$port"
		"$arca" write kmip/ca/objects/generate key_type=rsa key_bits=2048
		"$arca" write kmip/config certify_ca=objects
		"$arca" write -f kmip/scope/conformance
		"$arca" write kmip/scope/conformance/role/all operation_all=true
		"$arca" read -field=ca_pem kmip/ca >"$tmp/ca.pem"
		"$arca" write -format=json kmip/scope/conformance/role/all/credential/generate format=pem >"$tmp/credential.json"
		for part in certificate private_key; do
			python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["data"][sys.argv[2]])' "$tmp/credential.json" $part >"$tmp/$part.pem"
		done
	) && python3 "$dir/oasis_replay.py" --host 127.0.0.1 --port "$port" --ca "$tmp/ca.pem" --cert "$tmp/certificate.pem" --key "$tmp/private_key.pem" \
		--set v1.0,v1.1,v1.2,v1.3,v2.0 "$@"
	kill "$server" 2>/dev/null
	wait "$server" 2>/dev/null || true
}
board_kmip() { awk '/^# v[0-9.]+: [0-9]+ of [0-9]+$/ { sub(":", "", $2); print $2, $3, $5 }'; }

# fallen prints the areas of which fewer pass than recorded.
fallen() {
	[ -f "$scores" ] || return 0
	awk 'FILENAME == ARGV[1] { if ($1 !~ /^#/ && NF >= 2) want[$1] = $2; next }
		($1 in want) && $2 < want[$1] { print $1 }' "$scores" "$1"
}

"play_$kind" "$@" >"$tmp/out" 2>&1 || true # what counts is the board
"board_$kind" <"$tmp/out" >"$tmp/board"
if [ ! -s "$tmp/board" ]; then
	tail -n 40 "$tmp/out"
	echo "$kind: the runner printed no board" >&2
	exit 1
fi

# A scenario that waits for something may fail on a busy machine: what fell gets
# a second go, by itself.
bad=$(fallen "$tmp/board" | paste -sd, -)
again=-area
[ "$kind" = kes ] && again=-tags
if [ -n "$bad" ] && [ "$kind" != kmip ]; then
	echo "$kind: fell, playing again: $bad"
	"play_$kind" "$@" $again "$bad" -j 1 >"$tmp/out2" 2>&1 || true
	"board_$kind" <"$tmp/out2" >"$tmp/board2"
	awk 'FILENAME == ARGV[1] { if (!($1 in best) || $2 > best[$1]) best[$1] = $2; next }
		($1 in best) && best[$1] > $2 { $2 = best[$1] } { print }' "$tmp/board2" "$tmp/board" >"$tmp/board3"
	mv "$tmp/board3" "$tmp/board"
	bad=$(fallen "$tmp/board" | paste -sd, -)
fi

echo "conformance, $kind: area, passed, total"
cat "$tmp/board"
awk '{ p += $2; n += $3 } END { print "# all", p, n }' "$tmp/board"
if [ -n "$bad" ]; then
	# Of the second go, where there was one: it holds the fallen areas only.
	grep -E '^FAIL ' -A 12 "$([ -f "$tmp/out2" ] && echo "$tmp/out2" || echo "$tmp/out")" | head -n 200 || true
	echo "$kind: fewer scenarios pass than recorded in $scores: $bad" >&2
	exit 1
fi
