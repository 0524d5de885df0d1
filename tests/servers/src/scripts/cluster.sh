#!/bin/sh
# A Redis Cluster of masters only, one per port in $LARDER_TEST_PORTS, in one container. The ports
# are the same inside and outside, and every node announces 127.0.0.1, so clients can reach the
# addresses that the cluster announces. $LARDER_TEST_OPTIONS are additional server options.
#   cluster.sh            starts all nodes, forms the cluster the first time, and keeps running
#   cluster.sh node PORT  starts one node that was killed
set -eu

node() {
    mkdir -p "/data/$1"
    # shellcheck disable=SC2086 # options are words
    redis-server --port "$1" --dir "/data/$1" --bind 0.0.0.0 --protected-mode no \
        --daemonize yes --pidfile "/data/$1/pid" --logfile /data/log \
        --appendonly yes --appendfsync always \
        --cluster-enabled yes --cluster-config-file nodes.conf --cluster-node-timeout 2000 \
        --cluster-announce-ip 127.0.0.1 --cluster-announce-port "$1" \
        --cluster-announce-bus-port "$(($1 + 10000))" \
        ${LARDER_TEST_OPTIONS:-}
    until redis-cli -p "$1" ping 2>/dev/null | grep -q PONG; do sleep 0.02; done
}

if [ "${1:-}" = node ]; then
    node "$2"
    exit
fi

touch /data/log
tail -n 0 -F /data/log 2>/dev/null &
for port in $LARDER_TEST_PORTS; do node "$port"; done
# The nodes are asked whether the cluster exists. A note in a file could be missing after a kill.
set -- $LARDER_TEST_PORTS
if redis-cli -p "$1" cluster info | grep -q cluster_slots_assigned:0; then
    # shellcheck disable=SC2046 # one word per node
    redis-cli --cluster create $(printf '127.0.0.1:%s ' "$@") --cluster-replicas 0 --cluster-yes
fi
trap 'exit 0' TERM INT
wait
