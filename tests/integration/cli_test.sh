#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The programs as somebody meets them at a prompt: exit codes, what goes where, and odd input and output.
# usage: cli_test.sh VFIOAP-CHECK VFIOAPCTL HOSTS-DIRECTORY EXAMPLES-DIRECTORY
set -uo pipefail
check=$(realpath "$1")
control=$(realpath "$2")
hosts=$(realpath "$3")
examples=$(realpath "$4")
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory" || exit 1
unset SYSFS_ROOT NO_COLOR
export TERM=xterm
cp "$hosts"/lpar-{a,b,c}.json "$examples"/guest*.xml .
failures=0

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}
# go EXIT-CODE PROGRAM ARGUMENT...: what it prints is then in the files out and err.
go() {
    local expected=$1 status=0
    shift
    last="$(basename "$1") ${*:2}"
    "$@" >out 2>err || status=$?
    [[ $status == "$expected" ]] || fail "$last: exit code $status instead of $expected: $(head -c 300 err)"
}
quiet() {
    [[ ! -s err ]] || fail "$last: on standard error: $(head -c 300 err)"
}
# complains TEXT: nothing on standard output, one line on standard error, which names the program and TEXT.
complains() {
    [[ ! -s out ]] || fail "$last: on standard output: $(head -c 300 out)"
    [[ $(wc -l <err) == 1 && $(<err) == "${last%% *}: "* && $(<err) == *"$1"* ]] ||
        fail "$last: expected one line with '$1': $(head -c 300 err)"
}
prints() {
    grep -qF -- "$1" out || fail "$last: does not print '$1'"
}

# No other host is asked from here.
mkdir bin
printf '#!/bin/sh\nexit 255\n' >bin/ssh
chmod +x bin/ssh
PATH=$directory/bin:$PATH

# --- exit codes and where things go
go 1 "$check" -s lpar-a.json -d lpar-b.json guest1.xml; quiet; prints "INCOMPATIBLE: guest1"; prints "queue.not-bound"
cp out incompatible.txt
go 0 "$check" -s lpar-a.json -d lpar-b.json guest-without-crypto.xml; quiet; prints "COMPATIBLE:"
go 0 "$check" -s lpar-a.json -d lpar-a.json guest1.xml; quiet; prints "COMPATIBLE: guest1"
go 1 "$check" --mode native -s lpar-a.json -d lpar-a.json guest1.xml; quiet; prints "kernel.no-migration"
go 3 "$check" -s lpar-a.json -d lpar-b guest1.xml; complains "lpar-b"
go 3 "$check" -s root@lpar-a.example.com -d lpar-b.json guest1.xml; complains "lpar-a.example.com"
go 3 "$check" -s lpar-a.json -d host:lpar-b guest1.xml; complains "lpar-b"
go 3 "$control" status -s lpar-b; complains "lpar-b"
go 0 "$control" plan -s lpar-a.json -d lpar-b.json guest1.xml; quiet; prints "PLAN: 5 steps"
go 0 "$control" plan -s lpar-a.json -d lpar-a.json guest1.xml; quiet; prints "NOTHING TO DO"
go 0 "$control" plan -s lpar-a.json -d lpar-b.json guest-without-crypto.xml; quiet; prints "NOTHING TO DO"
go 1 "$control" plan -s lpar-a.json -d lpar-c.json guest1.xml; quiet; prints "BLOCKED"
go 1 "$control" plan --leave-unused -s lpar-a.json -d lpar-b.json guest1.xml; quiet; prints "4e5d2b90-7e61-4be8-a1c2-57f06d9e1a44"
go 2 "$control" plan -s lpar-a.json guest1.xml; complains "--destination"
go 2 "$control" plan -s lpar-a.json -d lpar-b.json; complains "GUEST"
go 2 "$control" plan --script --format json -s lpar-a.json -d lpar-b.json guest1.xml; complains "--script"
go 2 "$control" plan -s lpar-a.json -d lpar-b.json nothing.xml; complains "nothing.xml"
go 3 "$control" plan -s lpar-a.json -d lpar-b guest1.xml; complains "lpar-b"
go 3 "$control" snapshot lpar-b; complains "lpar-b"
go 0 "$check" --help; quiet; prints "Usage: vfioap-check"
go 0 "$control" --help; quiet; prints "Usage: vfioapctl"
for command in status snapshot materialize stream "stream save" "stream decode" "stream verify" "stream restore"; do
    # shellcheck disable=SC2086  # the words of a command
    go 0 "$control" $command --help; quiet; prints "Usage: vfioapctl $command"
