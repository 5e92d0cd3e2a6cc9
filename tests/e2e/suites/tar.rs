//! tar: 20,000 files go in and come out, with every byte, mode, time, owner and link.

use std::time::Duration;

use crate::support::{Scratch, Shape, Suite, on_each_shape, require, tree};

on_each_shape!(alone: files_go_in_and_come_out_the_same);

fn files_go_in_and_come_out_the_same(shape: Shape) {
    require!("tar");
    let disk = Scratch::new();
    let (source, back) = (disk.dir("source"), disk.dir("back"));
    tree::make(&source, 20_000, 100, 4_000);
    let share = shape.share().patience(Duration::from_secs(500)).start();
    Suite::shell(
        Duration::from_secs(400),
        r#"source=$1 mount=$2 host=$3 back=$4
        cd "$source/0"
        ln 0/file-0.txt hard-link; ln -s ../nowhere symlink; mkfifo fifo; mkdir empty
        chmod 750 0; chmod 4755 0/file-1.txt; chmod 0 0/file-2.txt
        if [ "$(id -u)" = 0 ]; then chown 33:34 0/file-3.txt; chown -h 35:36 symlink; fi
        list() {
            cd "$1"
            find . -mindepth 1 -printf '%P %y %m %U:%G %n %l %T@ ' \
                \( -type d -printf '\n' -o -printf '%s\n' \) | LC_ALL=C sort
            find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
        }
        same() {
            (list "$1") > "$back.found"
            diff "$back.expected" "$back.found" > "$back.diff" || { head -20 "$back.diff"; exit 1; }
        }
        (list "$source") > "$back.expected"
        tar -C "$source" --format=posix -c . | tar -C "$mount" -xp
        same "$mount"
        same "$host"
        tar -C "$mount" --format=posix -c . | tar -C "$back" -xp
        same "$back"
        rm -r "$mount"/*
        test -z "$(ls -A "$host")""#,
        [&source, share.mount(), share.host(), &back],
    );
}
