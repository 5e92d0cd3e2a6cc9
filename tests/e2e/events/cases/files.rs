//! Files: their content, their attributes, their links.

use std::fs;
use std::io::Write;

use rustix::fs::{XattrFlags, setxattr};

use super::acts::*;
use super::{Case, DIR, FILE, SUB, case};

pub(super) const CONTENT: &[Case] = &[
    case("create-empty", DIR, nothing, &[|p| drop(create(&p.at("new")))]),
    case("create-with-content", DIR, nothing, &[|p| write(&p.at("new"), "content")]),
    case(
        "create-hold-and-write",
        DIR,
        nothing,
        &[|p| {
            let mut file = create(&p.at("new"));
            file.write_all(b"one").expect("a write");
            file.write_all(b"two").expect("a write");
        }],
    ),
    case("append", FILE, a_file, &[|p| append(&p.at("file"), "more")]),
    case(
        "append-twice",
        FILE,
        a_file,
        &[|p| append(&p.at("file"), "more"), |p| append(&p.at("file"), "and more")],
    ),
    case("overwrite-same-length", FILE, a_file, &[|p| overwrite(&p.at("file"), "txet")]),
    case("rewrite", FILE, a_file, &[|p| write(&p.at("file"), "other content")]),
    case("rewrite-with-the-same", FILE, a_file, &[|p| write(&p.at("file"), "text")]),
    case(
        "truncate-open",
        FILE,
        a_file,
        &[|p| {
            open(&p.at("file")).set_len(1).expect("truncate");
        }],
    ),
    case("empty", FILE, a_file, &[|p| write(&p.at("file"), "")]),
    case("grow", FILE, a_file, &[|p| open(&p.at("file")).set_len(10_000).expect("truncate")]),
    case("open-and-close-without-writing", FILE, a_file, &[|p| drop(open(&p.at("file")))]),
    case("read", FILE, a_file, &[|p| drop(fs::read(p.at("file")).expect("the file"))]),
    case(
        "held-and-written",
        FILE,
        a_file,
        &[
            |p| hold(p, |file| file.write_all(b"1").expect("a write")),
            |p| hold(p, |file| file.write_all(b"22").expect("a write")),
            |p| hold(p, |file| file.write_all(b"333").expect("a write")),
            release,
        ],
    ),
];

pub(super) const ATTRIBUTES: &[Case] = &[
    case("touch", FILE, a_file, &[|p| touch(&p.at("file"), 1_000_000_000)]),
    case("touch-1970", FILE, a_file, &[|p| touch(&p.at("file"), 0)]),
    case("touch-before-1970", FILE, a_file, &[|p| touch(&p.at("file"), -1_000_000)]),
    case("touch-2500", FILE, a_file, &[|p| touch(&p.at("file"), 16_725_225_600)]),
    case("chmod", FILE, a_file, &[|p| chmod(&p.at("file"), 0o604)]),
    case("chmod-folder", SUB, a_folder, &[|p| chmod(&p.at("sub"), 0o705)]),
    case("chmod-watched-folder", DIR, nothing, &[|p| chmod(&p.dir, 0o705)]),
    case("chown", FILE, a_file, &[|p| chown(&p.at("file"), 33)]),
    case("chown-folder", SUB, a_folder, &[|p| chown(&p.at("sub"), 33)]),
    case(
        "setxattr",
        FILE,
        a_file,
        &[|p| {
            setxattr(p.at("file"), "user.x", b"value", XattrFlags::empty()).expect("setxattr");
        }],
    ),
    case(
        "setxattr-folder",
        SUB,
        a_folder,
        &[|p| {
            setxattr(p.at("sub"), "user.x", b"value", XattrFlags::empty()).expect("setxattr");
        }],
    ),
    case("touch-folder", SUB, a_folder, &[|p| touch(&p.at("sub"), 1_000_000_000)]),
    case(
        "write-then-back-in-time",
        FILE,
        a_file,
        &[
            |p| overwrite(&p.at("file"), "1111"),
            |p| touch(&p.at("file"), 1_000_000_000),
            |p| overwrite(&p.at("file"), "2222"),
            |p| touch(&p.at("file"), 1_000_000_000),
        ],
    ),
];

pub(super) const NAMES: &[Case] = &[
    case("link", FILE, a_file, &[|p| link(&p.at("file"), &p.at("another"))]),
    case(
        "link-elsewhere",
        &[&["sub", "file"], &[".", "sub", "file"]],
        a_file_and_a_folder,
        &[|p| {
            link(&p.at("file"), &p.at("sub/another"));
        }],
    ),
    case("link-outside", FILE, a_file, &[|p| link(&p.at("file"), &p.out("another"))]),
    case("unlink", FILE, a_file, &[|p| unlink(&p.at("file"))]),
    case("unlink-one-of-two", FILE, two_links, &[|p| unlink(&p.at("another"))]),
    case(
        "unlink-both-of-two",
        FILE,
        two_links,
        &[|p| unlink(&p.at("another")), |p| unlink(&p.at("file"))],
    ),
    case(
        "create-and-delete-at-once",
        DIR,
        nothing,
        &[|p| {
            drop(create(&p.at("new")));
            unlink(&p.at("new"));
        }],
    ),
    case(
        "delete-and-create-at-once",
        FILE,
        a_file,
        &[|p| {
            unlink(&p.at("file"));
            drop(create(&p.at("file")));
        }],
    ),
    case(
        "delete-and-create",
        FILE,
        a_file,
        &[|p| unlink(&p.at("file")), |p| write(&p.at("file"), "new")],
    ),
    case("unlink-held", FILE, a_file, &[|p| hold(p, |_| {}), |p| unlink(&p.at("file")), release]),
];
