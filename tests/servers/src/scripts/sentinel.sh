#!/bin/sh
# A Redis master, its replica and a Sentinel that watches them, in one container, on the three ports
# in $LARDER_TEST_PORTS. The ports are the same inside and outside and announced with 127.0.0.1, so
# clients can reach the addresses that the Sentinel announces. A failover changes the roles, which
# each server keeps in its configuration file. $LARDER_TEST_OPTIONS are additional server options.
#   sentinel.sh            starts all three, and keeps running
#   sentinel.sh node PORT  starts one that was killed
set -eu

# shellcheck disable=SC2086 # one word per port
set -- "${1:-}" "${2:-}" $LARDER_TEST_PORTS
command=$1 wanted=$2 master=$3 replica=$4 sentinel=$5

node() {
    if [ "$1" = "$sentinel" ]; then
        redis-server "/data/$1/redis.conf" --sentinel --daemonize yes
    else
        # shellcheck disable=SC2086 # options are words
        redis-server "/data/$1/redis.conf" --daemonize yes ${LARDER_TEST_OPTIONS:-}
    fi
    until redis-cli -p "$1" ping 2>/dev/null | grep -q PONG; do sleep 0.02; done
}

if [ "$command" = node ]; then
    node "$wanted"
    exit
fi

configure() { # configure PORT LINE...
    file=/data/$1/redis.conf
    [ ! -e "$file" ] || return 0
    mkdir -p "/data/$1"
    {
        printf 'port %s\ndir /data/%s\nbind 0.0.0.0\nprotected-mode no\n' "$1" "$1"
        printf 'pidfile /data/%s/pid\nlogfile /data/log\n' "$1"
        shift
        printf '%s\n' "$@"
    } > "$file.new"
    mv "$file.new" "$file"
}
durable='appendonly yes
appendfsync always'

touch /data/log
tail -n 0 -F /data/log 2>/dev/null &
configure "$master" "$durable" 'replica-announce-ip 127.0.0.1' "replica-announce-port $master"
configure "$replica" "$durable" 'replica-announce-ip 127.0.0.1' "replica-announce-port $replica" \
    "replicaof 127.0.0.1 $master"
# A busy disk may stall a server that syncs each write, so only a longer silence counts as a failure.
configure "$sentinel" 'sentinel announce-ip 127.0.0.1' "sentinel announce-port $sentinel" \
    "sentinel monitor $LARDER_TEST_MASTER 127.0.0.1 $master 1" \
    "sentinel down-after-milliseconds $LARDER_TEST_MASTER 2000" \
    "sentinel failover-timeout $LARDER_TEST_MASTER 3000"

if [ ! -e /data/formed ]; then
    node "$master"
    node "$replica"
    # A Sentinel asks the master for its replicas at once, and then only every 10 s. So the replica must be online first.
    until redis-cli -p "$master" info replication | grep -q state=online; do sleep 0.02; done
    touch /data/formed
else
    node "$master"
    node "$replica"
fi
node "$sentinel"
trap 'exit 0' TERM INT
wait
