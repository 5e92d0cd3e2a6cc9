//! Renames of every kind, and folders.

use std::fs;

use super::acts::*;
use super::{Case, DIR, FILE, SUB, TWO, case};

pub(super) const MOVES: &[Case] = &[
    case("rename", FILE, a_file, &[|p| rename(&p.at("file"), &p.at("new"))]),
    case(
        "rename-and-back",
        FILE,
        a_file,
        &[|p| rename(&p.at("file"), &p.at("new")), |p| rename(&p.at("new"), &p.at("file"))],
    ),
    case(
        "rename-then-write",
        FILE,
        a_file,
        &[|p| rename(&p.at("file"), &p.at("new")), |p| append(&p.at("new"), "more")],
    ),
    case(
        "rename-chain-at-once",
        FILE,
        a_file,
        &[|p| {
            rename(&p.at("file"), &p.at("1"));
            rename(&p.at("1"), &p.at("2"));
            rename(&p.at("2"), &p.at("3"));
        }],
    ),
    case("rename-across", TWO, a_file_in_a, &[|p| rename(&p.at("a/file"), &p.at("b/file"))]),
    case(
        "rename-across-watched",
        &[&["a/file"], &["a", "b", "a/file"]],
        a_file_in_a,
        &[|p| {
            rename(&p.at("a/file"), &p.at("b/other"));
        }],
    ),
    case("rename-over", FILE, two_files, &[|p| rename(&p.at("other"), &p.at("file"))]),
    case(
        "rename-over-watching-both",
        &[&[".", "file", "other"]],
        two_files,
        &[|p| {
            rename(&p.at("other"), &p.at("file"));
        }],
    ),
    case("rename-case-only", FILE, a_file, &[|p| rename(&p.at("file"), &p.at("FILE"))]),
    case(
        "exchange",
        &[&["."], &["file", "other"], &[".", "file", "other"]],
        two_files,
        &[|p| {
            exchange(&p.at("file"), &p.at("other"));
        }],
    ),
    case(
        "exchange-file-and-folder",
        SUB,
        a_file_and_a_folder,
        &[|p| {
            exchange(&p.at("file"), &p.at("sub"));
        }],
    ),
    case(
        "atomic-save",
        FILE,
        a_file,
        &[|p| {
            write(&p.at("file.tmp"), "new content");
            rename(&p.at("file.tmp"), &p.at("file"));
        }],
    ),
    case(
        "atomic-save-slowly",
        FILE,
        a_file,
        &[
            |p| write(&p.at("file.tmp"), "new content"),
            |p| rename(&p.at("file.tmp"), &p.at("file")),
            |p| append(&p.at("file"), "more"),
        ],
    ),
    case(
        "save-with-backup",
        FILE,
        a_file,
        &[|p| {
            rename(&p.at("file"), &p.at("file~"));
            write(&p.at("file"), "new content");
            unlink(&p.at("file~"));
        }],
    ),
    case("rename-folder", SUB, a_folder, &[|p| rename(&p.at("sub"), &p.at("new"))]),
    case(
        "rename-folder-and-change-in-it",
        SUB,
        a_folder,
        &[
            |p| rename(&p.at("sub"), &p.at("new")),
            |p| write(&p.at("new/made"), "x"),
            |p| append(&p.at("new/file"), "more"),
        ],
    ),
    case(
        "rename-folder-across",
        TWO,
        a_folder_in_a,
        &[|p| {
            rename(&p.at("a/sub"), &p.at("b/sub"));
        }],
    ),
    case(
        "rename-folder-over-empty",
        SUB,
        two_folders,
        &[|p| {
            rename(&p.at("other"), &p.at("sub"));
        }],
    ),
    case("moved-in", DIR, a_file_outside, &[|p| rename(&p.out("file"), &p.at("file"))]),
    case(
        "moved-in-over",
        FILE,
        a_file_here_and_outside,
        &[|p| {
            rename(&p.out("file"), &p.at("file"));
        }],
    ),
    case("moved-out", FILE, a_file, &[|p| rename(&p.at("file"), &p.out("file"))]),
    case(
        "moved-out-and-back",
        FILE,
        a_file,
        &[|p| rename(&p.at("file"), &p.out("file")), |p| rename(&p.out("file"), &p.at("back"))],
    ),
    case("folder-moved-in", DIR, a_folder_outside, &[|p| rename(&p.out("sub"), &p.at("sub"))]),
    case("folder-moved-out", SUB, a_folder, &[|p| rename(&p.at("sub"), &p.out("sub"))]),
    case(
        "folder-moved-out-and-changed",
        SUB,
        a_folder,
        &[|p| rename(&p.at("sub"), &p.out("sub")), |p| write(&p.out("sub/made"), "x")],
    ),
    case(
        "folder-moved-away-and-back",
        SUB,
        a_folder,
        &[
            |p| rename(&p.at("sub"), &p.out("sub")),
            |p| rename(&p.out("sub"), &p.at("sub")),
            |p| write(&p.at("sub/made"), "x"),
        ],
    ),
];

pub(super) const FOLDERS: &[Case] = &[
    case("mkdir", DIR, nothing, &[|p| mkdir(&p.at("new"))]),
    case("rmdir", SUB, an_empty_folder, &[|p| rmdir(&p.at("sub"))]),
    case(
        "mkdir-and-rmdir-at-once",
        DIR,
        nothing,
        &[|p| {
            mkdir(&p.at("new"));
            rmdir(&p.at("new"));
        }],
    ),
    case("create-in-a-folder", SUB, a_folder, &[|p| write(&p.at("sub/new"), "x")]),
    case("delete-in-a-folder", SUB, a_folder, &[|p| unlink(&p.at("sub/file"))]),
    case(
        "delete-a-tree",
        &[&["."], &[".", "a", "a/b"], &["a/b/file"]],
        a_tree,
        &[|p| {
            fs::remove_dir_all(p.at("a")).expect("a removal");
        }],
    ),
    case("copy-a-tree", DIR, a_tree_outside, &[|p| copy(&p.out("a"), &p.at("a"))]),
    case(
        "copy-a-tree-onto-another",
        &[&[".", "a", "a/b"]],
        trees_here_and_outside,
        &[|p| {
            copy(&p.out("a"), &p.at("a"));
        }],
    ),
    case(
        "file-becomes-folder-and-back",
        FILE,
        a_file,
        &[
            |p| {
                unlink(&p.at("file"));
                mkdir(&p.at("file"));
            },
            |p| {
                rmdir(&p.at("file"));
                write(&p.at("file"), "a file again");
            },
        ],
    ),
    case(
        "file-becomes-folder-and-back-at-once",
        DIR,
        a_file,
        &[|p| {
            unlink(&p.at("file"));
            mkdir(&p.at("file"));
            rmdir(&p.at("file"));
            drop(create(&p.at("file")));
        }],
    ),
];
