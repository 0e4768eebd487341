//! Wakes a thread that waits.

use core::time::Duration;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Is rung by many, and heard by one.
#[derive(Debug, Default)]
pub(super) struct Bell {
    state: Mutex<State>,
    sounds: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_rung: bool,
    is_over: bool,
}

impl Bell {
    /// Wakes whoever waits, or will.
    pub(super) fn ring(&self) {
        self.lock().is_rung = true;
        self.sounds.notify_all();
    }

    /// Nobody is to wait any more.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.sounds.notify_all();
    }

    /// Waits to be rung, at most so long; returns whether it was, and nothing at the end.
    pub(super) fn wait(&self, most: Duration) -> Option<bool> {
        let waited = self.sounds.wait_timeout_while(self.lock(), most, |state| !state.is_rung && !state.is_over);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let is_rung = core::mem::take(&mut state.is_rung);
        (!state.is_over).then_some(is_rung)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
