#!/bin/sh
# Installs what some tests use beside Go, where that is possible without asking.
# Tests skip what is not there, unless ARCA_TEST_CLIENTS=required, as CI has it where
# packages can be installed: then what is missing fails them.
# With --strict, the exit status tells whether all is there.
set -u
missing=0
[ "${1:-}" = --strict ] && missing=3
packages=
has() { command -v "$1" >/dev/null 2>&1; }
for p in bash curl jq openssl; do
	has "$p" || packages="$packages $p"
done
/usr/bin/python3 -c 'import hvac' >/dev/null 2>&1 || packages="$packages python3-hvac"
[ -x /usr/sbin/slapd ] || packages="$packages slapd"
has softhsm2-util || packages="$packages softhsm2"
has ansible-playbook || packages="$packages ansible"
/usr/bin/python3 -c 'import kmip' >/dev/null 2>&1 || packages="$packages python3-pykmip"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || packages="$packages postgresql"
[ -x /usr/sbin/mariadbd ] || packages="$packages mariadb-server"
has etcd || packages="$packages etcd-server"
[ -n "$packages" ] || exit 0

say() { echo "packages.sh: $*" >&2; }
has apt-get || { say "tests that need$packages are left out"; exit $missing; }
sudo=
if [ "$(id -u)" != 0 ]; then
	has sudo && sudo -n true 2>/dev/null || { say "tests that need$packages are left out: it takes root to install them"; exit $missing; }
	sudo="sudo -n"
fi
say "installing$packages"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list
$sudo apt-get install -y -qq --no-install-recommends $packages >/dev/null 2>&1 && exit 0
$sudo apt-get update -qq >/dev/null 2>&1
# shellcheck disable=SC2086
$sudo apt-get install -y -qq --no-install-recommends $packages >/dev/null 2>&1 || { say "could not install them: tests that need$packages are left out"; exit $missing; }
exit 0
