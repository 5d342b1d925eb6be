#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Reading the snapshot of the largest host there can be needs little memory: the hook and the service read
# what others send.
# usage: snapshot_memory.sh MAKE-HOSTS LIMIT-KB
set -eu
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
"$1" largest "$directory/largest.json"
result=$("$1" load "$directory/largest.json")
echo "$result, at most $2 kB allowed"
case $result in
    "65536 queues, "*) ;;
    *) exit 1 ;;
esac
memory=${result#*, }
test "${memory% kB}" -le "$2"
