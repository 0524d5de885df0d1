#!/bin/sh
# The arguments of the official image (`-jar DynamoDBLocal.jar ...`) mean the server, which has no options here.
set -e
case "${1:-}" in
    '' | -*) exec node /opt/dynalite/server.js ;;
    *) exec "$@" ;;
esac
