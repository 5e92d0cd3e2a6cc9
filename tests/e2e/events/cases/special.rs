//! Symbolic links, fifos, sockets, and names that not every program expects.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::acts::*;
use super::{Case, DIR, LINK, case};

pub(super) const SPECIAL: &[Case] = &[
    case("symlink", DIR, nothing, &[|p| symlink("target", p.at("new")).expect("a symlink")]),
    case("symlink-deleted", LINK, a_symlink, &[|p| unlink(&p.at("link"))]),
    case("symlink-renamed", LINK, a_symlink, &[|p| rename(&p.at("link"), &p.at("new"))]),
    case(
        "symlink-retargeted",
        LINK,
        a_symlink,
        &[|p| {
            symlink("another", p.at("link.tmp")).expect("a symlink");
            rename(&p.at("link.tmp"), &p.at("link"));
        }],
    ),
    case(
        "symlink-replaced",
        LINK,
        a_symlink,
        &[|p| {
            unlink(&p.at("link"));
            symlink("another", p.at("link")).expect("a symlink");
        }],
    ),
    case("fifo", DIR, nothing, &[|p| fifo(&p.at("new"))]),
    case(
        "fifo-deleted",
        &[&["."], &[".", "fifo"]],
        |p| fifo(&p.at("fifo")),
        &[|p| {
            unlink(&p.at("fifo"));
        }],
    ),
    case(
        "fifo-renamed",
        &[&["."], &[".", "fifo"]],
        |p| fifo(&p.at("fifo")),
        &[|p| {
            rename(&p.at("fifo"), &p.at("new"));
        }],
    ),
    case(
        "socket",
        DIR,
        nothing,
        &[|p| {
            mknodat(CWD, p.at("new"), FileType::Socket, Mode::from(0o600), 0).expect("a socket");
        }],
    ),
];

pub(super) const ODD: &[Case] = &[
    case(
        "not-utf-8",
        DIR,
        nothing,
        &[
            |p| write(&p.dir.join(OsStr::from_bytes(b"\xff\xfe n\xe4me")), "x"),
            |p| {
                let new = p.dir.join(OsStr::from_bytes(b"\xc3\x28\n"));
                rename(&p.dir.join(OsStr::from_bytes(b"\xff\xfe n\xe4me")), &new);
            },
            |p| unlink(&p.dir.join(OsStr::from_bytes(b"\xc3\x28\n"))),
        ],
    ),
    case(
        "name-of-255-bytes",
        DIR,
        nothing,
        &[
            |p| write(&p.at(&"n".repeat(255)), "x"),
            |p| rename(&p.at(&"n".repeat(255)), &p.at(&"m".repeat(255))),
            |p| unlink(&p.at(&"m".repeat(255))),
        ],
    ),
];
