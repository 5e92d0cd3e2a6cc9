//! Which file systems are set against each other: on this machine (`bench fs`), or in one guest
//! (`bench vm-fs`).

use super::rows::{Budget, Row};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum System {
    /// The folder itself; in a guest, a folder of its own disk.
    Local,
    /// libfuse's fastest example: no wire, a descriptor a file, told of no change.
    PassthroughHp,
    Bindfs,
    /// Over a pair of sockets to `sftp-server`, without encryption.
    Sshfs,
    /// `osxfs mount`.
    Embedded,
    /// `osxfs serve` and `osxfs agent`.
    UnixSocket,
    /// `osxfs vsock` on the host, `osxfs agent` in the guest.
    VirtioSock,
    /// virtiofsd that lets the guest keep names, attributes and content for a second.
    VirtiofsdAuto,
    /// virtiofsd that lets it keep them for ever, whatever the host does.
    VirtiofsdAlways,
    /// The server in QEMU, with a client that keeps everything for ever.
    NineP,
}

use System::{
    Bindfs, Embedded, Local, NineP, PassthroughHp, Sshfs, UnixSocket, VirtioSock, VirtiofsdAlways,
    VirtiofsdAuto,
};

impl System {
    pub fn name(self) -> &'static str {
        match self {
            Local => "local disk",
            PassthroughHp => "passthrough_hp",
            Bindfs => "bindfs",
            Sshfs => "sshfs",
            Embedded => "osxfs embedded",
            UnixSocket => "osxfs unix socket",
            VirtioSock => "osxfs vsock",
            VirtiofsdAuto => "virtiofsd auto",
            VirtiofsdAlways => "virtiofsd always",
            NineP => "9p loose",
        }
    }

    /// In the picture.
    pub fn color(self) -> &'static str {
        match self {
            Local => "#444444",
            PassthroughHp | VirtiofsdAuto => "#4477aa",
            Bindfs => "#bbbbbb",
            VirtiofsdAlways => "#66ccee",
            Sshfs | NineP => "#ccbb44",
            Embedded | VirtioSock => "#ee6677",
            UnixSocket => "#aa3377",
        }
    }
}

/// Who takes part.
pub struct Contest {
    pub systems: &'static [System],
    /// Those that something is promised of, and whose requests are counted.
    pub ours: &'static [System],
    /// Those that the others are given as multiples of. The first is the picture's.
    pub measures: &'static [System],
    /// What takes so long that it is measured in the first round only.
    pub once: &'static [Row],
}

pub static HERE: Contest = Contest {
    systems: &[Local, PassthroughHp, Bindfs, Sshfs, Embedded, UnixSocket],
    ours: &[Embedded, UnixSocket],
    measures: &[Local, PassthroughHp],
    once: &[],
};

pub static IN_A_GUEST: Contest = Contest {
    systems: &[Local, VirtioSock, VirtiofsdAuto, VirtiofsdAlways, NineP],
    ours: &[VirtioSock],
    measures: &[VirtiofsdAuto, Local],
    once: &[Row::Npm],
};

impl Contest {
    /// What is promised of a row.
    pub fn budgets(&self, row: Row) -> impl Iterator<Item = Budget> {
        row.budgets().filter(|budget| self.ours.contains(&budget.of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::fs::rows::Limit;

    #[test]
    fn every_budget_is_of_ours_and_set_against_a_peer_of_the_same_contest() {
        for budget in Row::ALL.iter().flat_map(|row| row.budgets()) {
            let contest =
                [&HERE, &IN_A_GUEST].into_iter().find(|contest| contest.ours.contains(&budget.of));
            let contest = contest.expect("one of ours");
            if let Limit::Times(ratio, to) = budget.limit {
                assert!(contest.systems.contains(&to) && !contest.ours.contains(&to));
                assert!(ratio > 0.0);
            }
        }
    }

    #[test]
    fn whoever_is_named_takes_part() {
        for contest in [&HERE, &IN_A_GUEST] {
            assert!(
                contest.ours.iter().chain(contest.measures).all(|of| contest.systems.contains(of))
            );
        }
    }
}
