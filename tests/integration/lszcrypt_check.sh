#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The real lszcrypt reads the sysfs roots that are made of the example hosts, and shows their cards and queues.
# usage: lszcrypt_check.sh MAKE-HOSTS HOSTS-DIRECTORY
# VFIOAP_S390X_ROOT: a directory with the s390x C library; VFIOAP_LSZCRYPT: the program. Exit 77 without them.
set -eu
make_hosts=$1
hosts=$2

skip() {
    echo "skipped: $1"
    exit 77
}
[ -n "${VFIOAP_S390X_ROOT:-}" ] || skip "VFIOAP_S390X_ROOT is not set"
[ -n "${VFIOAP_LSZCRYPT:-}" ] || skip "VFIOAP_LSZCRYPT is not set"
[ -d "$VFIOAP_S390X_ROOT" ] || skip "$VFIOAP_S390X_ROOT is no directory"
[ -f "$VFIOAP_LSZCRYPT" ] || skip "$VFIOAP_LSZCRYPT is no file"
if [ "$(uname -m)" = s390x ]; then
    run=
else
    command -v qemu-s390x-static >/dev/null || skip "qemu-s390x-static is missing"
    run="qemu-s390x-static -L $VFIOAP_S390X_ROOT"
fi

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
failed=0
checked=0

# What lszcrypt prints goes to a file; anything on standard error, or an exit code, is a failure.
lszcrypt() {
    SYSFS_ROOT=$directory/sys $run "$VFIOAP_LSZCRYPT" "$@" >"$directory/out" 2>"$directory/err" &&
        [ ! -s "$directory/err" ] && return 0
    echo "$name: lszcrypt $*: failed"
    cat "$directory/err"
    failed=1
    return 1
}

for file in "$hosts"/*.json; do
    name=$(basename "$file" .json)
    "$make_hosts" materialize "$file" "$directory/sys"
    "$make_hosts" table "$file" >"$directory/expected"
    if lszcrypt -V; then
        # Name, type and driver are the first, second and last column.
        sed '/^CARD/d; /^-*$/d' "$directory/out" | awk '{ print $1, $2, $NF }' >"$directory/shown"
        if ! diff "$directory/expected" "$directory/shown" >"$directory/diff"; then
            echo "$name: lszcrypt -V shows something else (< snapshot, > lszcrypt)"
            head -n 20 "$directory/diff"
            failed=1
        fi
        # Facilities as real cards show them.
        if grep -Ev '^(CARD|-+$)' "$directory/out" | grep -Evq ' (S--D--NF-|-MC-A-NF-|-----XNF-) '; then
            echo "$name: facilities that no card has"
            grep -Ev ' (S--D--NF-|-MC-A-NF-|-----XNF-) ' "$directory/out" | head -n 5
            failed=1
        fi
    fi
    lszcrypt -b && { grep -q '^ap_domain=0x' "$directory/out" || { echo "$name: -b without ap_domain"; failed=1; }; }
    # Domain 0047, or 0000 of the large ones: a B for usage and control.
    lszcrypt -d && { grep -Eq '^ +[0-9a-f]0 .*[BU]' "$directory/out" || { echo "$name: -d without domains"; failed=1; }; }
    card=$(sed -n '1s/ .*//p' "$directory/expected")
    lszcrypt -c "0x$card" && { grep -q "^card$card provides capability" "$directory/out" || { echo "$name: -c"; failed=1; }; }
    rm -rf "$directory/sys"
    checked=$((checked + 1))
done
# The one that people try first.
"$make_hosts" materialize "$hosts/lpar-a.json" "$directory/sys"
name=lpar-a
lszcrypt -c 5
[ "$checked" -ge 9 ] || { echo "only $checked hosts"; failed=1; }
[ "$failed" -eq 0 ] && echo "$checked hosts are shown by lszcrypt as their snapshots say"
exit "$failed"