done
go 0 "$check" --version; quiet
go 0 "$control" --version; quiet

# An attribute that a rule needs cannot be read.
sed 's/"status":"in use"/"status":"assigned"/; s/"unreadable": \[\]/"unreadable": [{"path":"devices\/ap\/card05\/raw_hwtype","error":"EIO"}]/' lpar-a.json >broken.json
go 3 "$check" -s lpar-a.json -d broken.json guest1.xml; quiet; prints "UNDETERMINED: "; prints "host.unreadable"
# By an errno of the kernel's own, for which the C library has no name and no text.
for errno in 524 4711; do
    sed 's/"error":"EIO"/"error":"errno '$errno'"/' broken.json >odd.json
    go 3 "$check" -s lpar-a.json -d odd.json guest1.xml; quiet; prints "raw_hwtype: Unknown error $errno"
    go 3 "$control" plan -s lpar-a.json -d odd.json guest1.xml; quiet; prints "UNDETERMINED: "
done

# --- usage
go 2 "$check"; complains "GUEST"
go 2 "$check" guest1.xml; complains "destination"
go 1 "$check" --mode live-update -s lpar-a.json guest1.xml; quiet; prints "live-update.iommufd"; prints "12.8"
go 1 "$check" --mode live-update -s lpar-a.json -q guest1.xml; quiet
go 2 "$check" --modus native -d lpar-b.json guest1.xml; complains "--modus"
go 2 "$check" --mode nativ -d lpar-b.json guest1.xml; complains "nativ"
go 2 "$check" --mode native -d lpar-b.json guest1.xml guest2.xml; complains "guest2.xml"
go 2 "$check" -d; complains "--destination"
go 2 "$check" -d "" guest1.xml; complains "expected"
go 2 "$control"; complains "command"
go 2 "$control" statsu; complains "statsu"
go 2 "$control" status --foramt json; complains "--foramt"
go 2 "$control" materialize lpar-a.json; complains "DIR"
go 2 "$control" --format yaml status -s lpar-a.json; complains "yaml"
go 2 "$control" snapshot lpar-a.json lpar-b.json; complains "lpar-b.json"

# --- input that is missing or is none
go 2 "$check" -s lpar-a.json -d missing.json guest1.xml; complains "missing.json"
go 2 "$check" -s lpar-a.json -d no/such/root guest1.xml; complains "no/such/root"
go 2 "$check" -s lpar-a.json -d lpar-b.json missing.xml; complains "missing.xml"
go 2 "$check" -s lpar-a.json -d guest1.xml guest1.xml; complains "guest1.xml"
go 2 "$check" -s lpar-a.json -d . guest1.xml; complains "not a sysfs root"
go 2 "$check" -s lpar-a.json -d sysfs:missing guest1.xml; complains "missing"
go 2 "$check" -s lpar-a.json -d snapshot:missing guest1.xml; complains "missing"
: >empty.xml
go 2 "$check" -s lpar-a.json -d lpar-b.json empty.xml; complains "empty.xml"
head -c 700 guest1.xml >cut.xml
go 2 "$check" -s lpar-a.json -d lpar-b.json cut.xml; complains "cut.xml"
head -c 700 lpar-b.json >cut.json
go 2 "$check" -s lpar-a.json -d cut.json guest1.xml; complains "cut.json"
go 2 "$check" -s lpar-a.json -d lpar-b.json lpar-a.json; complains "lpar-a.json"
mkdir is-a-directory.xml
go 2 "$check" -s lpar-a.json -d lpar-b.json ./is-a-directory.xml; complains "is-a-directory.xml"
if ((EUID != 0)); then
    cp guest1.xml secret.xml && chmod 0 secret.xml
    go 2 "$check" -s lpar-a.json -d lpar-b.json secret.xml; complains "secret.xml"
fi
# libvirt that cannot be asked: a socket that nobody has.
go 2 "$check" -c "qemu+unix:///system?socket=$directory/nobody" -s lpar-a.json -d lpar-b.json guest1; complains "nobody"
printf 'line\nfeed\033[31m' >name.txt
go 2 "$check" -s lpar-a.json -d lpar-b.json "./$(<name.txt)"; complains "line?feed?[31m"

