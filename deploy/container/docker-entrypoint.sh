#!/bin/sh
# The entry point of the image, with the environment that Vault's has:
#
#   VAULT_LOCAL_CONFIG                     configuration, as JSON or HCL, beside what lies in /vault/config
#   VAULT_REDIRECT_INTERFACE               network interface whose address becomes VAULT_API_ADDR
#   VAULT_CLUSTER_INTERFACE                … and VAULT_CLUSTER_ADDR
#   VAULT_DEV_ROOT_TOKEN_ID, VAULT_DEV_LISTEN_ADDRESS
#   SKIP_CHOWN, SKIP_SETCAP                leave owners of folders, and the right to lock memory, as they are
#   ARCA_CONFIG_DIR                        in place of /vault/config
#
# What is given is "server …", any other command of vault with its arguments, or any program.
set -e
umask 077

config_dir=${ARCA_CONFIG_DIR:-/vault/config}

address_of() {
    ip -o -4 addr show dev "$1" | awk '{ sub("/.*", "", $4); print $4; exit }'
}

if [ -n "$VAULT_REDIRECT_INTERFACE" ]; then
    VAULT_API_ADDR="http://$(address_of "$VAULT_REDIRECT_INTERFACE"):8200"
    export VAULT_API_ADDR
fi
if [ -n "$VAULT_CLUSTER_INTERFACE" ]; then
    VAULT_CLUSTER_ADDR="https://$(address_of "$VAULT_CLUSTER_INTERFACE"):8201"
    export VAULT_CLUSTER_ADDR
fi
if [ -n "$VAULT_LOCAL_CONFIG" ]; then
    # .hcl: JSON in it is recognised
    printf '%s\n' "$VAULT_LOCAL_CONFIG" >"$config_dir/local.hcl"
fi

case "$1" in
-*)
    set -- vault "$@"
    ;;
server)
    shift
    set -- "-config=$config_dir" "$@"
    [ -z "$VAULT_DEV_ROOT_TOKEN_ID" ] || set -- "-dev-root-token-id=$VAULT_DEV_ROOT_TOKEN_ID" "$@"
    [ -z "$VAULT_DEV_LISTEN_ADDRESS" ] || set -- "-dev-listen-address=$VAULT_DEV_LISTEN_ADDRESS" "$@"
    set -- vault server "$@"
    ;;
version)
    set -- vault "$@"
    ;;
*)
    if ! command -v "$1" >/dev/null 2>&1 && vault "$1" -help 2>&1 | grep -q "vault $1"; then
        set -- vault "$@"
    fi
    ;;
esac

# As root: give the folders to vault, let it lock memory, and be root no longer.
if { [ "$1" = vault ] || [ "$1" = arca ] || [ "$1" = kes ]; } && [ "$(id -u)" = 0 ] && command -v su-exec >/dev/null 2>&1; then
    if [ -z "$SKIP_CHOWN" ]; then
        for dir in "$config_dir" /vault/logs /vault/file /vault/data; do
            [ ! -d "$dir" ] || [ "$(stat -c %u "$dir")" = "$(id -u vault)" ] || chown -R vault:vault "$dir" || echo "the owner of $dir cannot be changed" >&2
        done
    fi
    if [ -z "$SKIP_SETCAP" ]; then
        setcap cap_ipc_lock=+ep "$(readlink -f "$(command -v "$1")")" 2>/dev/null ||
            echo "memory cannot be locked: run with --cap-add=IPC_LOCK, or set disable_mlock, and have no swap" >&2
    fi
    exec su-exec vault "$@"
fi
exec "$@"
