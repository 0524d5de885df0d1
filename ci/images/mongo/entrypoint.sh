#!/bin/sh
# `mongod` and options alone mean the server; options are SecantusDB's own.
set -e
case "${1:-mongod}" in
    mongod) [ $# -eq 0 ] || shift ;;
    -*) ;;
    *) exec "$@" ;;
esac
# MongoDB acknowledges a write when it is in the journal; --sync-on-commit does the same here.
# With the default cache of 1 GB the server hangs once a fifth of it is dirty, as it is after some values of
# 16 MB: a writer that holds the server's lock evicts pages without end that waiting connections have pinned.
exec /opt/secantus/bin/secantusd-py --host 0.0.0.0 --port 27017 --storage-path /data/db \
    --sync-on-commit --enable-test-commands --cache-size 8G "$@"
