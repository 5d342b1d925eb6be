#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What lpar-b needs before guest1 can come from lpar-a, by vfioapctl plan (mode detached).
# For root, at lpar-b. Safe to run again: what is done already is left as it is.
set -eu

# The sysfs root; whether it is kept for the next boot, by chzdev, driverctl and mdevctl (yes or no); and for how
# many seconds the bus may look for drivers.
SYSFS=${SYSFS_ROOT:-/sys}
if [ "$SYSFS" = /sys ]; then KEEP=${KEEP:-yes}; else KEEP=${KEEP:-no}; fi
WAIT=${WAIT:-60}

matrix=devices/vfio_ap/matrix

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# put VALUE ATTRIBUTE
put() {
    printf '  %s > %s\n' "$1" "$SYSFS/$2"
    { printf '%s\n' "$1" >"$SYSFS/$2"; } || fail "$2: the kernel refuses $1; nothing more is done"
}

# is ATTRIBUTE TEXT
is() {
    [ -e "$SYSFS/$1" ] && [ "$(cat "$SYSFS/$1")" = "$2" ]
}

# keep TOOL COMMAND
keep() {
    [ "$KEEP" = yes ] || return 0
    if command -v "$1" >/dev/null; then
        printf '  %s\n' "$2"
        sh -c "$2"
    else
        printf '  not kept for the next boot, for there is no %s: %s\n' "$1" "$2"
    fi
}

# bound QUEUE...
bound() {
    for queue in "$@"; do
        [ -e "$SYSFS/bus/ap/drivers/vfio_ap/$queue" ] || return 1
    done
}

# free MASK CHANGE QUEUE...
free() {
    mask=$1
    change=$2
    shift 2
    bound "$@" || put "$change" "bus/ap/$mask"
}

# wait_for QUEUE...
wait_for() {
    waited=0
    until bound "$@" && { [ ! -e "$SYSFS/bus/ap/bindings" ] || grep -q complete "$SYSFS/bus/ap/bindings"; }; do
        if [ "$waited" -ge "$WAIT" ]; then
            bound "$@" || fail "not all queues of the guest are bound to vfio_ap after $WAIT seconds"
            echo '  some queue has no driver yet, but those of the guest have theirs'
            return 0
        fi
        sleep 1
        waited=$((waited + 1))
    done
}

# create MDEV
create() {
    [ ! -d "$SYSFS/$matrix/$1" ] || return 0
    if [ "$KEEP" = yes ] && command -v mdevctl >/dev/null; then
        echo "  mdevctl start --uuid $1 --parent matrix --type vfio_ap-passthrough"
        mdevctl start --uuid "$1" --parent matrix --type vfio_ap-passthrough
    else
        put "$1" "$matrix/mdev_supported_types/vfio_ap-passthrough/create"
    fi
}

# holds MDEV adapter|domain|control_domain NUMBER
holds() {
    case $2 in
        adapter) grep -qs "^$(printf %02x "$3")\." "$SYSFS/$matrix/$1/matrix" ;;
        domain) grep -qs "\.$(printf %04x "$3")\$" "$SYSFS/$matrix/$1/matrix" ;;
        *) grep -qsx "$(printf %04x "$3")" "$SYSFS/$matrix/$1/control_domains" ;;
    esac
}

# take MDEV adapter|domain NUMBER: from an mdev that no guest uses
take() {
    holds "$@" || return 0
    while read -r queue; do
        ! grep -qsx 'in use' "$SYSFS/devices/ap/card${queue%.*}/$queue/status" ||
            fail "mdev $1 is used by a guest now; nothing is taken from it"
    done <"$SYSFS/$matrix/$1/matrix"
    put "$3" "$matrix/$1/unassign_$2"
}

# assign MDEV adapter|domain|control_domain NUMBER
assign() {
    holds "$@" || put "$3" "$matrix/$1/assign_$2"
}

[ -d "$SYSFS/bus/ap" ] || fail "there is no AP bus in $SYSFS"

# queue.assigned-elsewhere: lpar-b: 1 queue is assigned to another mdev, 4e5d2b90-7e61-4be8-a1c2-57f06d9e1a44
echo '1/5 unassign adapter 05 from mdev 4e5d2b90-7e61-4be8-a1c2-57f06d9e1a44, which no guest uses'
take 4e5d2b90-7e61-4be8-a1c2-57f06d9e1a44 adapter 0x05
keep mdevctl 'if mdevctl list --defined | grep -q 4e5d2b90-7e61-4be8-a1c2-57f06d9e1a44; then mdevctl undefine --uuid 4e5d2b90-7e61-4be8-a1c2-57f06d9e1a44; mdevctl define --auto --uuid 4e5d2b90-7e61-4be8-a1c2-57f06d9e1a44; fi'

# queue.not-bound: lpar-b: 1 queue is not bound to vfio_ap but to cex4queue
# The host's own drivers lose, too: 06.00ab
echo '2/5 leave adapter 06 to vfio_ap'
free apmask -0x06 06.0047
keep chzdev 'chzdev -t ap apmask=-6'

# queue.not-bound: lpar-b: 1 queue is not bound to vfio_ap but to cex4queue
echo '3/5 wait until the bus has bound every queue to its driver'
wait_for 05.0004 05.0047 06.0004 06.0047

# mdev.missing: lpar-b has no mdev 62177883-f1bb-47f0-914d-32a22e3a8804
echo '4/5 create mdev 62177883-f1bb-47f0-914d-32a22e3a8804'
create 62177883-f1bb-47f0-914d-32a22e3a8804

# mdev.missing: the guest's queues and control domains have to be there before the device is attached
echo '5/5 assign adapters 05 06, domains 0004 0047 and control domains 0004 0047 to it'
assign 62177883-f1bb-47f0-914d-32a22e3a8804 adapter 0x05
assign 62177883-f1bb-47f0-914d-32a22e3a8804 adapter 0x06
assign 62177883-f1bb-47f0-914d-32a22e3a8804 domain 0x04
assign 62177883-f1bb-47f0-914d-32a22e3a8804 domain 0x47
assign 62177883-f1bb-47f0-914d-32a22e3a8804 control_domain 0x04
assign 62177883-f1bb-47f0-914d-32a22e3a8804 control_domain 0x47
keep mdevctl 'mdevctl undefine --uuid 62177883-f1bb-47f0-914d-32a22e3a8804 2>/dev/null || true'
keep mdevctl 'mdevctl define --auto --uuid 62177883-f1bb-47f0-914d-32a22e3a8804'

echo 'Done. vfioap-check tells whether guest1 can come.'
