//! What a guest has told so far.

use protocol::guest::Outcome;
use std::sync::{Mutex, PoisonError};

/// All of it.
#[derive(Clone, Default, Debug)]
pub struct Told {
    /// Everything is mounted.
    pub ready: bool,
    /// How the command ended.
    pub ended: Option<Outcome>,
    /// What init could not do, and why.
    pub failed: Option<String>,
}

/// Written by the thread that hears the guest, read when it has ended.
#[derive(Default)]
pub struct News(Mutex<Told>);

impl News {
    pub fn change(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn get(&self) -> Told {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
