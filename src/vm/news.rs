//! What a guest has told so far.

use protocol::guest::Outcome;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
pub struct News {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    told: Told,
    /// The guest is gone.
    over: bool,
}

impl News {
    pub fn change(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.lock().told);
        self.changed.notify_all();
    }

    pub fn get(&self) -> Told {
        self.lock().told.clone()
    }

    /// The guest is gone, and nothing comes any more.
    pub fn close(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }

    /// Waits until the guest has said its last word, and then `patience` more for its end. Tells
    /// whether it is still there.
    pub fn outlives_its_last_word(&self, patience: Duration) -> bool {
        let speaks = |state: &mut State| {
            !state.over && state.told.ended.is_none() && state.told.failed.is_none()
        };
        let state = self.changed.wait_while(self.lock(), speaks);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let state = self.changed.wait_timeout_while(state, patience, |state| !state.over);
        let (state, _) = state.unwrap_or_else(PoisonError::into_inner);
        !state.over
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_guest_that_does_not_end_after_its_last_word_is_found_out() {
        let news = News::default();
        news.change(|told| told.failed = Some("it".into()));
        assert!(news.outlives_its_last_word(Duration::from_millis(1)));
        news.close();
        assert!(!news.outlives_its_last_word(Duration::from_secs(100)));
    }

    #[test]
    fn a_guest_that_ends_without_a_word_keeps_nobody_waiting() {
        let news = News::default();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| news.outlives_its_last_word(Duration::from_secs(100)));
            news.change(|told| told.ready = true);
            news.close();
            assert!(!waiting.join().unwrap());
        });
    }
}
