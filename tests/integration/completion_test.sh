#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What bash offers while a command line of the programs is typed.
# usage: completion_test.sh COMPLETION-FILE
set -euo pipefail
completion=$(realpath "$1")
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"
mkdir root "two words" bin
first=1c7b6ad4-3f0e-4c0e-8d6a-6d2b1f0a7e11
second=62177883-f1bb-47f0-914d-32a22e3a8804
mkdir -p root/devices/vfio_ap/matrix/{mdev_supported_types,power,$first} "two words/devices/vfio_ap/matrix/$second"
export SYSFS_ROOT=$directory/nowhere
touch lpar-b.json guest.xml notes.txt
# The arguments go to virsh's log: which libvirt is asked, and that it is only read.
cat >bin/virsh <<'END'
#!/bin/sh
echo "$*" >>virsh.log
printf 'guest1\nweb\nweb server\n\n'
END
chmod +x bin/virsh
PATH=$directory/bin:$PATH
# shellcheck disable=SC1090  # the file under test
source "$completion"
failed=0

# expect "WANTED WORDS" WORD...: what the last word is completed to, sorted, separated by |.
expect() {
    local wanted=$1 function found
    shift
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    COMPREPLY=()
    function=_${1//-/_}
    "$function" || true
    found=$(printf '%s\n' "${COMPREPLY[@]}" | LC_ALL=C sort -u | paste -sd '|')
    if [[ $found != "$wanted" ]]; then
        echo "$*: expected '$wanted', found '$found'"
        failed=1
    fi
}

expect "state|status|stream" vfioapctl st
expect "explain|materialize|migrate|plan|snapshot|state|status|stream|unplan" vfioapctl ""
expect "explain|materialize|migrate|plan|snapshot|state|status|stream|unplan" vfioapctl --format json ""
expect "explain|materialize|migrate|plan|snapshot|state|status|stream|unplan" vfioapctl -d root ""
expect "explain|materialize|migrate|plan|snapshot|state|status|stream|unplan" vfioapctl --format = json ""
expect "" vfioapctl status ""
expect "bin|local|lpar-b.json|root|two words" vfioapctl snapshot ""
expect "--output" vfioapctl snapshot --o
expect "guest.xml|guest1" vfioapctl plan gu
expect "" vfioapctl plan guest1 ""
expect "guest.xml|guest1" vfioapctl plan -d lpar-b.json --mode native gu
expect "native" vfioapctl plan --mode n
expect "--leave-unused" vfioapctl plan --le
expect "" vfioapctl status --le
expect "" vfioapctl status --o
expect "lpar-b.json" vfioapctl materialize lp
expect "bin|root|two words" vfioapctl materialize lpar-b.json ""
expect "" vfioapctl materialize lpar-b.json root ""
expect "lpar-b.json" vfioapctl snapshot -o lp
expect "bin|local|lpar-b.json|root|two words" vfioap-check -d ""
expect "local|lpar-b.json" vfioap-check --source l
expect "two words" vfioap-check --sysfs-root t
expect "native" vfioap-check --mode n
expect "native" vfioap-check --mode = n
expect "auto|detached|live-update|native" vfioap-check --mode =
expect "restore" vfioap-check guest1 --profile r
expect "--mode" vfioap-check --mo
expect "guest.xml|guest1" vfioap-check gu
expect "web|web server" vfioap-check -d lpar-b.json we
expect "decode|restore|save|verify" vfioapctl stream ""
expect "decode|restore|save|verify" vfioapctl -s lpar-a stream ""
expect "restore" vfioapctl stream re
expect "" vfioapctl stream --l
expect "--layout" vfioapctl stream save --l
expect "l1|l2|l2b|l3" vfioapctl stream save --layout ""
expect "l2|l2b" vfioapctl stream --layout = l2
expect "--write" vfioapctl stream restore --w
expect "" vfioapctl stream verify --w
expect "--source|--strict|--sysfs-root" vfioapctl stream verify --s
expect "-q" vfioapctl stream verify -q
expect "web|web server" vfioapctl stream save we
expect "" vfioapctl stream save 6
expect "" vfioapctl stream save guest1 ""
expect "$second" vfioapctl -s "two words" stream save 6
expect "$first" vfioapctl stream save -s sysfs:root 1
expect "" vfioapctl stream save -s root pow
expect "" vfioapctl stream verify -s root 1
expect "$first" vfioapctl stream verify -d root 1
expect "$second" vfioapctl stream restore --destination = "two words" 6
expect "$first" vfioapctl stream restore --layout l3 --sysfs-root root 1
expect "$first" vfioapctl stream restore --sysfs-root = root 1
SYSFS_ROOT=$directory/root expect "$first" vfioapctl stream restore -d lpar-b.json 1
expect "notes.txt" vfioapctl stream decode no
expect "notes.txt" vfioapctl stream verify -d root "$first" no
expect "notes.txt" vfioapctl stream restore --write "$first" no
expect "" vfioapctl stream restore "$first" notes.txt ""
rm virsh.log
expect "web|web server" vfioap-check -c qemu+ssh://lpar-a/system we
if [[ $(<virsh.log) != "-q -r -c qemu+ssh://lpar-a/system list --all --name" ]]; then
    echo "virsh was asked: $(<virsh.log)"
    failed=1
fi
expect "web|web server" vfioap-check --connect = qemu+ssh://lpar-b/system we
if [[ $(tail -n 1 virsh.log) != "-q -r -c qemu+ssh://lpar-b/system list --all --name" ]]; then
    echo "with =, virsh was asked: $(<virsh.log)"
    failed=1
fi
# Without virsh, and with one that cannot ask.
printf '#!/bin/sh\necho error: failed to connect >&2\nexit 1\n' >bin/virsh
expect "guest.xml" vfioap-check gu 2>stderr
[[ ! -s stderr ]] || { echo "virsh is heard: $(<stderr)"; failed=1; }
for program in vfioap-check vfioapctl; do
    complete -p "$program" >/dev/null || failed=1
done
[[ $failed -eq 0 ]] && echo "completes as expected"
exit "$failed"
