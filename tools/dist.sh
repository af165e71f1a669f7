#!/bin/sh
# Writes OUT/vault_<version>_linux_<arch>.zip, which hold one executable, vault:
#   tools/dist.sh OUT ARCH...
# VERSION is the version, LDFLAGS what else the linker is told.
set -eu
cd "$(dirname "$0")/.."
out=$1
shift
version=${VERSION:-$(sed -n 's/^var Arca = "\(.*\)"$/\1/p' internal/version/version.go)}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$out"
for arch; do
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -tags testify_yaml_fail -trimpath -buildvcs=false \
		-ldflags "${LDFLAGS:--s -w} -X arca/internal/version.Arca=$version" -o "$tmp/vault" ./cmd/arca
	go run tools/zip.go "$out/vault_${version}_linux_$arch.zip" "$tmp/vault" vault
	echo "$out/vault_${version}_linux_$arch.zip"
done
