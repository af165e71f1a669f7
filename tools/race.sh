#!/bin/sh
# Prints "-race" where the race detector can run: it needs cgo, and cgo a C
# compiler. Without one it is installed if that is possible without asking.
set -u
say() { echo "race.sh: $*" >&2; }

has_compiler() { command -v "${CC:-gcc}" >/dev/null 2>&1 || command -v clang >/dev/null 2>&1; }

install_compiler() {
	command -v apt-get >/dev/null 2>&1 || return 1
	sudo=
	if [ "$(id -u)" != 0 ]; then
		command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null || return 1
		sudo="sudo -n"
	fi
	say "no C compiler: installing gcc for the race detector"
	export DEBIAN_FRONTEND=noninteractive
	$sudo apt-get install -y -qq --no-install-recommends gcc libc6-dev >/dev/null 2>&1 && return 0
	$sudo apt-get update -qq >/dev/null 2>&1
	$sudo apt-get install -y -qq --no-install-recommends gcc libc6-dev >/dev/null 2>&1
}

case "$(go env GOOS)/$(go env GOARCH)" in
linux/amd64 | linux/arm64 | linux/ppc64le | linux/s390x | linux/riscv64 | linux/loong64 | darwin/amd64 | darwin/arm64 | freebsd/amd64) ;;
*)
	say "no race detector for this platform: testing without"
	exit 0
	;;
esac
if has_compiler || { install_compiler && has_compiler; }; then
	echo -race
else
	say "no C compiler, and none can be installed: testing without the race detector"
fi