# Nor does a name reach the terminal that reads as another one (U+202E turns the direction, U+200B is not to be seen).
sed $'s/<name>guest1</<name>g\xe2\x80\xae1tseu\xe2\x80\x8bg</' guest1.xml >turned.xml
go 1 "$check" -s lpar-a.json -d lpar-b.json turned.xml; quiet; prints "INCOMPATIBLE: g?1tseu?g cannot move"
go 0 "$control" plan -s lpar-a.json -d lpar-b.json turned.xml; quiet; prints "before g?1tseu?g can come"
go 2 "$check" -s lpar-a.json -d lpar-b.json $'g\xe2\x80\xae.xml'; complains "g?.xml"

# --- XML on standard input
go 1 "$check" -s lpar-a.json -d lpar-b.json - <guest1.xml; quiet
cmp -s out incompatible.txt || fail "XML on standard input: another report"
go 2 "$check" -s lpar-a.json -d lpar-b.json - </dev/null; complains "standard input"
go 2 "$check" -s lpar-a.json -d lpar-b.json - <cut.xml; complains "standard input"
go 2 "$check" -s lpar-a.json -d lpar-b.json - <&-; complains "standard input"

# --- order of options
go 1 "$check" guest1.xml -d lpar-b.json --source=lpar-a.json; quiet
cmp -s out incompatible.txt || fail "options behind the guest: another report"
go 0 "$control" -s lpar-a.json --format json status; quiet; cp out status.json
go 0 "$control" status --format json -s lpar-a.json; quiet
cmp -s out status.json || fail "options behind the command: another status"
go 0 "$control" --format=json status -slpar-a.json; quiet
cmp -s out status.json || fail "options joined to their values: another status"

# --- output that cannot be written
check_b=("$check" -s lpar-a.json -d lpar-b.json guest1.xml)
for program in "${check_b[*]}" "$control status -s lpar-a.json" "$control snapshot lpar-a.json"; do
    status=0
    # shellcheck disable=SC2086  # the words of a command
    $program >/dev/full 2>err || status=$?
    [[ $status == 2 && $(<err) == *"standard output"* && $(wc -l <err) == 1 ]] ||
        fail "$program >/dev/full: exit code $status: $(<err)"
    status=0
    # shellcheck disable=SC2086
    $program >&- 2>err || status=$?
    [[ $status == 2 && $(<err) == *"standard output"* && $(wc -l <err) == 1 ]] ||
        fail "$program >&-: exit code $status: $(<err)"
    # A reader that has seen enough is no error, and changes no verdict.
    # shellcheck disable=SC2086
    wanted=0; $program >/dev/null 2>&1 || wanted=$?
    # shellcheck disable=SC2086
    { $program 2>err; echo $? >status; } | : ; sleep 0.05
    [[ $(<status) == "$wanted" && ! -s err ]] || fail "$program | :: exit code $(<status): $(<err)"
done
"${check_b[@]}" --format json | head -1 >out
[[ ${PIPESTATUS[0]} == 1 ]] || fail "vfioap-check | head -1: another exit code"
"${check_b[@]}" >out 2>&- || [[ $? == 1 ]] || fail "vfioap-check 2>&-"
"$check" -d missing.json guest1.xml 2>&- && fail "an error with standard error closed: exit code 0"
"$check" -d missing.json guest1.xml 2>/dev/full
[[ $? == 2 ]] || fail "an error with standard error full: another exit code"

# --- quiet, colours
go 1 "${check_b[@]}" --quiet; quiet
[[ ! -s out ]] || fail "--quiet prints"
go 1 "${check_b[@]}" -q --format json; [[ ! -s out ]] || fail "--quiet --format json prints"
go 2 "$check" -q -s lpar-a.json -d missing.json guest1.xml; complains "missing.json"
"${check_b[@]}" >/dev/full -q || [[ $? == 1 ]] || fail "--quiet >/dev/full"
escape=$'\033'
go 1 "${check_b[@]}"; grep -q "$escape" out && fail "colours in a file"
go 1 "${check_b[@]}" --color always; grep -q "$escape" out || fail "--color always: no colours"
sed "s/$escape\[[0-9;]*m//g" out | cmp -s - incompatible.txt || fail "--color always: another text"
NO_COLOR=1 go 1 "${check_b[@]}" --color always; grep -q "$escape" out || fail "NO_COLOR is stronger than --color"
go 1 "${check_b[@]}" --color always --format json; grep -q "$escape" out && fail "colours in JSON"
if command -v script >/dev/null; then
    on_terminal() {
        # Not a pipe to grep -q: the terminal would be gone before the program writes.
        [[ $(script -qec "$1" /dev/null </dev/null) == *"$escape"* ]]
    }
    on_terminal "${check_b[*]}" || fail "no colours on a terminal"
    NO_COLOR=1 on_terminal "${check_b[*]}" && fail "colours on a terminal with NO_COLOR"
    NO_COLOR='' on_terminal "${check_b[*]}" || fail "an empty NO_COLOR takes the colours"
    TERM=dumb on_terminal "${check_b[*]}" && fail "colours on a dumb terminal"
    on_terminal "${check_b[*]} --color never" && fail "colours with --color never"
