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

expect "status" vfioapctl st
expect "materialize|snapshot|status" vfioapctl ""
expect "materialize|snapshot|status" vfioapctl --format json ""
expect "materialize|snapshot|status" vfioapctl -d root ""
expect "materialize|snapshot|status" vfioapctl --format = json ""
expect "" vfioapctl status ""
expect "bin|local|lpar-b.json|root|two words" vfioapctl snapshot ""
expect "--output" vfioapctl snapshot --o
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
expect "auto|detached|native" vfioap-check --mode =
expect "restore" vfioap-check guest1 --profile r
expect "--mode" vfioap-check --mo
expect "guest.xml|guest1" vfioap-check gu
expect "web|web server" vfioap-check -d lpar-b.json we
rm virsh.log
expect "web|web server" vfioap-check -c qemu+ssh://lpar-a/system we
if [[ $(<virsh.log) != "-q -r -c qemu+ssh://lpar-a/system list --all --name" ]]; then
    echo "virsh was asked: $(<virsh.log)"
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
