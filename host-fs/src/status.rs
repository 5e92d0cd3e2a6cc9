//! Figures of a running server, as `osxfs status` shows them.

use crate::export::Export;
use crate::observe::Figures;
use crate::server::Server;
use crate::session::Session;
use protocol::{Consistency, OwnershipMode};
use serde::Serialize;
use std::path::PathBuf;

/// The whole server.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Process number.
    pub pid: u32,
    /// Version of the program.
    pub version: &'static str,
    /// What is shared.
    pub exports: Vec<ExportStatus>,
    /// Who uses it.
    pub agents: Vec<AgentStatus>,
    /// Requests served, by agents that have gone as well.
    pub operations: u64,
    /// Bytes read from files.
    pub bytes_read: u64,
    /// Bytes written to files.
    pub bytes_written: u64,
    /// Directories under a lease.
    pub leases: u64,
    /// Changes sent to agents.
    pub events: u64,
    /// Open files and directories there may be at once.
    pub max_handles: usize,
}

/// One export.
#[derive(Clone, Debug, Serialize)]
pub struct ExportStatus {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// Whether guests may only read.
    pub read_only: bool,
    /// `host` or `map`.
    pub ownership: &'static str,
    /// `consistent`, `cached` or `delegated`.
    pub consistency: &'static str,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Hints of the host that something may have changed.
    pub hints: u64,
    /// Of them, dropped because the guest did it itself.
    pub echoes: u64,
    /// Changes sent.
    pub changes: u64,
    /// Directories compared again, because hints were lost or do not come.
    pub comparisons: u64,
    /// Changes sent and not delivered to watchers yet.
    pub queued: u64,
    /// Microseconds from sending to delivery, half of the time and in 99 of 100 cases at most, as
    /// powers of two.
    pub delay_p50_us: Option<u64>,
    /// See above.
    pub delay_p99_us: Option<u64>,
}

/// One agent.
#[derive(Clone, Debug, Serialize)]
pub struct AgentStatus {
    /// How it calls itself.
    pub name: String,
    /// Objects that it knows.
    pub nodes: usize,
    /// Files and directories that it has open.
    pub handles: usize,
    /// Requests served.
    pub operations: u64,
    /// Of them, failed.
    pub errors: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Directories under a lease.
    pub leases: u64,
    /// Hints of the host seen.
    pub hints: u64,
    /// Changes sent.
    pub changes: u64,
    /// Directories that the host does not watch, which are compared in turn.
    pub unwatched: u64,
    /// Leases given up in favour of other directories, as the host allows no more watches.
    pub given_up: u64,
}

impl Status {
    pub(crate) fn of(server: &Server) -> Self {
        let agents: Vec<AgentStatus> =
            server.sessions().iter().map(|session| AgentStatus::of(session)).collect();
        let sum = |of: fn(&AgentStatus) -> u64| agents.iter().map(of).sum::<u64>();
        let ended = &server.ended;
        Self {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
            exports: server.exports().iter().map(|export| ExportStatus::of(export)).collect(),
            operations: sum(|agent| agent.operations) + ended.operations.get(),
            bytes_read: sum(|agent| agent.bytes_read) + ended.bytes_read.get(),
            bytes_written: sum(|agent| agent.bytes_written) + ended.bytes_written.get(),
            leases: sum(|agent| agent.leases),
            events: sum(|agent| agent.changes),
            max_handles: server.budget.limit(),
            agents,
        }
    }
}

impl ExportStatus {
    fn of(export: &Export) -> Self {
        let config = &export.config;
        Self {
            name: config.name.clone(),
            path: config.path.clone(),
            read_only: config.read_only,
            ownership: match export.ownership {
                OwnershipMode::Host => "host",
                OwnershipMode::Map => "map",
            },
            consistency: match config.consistency {
                Consistency::Consistent => "consistent",
                Consistency::Cached => "cached",
                Consistency::Delegated => "delegated",
            },
            bytes_read: export.counters.bytes_read.get(),
            bytes_written: export.counters.bytes_written.get(),
            hints: export.counters.hints.get(),
            echoes: export.counters.echoes.get(),
            changes: export.counters.changes.get(),
            comparisons: export.counters.comparisons.get(),
            queued: export.counters.queued.get(),
            delay_p50_us: export.counters.delays.quantile(0.5),
            delay_p99_us: export.counters.delays.quantile(0.99),
        }
    }
}

impl AgentStatus {
    fn of(session: &Session) -> Self {
        let (nodes, handles) = session.sizes();
        let counters = &session.counters;
        let Figures { leases, hints, changes, unwatched, given_up } = session.observer().figures();
        Self {
            name: session.name.clone(),
            nodes,
            handles,
            operations: counters.operations.get(),
            errors: counters.errors.get(),
            bytes_read: counters.bytes_read.get(),
            bytes_written: counters.bytes_written.get(),
            leases,
            hints,
            changes,
            unwatched,
            given_up,
        }
    }
}
