#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The systemd unit is understood whole, and denies the service what it does not need.
# usage: unit_check.sh UNIT
set -uo pipefail
command -v systemd-analyze >/dev/null || { echo "skipped: systemd-analyze is missing"; exit 77; }
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
# The program and the manuals are not installed here; a mistyped key would be said beside that.
sed -e 's|^ExecStart=.*|ExecStart=/bin/true|' -e '/^Documentation=/d' "$1" >"$directory/vfioapd.service"
said=$(systemd-analyze verify "$directory/vfioapd.service" 2>&1)
[[ -z $said ]] || { echo "systemd-analyze verify says: $said"; exit 1; }
# In tenths: 2.0.
systemd-analyze security --offline=true --threshold=20 "$directory/vfioapd.service" >"$directory/out" 2>&1 || {
    cat "$directory/out"
    exit 1
}
tail -n 1 "$directory/out"
