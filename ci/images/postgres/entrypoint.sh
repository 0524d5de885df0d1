#!/bin/bash
# Takes POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, POSTGRES_HOST_AUTH_METHOD, PGDATA and server
# options the way the official image does.
set -euo pipefail

if [ $# -eq 0 ] || [ "${1#-}" != "$1" ]; then
    set -- postgres "$@"
fi
if [ "$1" != postgres ]; then
    exec "$@"
fi

bin=$(echo /usr/lib/postgresql/*/bin)
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/var/lib/postgresql PATH="$bin:$PATH" "$@"; }

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    user=${POSTGRES_USER:-postgres}
    database=${POSTGRES_DB:-$user}
    method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "$method" != trust ]; then
        echo "Error: POSTGRES_PASSWORD is not set; give the superuser a password." >&2
        exit 1
    fi
    mkdir -p "$PGDATA" && chown postgres:postgres "$PGDATA" && chmod 700 "$PGDATA"
    secret=$(mktemp)
    printf '%s\n' "${POSTGRES_PASSWORD:-unused}" > "$secret"
    chown postgres "$secret"
    # --no-sync: a container that dies while it is being set up is thrown away, not reopened.
    as_postgres initdb --no-sync --username="$user" --pwfile="$secret" \
        --auth-local=trust --auth-host="$method" --encoding=UTF8 -D "$PGDATA"
    rm -f "$secret"
    printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"
    if [ "$database" != postgres ]; then
        # Single-user mode: no socket is open before the real server starts.
        printf 'CREATE DATABASE "%s"\n' "${database//\"/\"\"}" \
            | as_postgres postgres --single -D "$PGDATA" postgres >/dev/null
    fi
fi

shift
exec setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/var/lib/postgresql \
    "$bin/postgres" -c 'listen_addresses=*' "$@"
