//! Where a share may tell something else than a local disk, each with its reason.

/// What a share tells otherwise than a local disk, in one step of a case with one set of watches.
pub struct Difference {
    pub case: &'static str,
    pub watches: &'static [&'static str],
    pub step: usize,
    pub local: &'static [&'static str],
    pub share: &'static [&'static str],
    /// Where it depends on how soon the share looks: if in time, it tells what a local disk tells.
    pub sometimes: bool,
    /// Why that is right, for people.
    #[expect(dead_code, reason = "for readers")]
    reason: &'static str,
}

const CHAIN: &[&str] = &[
    "MOVED_FROM ./file #1",
    "MOVED_TO ./1 #1",
    "MOVED_FROM ./1 #2",
    "MOVED_TO ./2 #2",
    "MOVED_FROM ./2 #3",
    "MOVED_TO ./3 #3",
];
const CHAIN_WITH_SELF: &[&str] = &[
    "MOVED_FROM ./file #1",
    "MOVED_TO ./1 #1",
    "MOVE_SELF file",
    "MOVED_FROM ./1 #2",
    "MOVED_TO ./2 #2",
    "MOVED_FROM ./2 #3",
    "MOVED_TO ./3 #3",
];

/// A folder that has left the export is no affair of the share any more.
const LEFT: &str = "what happens in a folder after it has left the export is not shared";
/// The guest's kernel has not opened the file, so for it the last name is the end.
const NOT_OPEN_HERE: &str = "a file that only the host holds open ends for the guest with its name";

/// Names that an object had for a moment: differences of state are told, and there it is none.
const ON_THE_WAY: &str = "of several renames at once, the first name and the last are told";

/// The host tells of it nowhere but on the file itself, and it is folders that are watched.
const LINKED_ELSEWHERE: &str =
    "a name made outside the export shows as a link count, without event";

/// The host's kernel names the folder and the name, but not the file.
const UNSEEN_LINK: &str =
    "whose other name it was that went is not known, if the guest never looked at it";
const UNSEEN_NAMES: &str =
    "of two names that the guest never looked at, an exchange shows as a rename and an arrival";

/// The share looked after the creation, and then there was nothing to be closed.
const NOTHING_LEFT: &str = "what is gone by the time it is looked at is told as gone";

