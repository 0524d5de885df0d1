#!/bin/bash
# Runs Postgres on 5432 and, once it answers, pgbouncer on 6432 in transaction pooling mode.
# The container ends when either of the two does.
set -euo pipefail

user=${POSTGRES_USER:-postgres}
password=${POSTGRES_PASSWORD:?set the password of the superuser}

# After a kill the lock file names a process number that may now belong to pgbouncer.
rm -f "${PGDATA:-/var/lib/postgresql/data}/postmaster.pid"
docker-entrypoint.sh "$@" &

# The official image first runs a server without TCP to set the database up, so ask over TCP.
until pg_isready -q -h 127.0.0.1 -p 5432; do
    kill -0 $! || exit 1
    sleep 0.05
done

dir=/run/larder-pgbouncer
install -d -o postgres -m 700 "$dir"
printf '"%s" "%s"\n' "${user//\"/\"\"}" "${password//\"/\"\"}" > "$dir/users"
{
    echo '[databases]'
    echo '* = host=127.0.0.1 port=5432'
    echo '[pgbouncer]'
    echo 'listen_addr = *'
    echo 'listen_port = 6432'
    echo 'unix_socket_dir ='
    echo 'auth_type = scram-sha-256'
    echo "auth_file = $dir/users"
    echo 'pool_mode = transaction'
    # Two server connections for any number of clients: two transactions of one client rarely meet
    # the same one, so session state that leaks between transactions shows.
    echo 'default_pool_size = 2'
    echo 'max_client_conn = 500'
    echo 'server_round_robin = 1'
    echo 'ignore_startup_parameters = extra_float_digits,search_path,statement_timeout,options'
    # Since 1.21 pgbouncer can carry named statements across connections. Many poolers in use do
    # not, and the tests are about those.
    if dpkg --compare-versions "$(dpkg-query -W -f '${Version}' pgbouncer)" ge 1.21; then
        echo 'max_prepared_statements = 0'
    fi
} > "$dir/pgbouncer.ini"
chown postgres "$dir"/*
setpriv --reuid=postgres --regid=postgres --init-groups pgbouncer "$dir/pgbouncer.ini" &

stop() { kill -INT $(jobs -p) 2>/dev/null || true; }
trap stop TERM INT
wait -n || true
stop
wait || true
