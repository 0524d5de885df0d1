#!/bin/sh
# Like the official image: options alone mean the server, and the server accepts connections from
# outside the container (Debian's build keeps protected mode on, the official build has it off).
set -e
case "${1:-}" in
    '' | -*) set -- valkey-server "$@" ;;
esac
if [ "$1" = valkey-server ]; then
    shift
    set -- valkey-server "$@" --protected-mode no
fi
exec "$@"
