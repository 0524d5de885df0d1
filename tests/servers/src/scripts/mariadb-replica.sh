#!/bin/sh
# A MariaDB primary on port 3307 and its read-only replica on port 3306, in one container. The replica
# accepts connections once it has replicated the setup of the primary. The arguments are options of both.
set -eu
cd /var/lib/mysql

# The replica begins as a copy of the primary, which has not run yet.
if [ ! -e replica ]; then
    rm -rf primary replica.new
    mariadb-install-db --user=mysql --datadir="$PWD/primary" --skip-test-db >/dev/null
    cp -a primary replica.new
    mv replica.new replica
fi

# server NAME OPTION...: the command of a server.
server() {
    name=$1
    shift
    exec mariadbd --user=mysql --datadir="$PWD/$name" --socket="$PWD/$name/socket" --pid-file="$PWD/$name/pid" \
        --log-basename="$name" --init-file="/larder-test/$name.sql" --bind-address=0.0.0.0 "$@"
}

server primary --port=3307 --server-id=1 --log-bin --sync-binlog=1 "$@" &
server replica --port=3306 --server-id=2 --skip-slave-start --read-only=ON "$@"
