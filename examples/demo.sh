# What the demos share, to be sourced. They run as root where systemd runs and nothing else matters: in a machine that
# `in-machine` (beside this file) has booted. There is procroll, load.py, and what the example's folder holds.
# shellcheck shell=sh

here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
# How often a demo rolls.
count=${1:-5}

say() { printf '\n== %s\n' "$*"; }
# Shows a command, and runs it.
show() {
    printf '\n$ %s\n' "$(printf '%s' "$*" | sed "s/[^ ]*\\*[^ ]*/'&'/")"
    "$@"
}
fail() {
    echo "demo: $*" >&2
    exit 1
}

status() { systemctl show --property=StatusText --value web; }

ask() {
    python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode().strip())' \
        "http://$address"
}

# Rolls, each of which has to succeed.
rolls() {
    rolled=0
    while [ "$rolled" -lt "$count" ]; do
        show systemctl reload web
        status
        rolled=$((rolled + 1))
    done
}

begin_load() {
    [ -p "$work/load" ] || mkfifo "$work/load"
    "$here/load.py" "$address" 8 <"$work/load" >"$work/answers" &
    load=$!
    exec 8>"$work/load"
}

# Ends the load, and prints what became of the requests.
end_load() {
    exec 8>&-
    wait "$load"
    echo
    echo "Requests:"
    sed 1d "$work/answers"
    [ "$(sed -n 's/^answered //p' "$work/answers")" -gt 0 ] || fail "nobody was answered"
}

nothing_lost() {
    grep -qx 'refused 0' "$work/answers" && grep -qx 'reset 0' "$work/answers" &&
        grep -qx 'unanswered 0' "$work/answers" || fail "requests were lost"
}
