#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What cmake --install puts where: all that the manual pages name, and nothing that only tests need.
# usage: install_test.sh CMAKE BUILD-DIRECTORY
set -euo pipefail
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
if ! "$1" --install "$2" --prefix "$prefix" >"$prefix.log" 2>&1; then
    cat "$prefix.log"
    rm -f "$prefix.log"
    exit 1
fi
rm -f "$prefix.log"

failed=0
for file in bin/vfioap-check bin/vfioapctl \
    share/man/man1/vfioap-check.1 share/man/man1/vfioapctl.1 \
    share/man/man5/vfioap-{keys,snapshot,state,stream}.5 share/man/man5/vfioap.conf.5 \
    share/man/man7/vfioap-{dbus,rules}.7 share/man/man8/vfioap{d,-hook}.8 sbin/vfioapd \
    share/dbus-1/system.d/org.vfioap1.conf share/dbus-1/system-services/org.vfioap1.service \
    share/dbus-1/interfaces/org.vfioap1.{Manager,Mdev,Migration}.xml share/polkit-1/actions/org.vfioap1.policy \
    lib/systemd/system/vfioapd.service \
    share/bash-completion/completions/vfioap-check share/bash-completion/completions/vfioapctl \
    share/vfioap/vfioap-{explanation,moves,plan,report,snapshot,status,stream}.schema.json share/vfioap/vfioap-domain.rng \
    share/doc/vfioap/README.md share/doc/vfioap/LICENSE; do
    [[ -s $prefix/$file ]] || { echo "$file is missing"; failed=1; }
done
# The hook, by the link that libvirtd finds, which looks for the others beside itself. Where libexec is differs.
hook=$prefix/etc/libvirt/hooks/qemu.d/50-vfioap
[[ -L $hook && -x $hook ]] || { echo "the hook is missing"; failed=1; }
for other in judge tell; do
    [[ -x $(readlink -f "$hook")-$other ]] || { echo "vfioap-hook-$other is missing"; failed=1; }
done
status=0
said=$("$hook" --config /dev/null guest1 migrate begin <<<vfio-ap 2>&1) || status=$?
[[ $status -eq 2 && $said == usage:* ]] || { echo "the hook does not run: $status $said"; failed=1; }
# The installed program runs without the tree that it was built in.
"$prefix/bin/vfioapctl" --version | grep -qE '^vfioapctl [0-9]+\.[0-9]+\.[0-9]+$' || { echo "vfioapctl does not run"; failed=1; }
if find "$prefix" -name '*test*' -o -name '*fake*' -o -name '*bench*' | grep .; then
    echo "belongs to the tests only"
    failed=1
fi
[[ $failed -eq 0 ]] && echo "all is where it belongs"
exit "$failed"
