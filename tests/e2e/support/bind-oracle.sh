#!/usr/bin/env bash
# A stand-in for `osxfs` that bind-mounts, to tell a wrong test from a wrong osxfs:
# What only osxfs can do fails here: `--ownership map`, crashes, mistakes, status.
#   OSXFS_BIN=$PWD/tests/e2e/support/bind-oracle.sh cargo test --test e2e NAME
set -u
die() { echo "osxfs: $*" >&2; exit 1; }
share() { # DIR MOUNTPOINT READ_ONLY
    mount --bind "$1" "$2" || die "cannot mount $2"
    if [ "$3" = yes ]; then mount -o remount,bind,ro "$2"; fi
}
ends() { for at in "${mounts[@]}"; do umount -l "$at" 2>/dev/null; done; rm -f "$socket"; exit 0; }

command=$1 read_only=no socket=/nonexistent
shift
words=() mounts=() exports=() wanted=()
while [ $# -gt 0 ]; do
    case $1 in
        --read-only) read_only=yes ;;
        --allow-other | --host-locks) ;;
        --export)
            case $2 in *:*) exports+=("$2") ;; *) exports+=("$2:${2##*/}") ;; esac
            shift
            ;;
        --listen | --connect) socket=${2#unix:}; shift ;;
        --mount) wanted+=("$2"); shift ;;
        --*) shift ;;
        *) words+=("$1") ;;
    esac
    shift
done
trap ends TERM INT
case $command in
    mount)
        share "${words[0]}" "${words[1]}" $read_only
        mounts=("${words[1]}")
        echo "sharing ${words[0]} at ${words[1]}"
        ;;
    serve)
        printf '%s\n' "${exports[@]}" > "$socket"
        echo "listening on $socket"
        ;;
    agent)
        for mount in "${wanted[@]}"; do
            name=${mount%%:*} at=${mount#*:}
            IFS=: read -r dir _ mode < <(grep -E "^[^:]*:$name(:|$)" "$socket")
            share "$dir" "$at" "$([ "${mode-}" = ro ] && echo yes)"
            mounts+=("$at")
            echo "mounted $name at $at"
        done
        trap 'socket=/nonexistent; ends' TERM INT
        ;;
esac
while [ $command = serve ] || [ ${#mounts[@]} -gt 0 ]; do
    for at in "${mounts[@]}"; do mountpoint -q "$at" || exit 0; done
    sleep 0.1
done
