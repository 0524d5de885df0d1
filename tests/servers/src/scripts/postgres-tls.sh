#!/bin/sh
# Starts Postgres as its image does, with TLS. The files are installed again, because the key must
# belong to the server's user, and a copied file cannot. Connections without TLS are refused.
set -eu
install -d -o postgres -g postgres -m 700 /etc/larder-tls
install -o postgres -g postgres -m 600 /larder-test/server.pem /larder-test/server.key \
    /larder-test/pg_hba.conf /etc/larder-tls/
exec docker-entrypoint.sh postgres -c ssl=on \
    -c ssl_cert_file=/etc/larder-tls/server.pem -c ssl_key_file=/etc/larder-tls/server.key \
    -c hba_file=/etc/larder-tls/pg_hba.conf "$@"
