#!/bin/sh
# Like the official image: options alone mean the server, the server accepts connections from outside
# the container (Debian's options bind it to loopback), and it runs /docker-entrypoint-initdb.d/*.sql.
# The official image runs them once; here they run at every start, so they must be repeatable.
set -e
case "${1:-}" in
    '' | -*) set -- mariadbd "$@" ;;
esac
if [ "$1" = mariadbd ]; then
    shift
    find /docker-entrypoint-initdb.d -name '*.sql' -exec cat {} + > /run/mysqld/init.sql
    set -- mariadbd --user=mysql --bind-address=0.0.0.0 --init-file=/run/mysqld/init.sql "$@"
fi
exec "$@"
