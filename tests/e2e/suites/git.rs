//! git: a repository of 5,000 files is cloned, read, changed, packed and checked on the mount.

use std::time::Duration;

use crate::support::{Scratch, Shape, Suite, on_each_shape, require, tree};

on_each_shape!(alone: a_repository_of_5000_files_works);

fn a_repository_of_5000_files_works(shape: Shape) {
    require!("git");
    let origin = Scratch::new();
    tree::make(origin.path(), 5_000, 50, 2_000);
    Suite::shell(
        Duration::from_secs(60),
        r#"cd "$1"
        git init --quiet --initial-branch=main
        ln -s 0/0/file-0.txt link; chmod +x 0/0/file-1.txt
        git add --all
        git -c user.name=a -c user.email=a@b commit --quiet --message first
        git switch --quiet --create other
        git mv 0/1 moved; echo changed >> 0/0/file-0.txt; git rm --quiet -r 5
        git -c user.name=a -c user.email=a@b commit --quiet --all --message second"#,
        [origin.path()],
    );
    let share = shape.mounted();
    Suite::shell(
        Duration::from_secs(200),
        r#"cd "$2"
        git clone --quiet "file://$1" clone && cd clone
        test -z "$(git status --porcelain)"
        diff --recursive --no-dereference --exclude=.git "$1" .
        git switch --quiet --detach origin/main
        test -z "$(git status --porcelain)"
        git switch --quiet other
        diff --recursive --no-dereference --exclude=.git "$1" .
        echo more >> 0/0/file-1.txt
        test "$(git status --porcelain)" = ' M 0/0/file-1.txt'
        git -c user.name=a -c user.email=a@b commit --quiet --all --message third
        git gc --quiet --aggressive --prune=now
        git fsck --full --strict
        test -z "$(git status --porcelain)""#,
        [origin.path(), share.mount()],
    );
    // And the host, with a git of its own, agrees.
    Suite::shell(
        Duration::from_secs(60),
        r#"cd "$1/clone"; git fsck --full --strict; test -z "$(git status --porcelain)""#,
        [share.host()],
    );
}