/// Every accepted difference; all others fail.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        case: "link-outside",
        watches: &["file"],
        step: 0,
        local: &["ATTRIB file"],
        share: &[],
        sometimes: true,
        reason: LINKED_ELSEWHERE,
    },
    Difference {
        case: "link-outside",
        watches: &[".", "file"],
        step: 0,
        local: &["ATTRIB file"],
        share: &[],
        sometimes: true,
        reason: LINKED_ELSEWHERE,
    },
    Difference {
        case: "rename-chain-at-once",
        watches: &["."],
        step: 0,
        local: CHAIN,
        share: &["MOVED_FROM ./file #1", "MOVED_TO ./3 #1"],
        sometimes: true,
        reason: ON_THE_WAY,
    },
    Difference {
        case: "rename-chain-at-once",
        watches: &[".", "file"],
        step: 0,
        local: CHAIN_WITH_SELF,
        share: &["MOVED_FROM ./file #1", "MOVED_TO ./3 #1", "MOVE_SELF file"],
        sometimes: true,
        reason: ON_THE_WAY,
    },
    Difference {
        case: "folder-moved-out-and-changed",
        watches: &["sub"],
        step: 1,
        local: &["CREATE sub/made", "MODIFY sub/made", "CLOSE_WRITE sub/made"],
        share: &[],
        sometimes: false,
        reason: LEFT,
    },
    Difference {
        case: "folder-moved-out-and-changed",
        watches: &[".", "sub"],
        step: 1,
        local: &["CREATE sub/made", "MODIFY sub/made", "CLOSE_WRITE sub/made"],
        share: &[],
        sometimes: false,
        reason: LEFT,
    },
    Difference {
        case: "unlink-held",
        watches: &["."],
        step: 2,
        local: &["CLOSE_WRITE ./file"],
        share: &[],
        sometimes: false,
        reason: NOT_OPEN_HERE,
    },
    Difference {
        case: "unlink-held",
        watches: &["file"],
        step: 1,
        local: &["ATTRIB file"],
        share: &["ATTRIB file", "DELETE_SELF file", "IGNORED file"],
        sometimes: false,
        reason: NOT_OPEN_HERE,
    },
    Difference {
        case: "unlink-held",
        watches: &["file"],
        step: 2,
        local: &["CLOSE_WRITE file", "DELETE_SELF file", "IGNORED file"],
        share: &[],
        sometimes: false,
        reason: NOT_OPEN_HERE,
    },
    Difference {
        case: "unlink-held",
        watches: &[".", "file"],
        step: 1,
        local: &["ATTRIB file", "DELETE ./file"],
        share: &["ATTRIB file", "DELETE_SELF file", "IGNORED file", "DELETE ./file"],
        sometimes: false,
        reason: NOT_OPEN_HERE,
    },
    Difference {
        case: "unlink-held",
        watches: &[".", "file"],
        step: 2,
        local: &["CLOSE_WRITE ./file", "CLOSE_WRITE file", "DELETE_SELF file", "IGNORED file"],
        share: &[],
        sometimes: false,
        reason: NOT_OPEN_HERE,
    },
    Difference {
        case: "unlink-one-of-two",
        watches: &["file"],
        step: 0,
        local: &["ATTRIB file"],
        share: &[],
        sometimes: true,
        reason: UNSEEN_LINK,
    },
    Difference {
        case: "unlink-one-of-two",
        watches: &[".", "file"],
        step: 0,
        local: &["ATTRIB file", "DELETE ./another"],
        share: &["DELETE ./another"],
        sometimes: true,
        reason: UNSEEN_LINK,
    },
    Difference {
        case: "unlink-both-of-two",
        watches: &["file"],
        step: 0,
        local: &["ATTRIB file"],
        share: &[],
        sometimes: true,
        reason: UNSEEN_LINK,
    },
    Difference {
        case: "unlink-both-of-two",
        watches: &["file"],
        step: 1,
        local: &["DELETE_SELF file", "IGNORED file"],
        share: &["ATTRIB file", "DELETE_SELF file", "IGNORED file"],
        sometimes: true,
        reason: UNSEEN_LINK,
    },
    Difference {
        case: "unlink-both-of-two",
        watches: &[".", "file"],
        step: 0,
        local: &["ATTRIB file", "DELETE ./another"],
        share: &["DELETE ./another"],
        sometimes: true,
        reason: UNSEEN_LINK,
    },
    Difference {
        case: "unlink-both-of-two",
        watches: &[".", "file"],
        step: 1,
        local: &["DELETE_SELF file", "IGNORED file", "DELETE ./file"],
        share: &["ATTRIB file", "DELETE_SELF file", "IGNORED file", "DELETE ./file"],
        sometimes: true,
        reason: UNSEEN_LINK,
    },
    Difference {
        case: "exchange",
        watches: &["."],
        step: 0,
        local: &[
            "MOVED_FROM ./file #1",
            "MOVED_TO ./other #1",
            "MOVED_FROM ./other #2",
            "MOVED_TO ./file #2",
        ],
        share: &["MOVED_FROM ./file #1", "MOVED_TO ./other #1", "MOVED_TO ./file #2"],
        sometimes: true,
        reason: UNSEEN_NAMES,
    },
    Difference {
        case: "exchange-file-and-folder",
        watches: &["."],
        step: 0,
        local: &[
            "MOVED_FROM ./file #1",
            "MOVED_TO ./sub #1",
            "MOVED_FROM|ISDIR ./sub #2",
            "MOVED_TO|ISDIR ./file #2",
        ],
        share: &["MOVED_FROM ./file #1", "MOVED_TO ./sub #1", "MOVED_TO|ISDIR ./file #2"],
        sometimes: true,
        reason: UNSEEN_NAMES,
    },
    Difference {
        case: "save-with-backup",
        watches: &["."],
        step: 0,
        local: &[
            "MOVED_FROM ./file #1",
            "MOVED_TO ./file~ #1",
            "CREATE ./file",
            "MODIFY ./file",
            "CLOSE_WRITE ./file",
            "DELETE ./file~",
        ],
        share: &["CREATE ./file", "MODIFY ./file", "CLOSE_WRITE ./file"],
        sometimes: true,
        reason: ON_THE_WAY,
    },
    Difference {
        case: "save-with-backup",
        watches: &["."],
        step: 0,
        local: &[
            "MOVED_FROM ./file #1",
            "MOVED_TO ./file~ #1",
            "CREATE ./file",
            "MODIFY ./file",
            "CLOSE_WRITE ./file",
            "DELETE ./file~",
        ],
        share: &["DELETE ./file", "CREATE ./file", "MODIFY ./file", "CLOSE_WRITE ./file"],
        sometimes: true,
        reason: ON_THE_WAY,
    },
    Difference {
        case: "save-with-backup",
        watches: &["file"],
        step: 0,
        local: &["MOVE_SELF file", "ATTRIB file", "DELETE_SELF file", "IGNORED file"],
        share: &["ATTRIB file", "DELETE_SELF file", "IGNORED file"],
        sometimes: true,
        reason: ON_THE_WAY,
    },
    Difference {
        case: "save-with-backup",
        watches: &[".", "file"],
        step: 0,
        local: &[
            "MOVED_FROM ./file #1",
            "MOVED_TO ./file~ #1",
            "MOVE_SELF file",
            "CREATE ./file",
            "MODIFY ./file",
            "CLOSE_WRITE ./file",
            "ATTRIB file",
            "DELETE_SELF file",
            "IGNORED file",
            "DELETE ./file~",
        ],
        share: &[
            "ATTRIB file",
            "DELETE_SELF file",
            "IGNORED file",
            "DELETE ./file",
            "CREATE ./file",
            "MODIFY ./file",
            "CLOSE_WRITE ./file",
        ],
        sometimes: true,
        reason: ON_THE_WAY,
    },
    Difference {
        case: "file-becomes-folder-and-back-at-once",
        watches: &["."],
        step: 0,
        local: &[
            "DELETE ./file",
            "CREATE|ISDIR ./file",
            "DELETE|ISDIR ./file",
            "CREATE ./file",
            "CLOSE_WRITE ./file",
        ],
        share: &["DELETE ./file", "DELETE|ISDIR ./file", "CREATE ./file", "CLOSE_WRITE ./file"],
        sometimes: true,
        reason: ON_THE_WAY,
    },
    Difference {
        case: "file-becomes-folder-and-back-at-once",
        watches: &["."],
        step: 0,
        local: &[
            "DELETE ./file",
            "CREATE|ISDIR ./file",
            "DELETE|ISDIR ./file",
            "CREATE ./file",
            "CLOSE_WRITE ./file",
        ],
        share: &[
            "DELETE ./file",
            "CREATE ./file",
            "CLOSE_WRITE ./file",
            "DELETE|ISDIR ./file",
            "CREATE ./file",
        ],
        sometimes: true,
        reason: ON_THE_WAY,
    },
    Difference {
        case: "file-becomes-folder-and-back-at-once",
        watches: &["."],
        step: 0,
        local: &[
            "DELETE ./file",
            "CREATE|ISDIR ./file",
            "DELETE|ISDIR ./file",
            "CREATE ./file",
            "CLOSE_WRITE ./file",
        ],
        share: &[
            "DELETE ./file",
            "CREATE ./file",
            "DELETE|ISDIR ./file",
            "CREATE ./file",
            "CLOSE_WRITE ./file",
        ],
        sometimes: true,
        reason: ON_THE_WAY,
    },
    Difference {
        case: "create-and-delete-at-once",
        watches: &["."],
        step: 0,
        local: &["CREATE ./new", "CLOSE_WRITE ./new", "DELETE ./new"],
        share: &["CREATE ./new", "DELETE ./new"],
        sometimes: true,
        reason: NOTHING_LEFT,
    },
];
