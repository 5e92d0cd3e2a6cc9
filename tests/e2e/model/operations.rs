//! What is done: random operations on few names, so that they meet.

use rustix::fs::{FallocateFlags, OFlags, RenameFlags, SeekFrom, XattrFlags};

pub(super) const NAMES: [&str; 4] = ["a", "b", "c", "d"];
pub(super) const SLOTS: usize = 4;

/// A path below the root, or below what a slot holds.
#[derive(Clone, Debug)]
pub(super) struct At(pub(super) Option<usize>, pub(super) String);

#[derive(Clone, Debug)]
pub(super) enum Op {
    Open { slot: usize, at: At, flags: OFlags, mode: u32 },
    Close { slot: usize },
    Read { slot: usize, offset: Option<u64>, size: usize },
    Write { slot: usize, offset: Option<u64>, size: usize, byte: u8 },
    Map { slot: usize, offset: u64, write: Option<u8> },
    Seek { slot: usize, to: SeekFrom },
    Resize { slot: usize, size: u64 },
    Allocate { slot: usize, mode: FallocateFlags, offset: u64, size: u64 },
    Copy { from: usize, from_offset: u64, to: usize, to_offset: u64, size: usize },
    Sync { slot: usize },
    StatOpen { slot: usize },
    ModeOpen { slot: usize, mode: u32 },
    TimeOpen { slot: usize, second: i64 },
    XattrOpen { slot: usize, name: &'static str, size: usize },
    LinkOpen { slot: usize, at: At },
    List { slot: usize },
    Truncate { path: String, size: u64 },
    WriteFile { path: String, flags: OFlags, offset: u64, size: usize, byte: u8 },
    ReadFile { path: String },
    Stat { at: At, follow: bool },
    Unlink { at: At },
    RmDir { at: At },
    MkDir { at: At, mode: u32 },
    MkFifo { at: At },
    SymLink { at: At, target: &'static str },
    ReadLink { at: At },
    Link { from: At, to: At, follow: bool },
    Rename { from: At, to: At, flags: RenameFlags },
    Mode { at: At, mode: u32 },
    Owner { at: At, uid: Option<u32>, gid: Option<u32> },
    Time { at: At, second: i64, follow: bool },
    SetXattr { path: String, name: &'static str, size: usize, flags: XattrFlags },
    GetXattr { path: String, name: &'static str, room: usize },
    ListXattr { path: String },
    DropXattr { path: String, name: &'static str },
}

/// An operation, and whether the host does it.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) by_host: bool,
    pub(super) op: Op,
}

/// SplitMix64.
pub(super) struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn path(&mut self) -> String {
        let depth = self.one(&[1, 1, 1, 2, 2, 2, 3]);
        let mut path = (0..depth).map(|_| self.one(&NAMES)).collect::<Vec<_>>().join("/");
        match self.below(40) {
            0 => path.push('/'),
            1 => path.push_str("/."),
            2 => path.push_str("/.."),
            _ => {}
        }
        path
    }

    fn at(&mut self, host: bool) -> At {
        let base = (!host && self.below(5) == 0).then(|| self.below(SLOTS));
        // `..` of a folder in a slot may lead out of what is compared.
        let path = self.path();
        At(base, if base.is_some() { path.replace("..", ".") } else { path })
    }

    fn offset(&mut self) -> u64 {
        self.one(&[0, 0, 0, 1, 10, 4095, 4096, 5000, 8192, 70_000, 1 << 20, 1 << 40])
    }

    fn size(&mut self) -> usize {
        self.one(&[0, 1, 1, 10, 100, 4096, 5000, 66_000])
    }

    fn mode(&mut self) -> u32 {
        self.one(&[0o644, 0o600, 0o755, 0o4755, 0o2755, 0o2644, 0o1777, 0, 0o7777])
    }

    fn flags(&mut self) -> OFlags {
        let access = self.one(&[OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR, OFlags::RDWR]);
        let mut flags = access;
        for (flag, odds) in [
            (OFlags::CREATE, 2),
            (OFlags::EXCL, 8),
            (OFlags::TRUNC, 6),
            (OFlags::APPEND, 5),
            (OFlags::NOFOLLOW, 8),
            (OFlags::NONBLOCK, 1),
        ] {
            if self.below(odds) == 0 {
                flags |= flag;
            }
        }
        // Without `O_CREAT` it is undefined.
        if !flags.contains(OFlags::CREATE) { flags - OFlags::EXCL } else { flags }
    }

    fn op(&mut self, host: bool) -> Op {
        const XATTRS: [&str; 4] = ["user.a", "user.b", "trusted.c", "nowhere.d"];
        const TARGETS: [&str; 8] = ["a", "b", "c", "a/b", "b/c", ".", "d", "nowhere/at/all"];
        let slot = self.below(SLOTS);
        let byte = b'A' + self.below(26) as u8;
        // The host keeps nothing open.
        let kind = if host { 50 + self.below(50) } else { self.below(100) };
        match kind {
            0..8 => Op::Open { slot, at: self.at(host), flags: self.flags(), mode: self.mode() },
            8 => Op::Open {
                slot,
                at: self.at(host),
                flags: OFlags::DIRECTORY | OFlags::RDONLY,
                mode: 0,
            },
            9 => Op::Open { slot, at: self.at(host), flags: OFlags::PATH, mode: 0 },
            10 => Op::Open {
                slot,
                at: self.at(host),
                flags: OFlags::TMPFILE | OFlags::RDWR,
                mode: self.mode(),
            },
            11 => Op::Close { slot },
            12..17 => {
                let offset = (self.below(3) > 0).then(|| self.offset());
                Op::Read { slot, offset, size: self.size() }
            }
            17..26 => {
                let offset = (self.below(3) > 0).then(|| self.offset());
                Op::Write { slot, offset, size: self.size(), byte }
            }
            26..29 => {
                let write = (self.below(2) == 0).then_some(byte);
                Op::Map { slot, offset: self.one(&[0, 4096, 8192]), write }
            }
            // Not to data and holes: what was allocated counts as data once it has been read ahead.
            29 => {
                let offset = self.offset();
                let to = [SeekFrom::Start(offset), SeekFrom::End(0), SeekFrom::Current(-1)];
                Op::Seek { slot, to: self.one(&to) }
            }
            30..33 => Op::Resize { slot, size: self.offset() },
            33..36 => {
                let keep = FallocateFlags::KEEP_SIZE;
                let mode = self.one(&[
                    FallocateFlags::empty(),
                    keep,
                    keep | FallocateFlags::PUNCH_HOLE,
                    FallocateFlags::ZERO_RANGE,
                    keep | FallocateFlags::ZERO_RANGE,
                    FallocateFlags::PUNCH_HOLE,
                ]);
                // Not a terabyte of blocks.
                let offset = self.offset().min(1 << 20);
                Op::Allocate { slot, mode, offset, size: self.size() as u64 }
            }
            36..39 => Op::Copy {
                from: slot,
                from_offset: self.offset(),
                to: self.below(SLOTS),
                to_offset: self.offset(),
                size: self.size(),
            },
            39 => Op::Sync { slot },
            40..43 => Op::StatOpen { slot },
            43 => Op::ModeOpen { slot, mode: self.mode() },
            44 => Op::TimeOpen { slot, second: self.below(1000) as i64 },
            45 => Op::XattrOpen { slot, name: self.one(&XATTRS), size: self.size() },
            46 => Op::LinkOpen { slot, at: self.at(host) },
            47..50 => Op::List { slot },
            50 => Op::Truncate { path: self.path(), size: self.offset() },
            51..57 => Op::WriteFile {
                path: self.path(),
                flags: self.flags() | OFlags::NONBLOCK,
                offset: self.offset(),
                size: self.size(),
                byte,
            },
            57..60 => Op::ReadFile { path: self.path() },
            60..63 => Op::Stat { at: self.at(host), follow: self.below(2) == 0 },
            63..67 => Op::Unlink { at: self.at(host) },
            67..70 => Op::RmDir { at: self.at(host) },
            70..76 => Op::MkDir { at: self.at(host), mode: self.mode() },
            76 => Op::MkFifo { at: self.at(host) },
            77..79 => Op::SymLink { at: self.at(host), target: self.one(&TARGETS) },
            79 => Op::ReadLink { at: self.at(host) },
            80..83 => {
                Op::Link { from: self.at(host), to: self.at(host), follow: self.below(3) == 0 }
            }
            83..90 => {
                let (none, exchange) = (RenameFlags::empty(), RenameFlags::EXCHANGE);
                let flags = self.one(&[none, none, none, exchange, RenameFlags::NOREPLACE]);
                Op::Rename { from: self.at(host), to: self.at(host), flags }
            }
            90..92 => Op::Mode { at: self.at(host), mode: self.mode() },
            92 => Op::Owner {
                at: self.at(host),
                uid: self.one(&[None, Some(0), Some(1000)]),
                gid: self.one(&[None, Some(0), Some(1001)]),
            },
            93..95 => Op::Time {
                at: self.at(host),
                second: self.below(1000) as i64,
                follow: self.below(2) == 0,
            },
            95..97 => {
                let flags = [XattrFlags::empty(), XattrFlags::CREATE, XattrFlags::REPLACE];
                let (name, size) = (self.one(&XATTRS), self.one(&[0, 1, 100, 1000, 65_537]));
                Op::SetXattr { path: self.path(), name, size, flags: self.one(&flags) }
            }
            97 => {
                let (name, room) = (self.one(&XATTRS), self.one(&[0, 10, 2000]));
                Op::GetXattr { path: self.path(), name, room }
            }
            98 => Op::ListXattr { path: self.path() },
            _ => Op::DropXattr { path: self.path(), name: self.one(&XATTRS) },
        }
    }
}

pub(super) fn generate(seed: u64, count: usize, host_works: bool) -> Vec<Step> {
    let mut random = Random(seed);
    let mut step = || {
        let by_host = host_works && random.below(3) == 0;
        let op = match random.op(by_host) {
            // What goes through a fifo stays on the side where it is opened.
            Op::MkFifo { at } if host_works => Op::SymLink { at, target: "a" },
            op => op,
        };
        Step { by_host, op }
    };
    (0..count).map(|_| step()).collect()
}