fi

# --- --strict and --all-queues
go 0 "$check" -s lpar-a.json -d lpar-a.json guest1.xml; before=$(grep -c '^warning' out)
go "$((before > 0))" "$check" --strict -s lpar-a.json -d lpar-a.json guest1.xml
grep -q '^warning' out && fail "--strict leaves warnings"

# --- snapshot, materialize, SYSFS_ROOT
for host in lpar-a lpar-b lpar-c; do
    go 0 "$control" materialize $host.json $host; quiet
done
go 2 "$control" materialize lpar-a.json lpar-a; complains "lpar-a"
go 2 "$control" materialize guest1.xml other; complains "guest1.xml"
[[ ! -e other ]] || fail "materialize of what is no snapshot leaves a directory"
go 2 "$control" materialize lpar-a.json no/such/place; complains "no/such/place"
mkdir empty
go 0 "$control" materialize lpar-a.json empty; quiet
go 1 "$check" -s lpar-a -d lpar-b guest1.xml; quiet
cmp -s out incompatible.txt || fail "roots and snapshots give different reports"
SYSFS_ROOT=$directory/lpar-a go 1 "$check" -d lpar-b guest1.xml
cmp -s out incompatible.txt || fail "SYSFS_ROOT: another report"
SYSFS_ROOT=$directory/lpar-c go 1 "$check" --sysfs-root lpar-a -d lpar-b guest1.xml
cmp -s out incompatible.txt || fail "--sysfs-root is weaker than SYSFS_ROOT"
SYSFS_ROOT=$directory/missing go 2 "$check" -d lpar-b guest1.xml; complains "missing"
same() {
    # When it was read differs by nature.
    diff <(sed '/^  "taken"/d' "$1") <(sed '/^  "taken"/d' "$2") >/dev/null
}
go 0 "$control" snapshot lpar-a -o written.json; quiet
[[ ! -s out ]] || fail "snapshot -o prints"
go 0 "$control" snapshot lpar-a; quiet; cp out printed.json
same written.json printed.json || fail "snapshot -o and to standard output differ"
go 0 "$control" snapshot -s lpar-a -o -; same out printed.json || fail "snapshot -o - differs"
SYSFS_ROOT=$directory/lpar-a go 0 "$control" snapshot; same out printed.json || fail "snapshot of SYSFS_ROOT differs"
go 1 "$check" -s written.json -d lpar-b.json guest1.xml
cmp -s out incompatible.txt || fail "a snapshot of a root gives another report"
ln -s written.json link.json
go 2 "$control" snapshot lpar-a -o link.json; complains "link.json"
go 2 "$control" snapshot lpar-a -o no/such/file.json; complains "no/such/file.json"

# --- text and JSON say the same
for to in lpar-a lpar-b lpar-c broken; do
    for mode in detached native; do
        "$check" --mode $mode -s lpar-a.json -d $to.json guest1.xml >said.txt; text=$?
        "$check" --mode $mode -s lpar-a.json -d $to.json --format json guest1.xml >said.json; json=$?
        [[ $text == "$json" ]] || fail "$to $mode: text ends with $text, JSON with $json"
        /usr/bin/python3 - said.txt said.json <<'END' || fail "$to $mode: text and JSON differ"
import json, re, sys
text = open(sys.argv[1]).read()
report = json.load(open(sys.argv[2]))
assert text.split(":")[0].lower() == report["verdict"], report["verdict"]
found = re.findall(r"^(error|warning|info) +(\S+)$", text, re.M)
assert found == [(f["severity"], f["rule"]) for f in report["findings"]], found
END
    done
done
go 0 "$control" status -s lpar-a -d lpar-b; quiet; prints "incompatible"
/usr/bin/python3 -c 'import json, sys; json.load(open(sys.argv[1]))' status.json || fail "status is not JSON"

[[ $failures == 0 ]] && echo "all as expected"
exit "$((failures > 0))"
