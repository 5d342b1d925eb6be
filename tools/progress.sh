# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# For scripts that start what takes a while: that it goes on, and how far it is. To be sourced.

# Ninja where it is installed; a build directory keeps what it was made with.
if [[ -z ${CMAKE_GENERATOR:-} ]] && command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi

# how_far LOG: the last count in what was written: ninja's and ours [12/130], ctest's 3/54 Test, make's [ 12%].
how_far() {
    tail -c 4000 "$1" 2>/dev/null | tr '\r' '\n' |
        grep -oE '^\[ *[0-9]+/[0-9]+\]|^ *[0-9]+/[0-9]+ Test|^\[ *[0-9]+%\]' | tail -n 1 |
        sed -E 's/[][]| *Test//g; s/^ *//; s|/| of |; s/$/, /' || true
}
# show_progress PID NAME LOG: until the process ends: on a terminal a line that counts, elsewhere a line now and then.
show_progress() {
    local begin=$SECONDS last=$SECONDS passed
    while sleep 1; kill -0 "$1" 2>/dev/null; do
        passed=$((SECONDS - begin))
        if [[ -t 1 ]]; then
            printf '\r\e[K   …    %-32s %s%d s' "$2" "$(how_far "$3")" "$passed"
        elif ((passed >= 10 && SECONDS - last >= 30 || passed == 10)); then
            last=$SECONDS
            printf '   …    %-32s %s%d s\n' "$2" "$(how_far "$3")" "$passed"
        fi
    done
    [[ ! -t 1 ]] || printf '\r\e[K'
}
