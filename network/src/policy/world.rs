//! What rules ask of the world. Each kind of question has its own place; one that is not served is answered so that the rule refuses.

use core::num::NonZeroUsize;
use std::sync::Arc;

use adit_policy::{
    auth::basic::Check,
    engine::{Answer, Ask, FetchError, Unavailable},
};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Answers what rules ask.
#[derive(Debug)]
pub struct World {
    /// Threads that may check passwords at a time: half of the cores, so that callers with wrong ones do not take all.
    passwords: Arc<Semaphore>,
    /// Places of those who wait for one.
    waiting: Semaphore,
}

impl Default for World {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self { passwords: Arc::new(Semaphore::new((cores / 2).max(1))), waiting: Semaphore::new(MAX_WAITING) }
    }
}

impl World {
    /// Answers a question. [`Ask::Body`] is answered by who has the body.
    pub async fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Fetch(_) => Answer::Fetched(Err(FetchError::Forbidden)),
            Ask::Keys { .. } => Answer::Keys(Err(Unavailable)),
            Ask::Password { check } => Answer::Password(self.password(check).await),
            Ask::Body { .. } => Answer::Body(None),
        }
    }

    /// Checks a password on a thread that serves nobody else.
    async fn password(&self, check: Check) -> Result<bool, Unavailable> {
        let _waiting = self.waiting.try_acquire().map_err(|_| Unavailable)?;
        let thread = Arc::clone(&self.passwords).acquire_owned().await.map_err(|_| Unavailable)?;
        let checking = spawn_blocking(move || {
            let right = check.run();
            drop(thread); // here, so that a caller who goes away makes no room before the work is over
            right
        });
        checking.await.map_err(|_| Unavailable)
    }
}

/// Passwords that wait to be checked: those beyond are refused, for they would wait for half a minute and more.
const MAX_WAITING: usize = 64;
