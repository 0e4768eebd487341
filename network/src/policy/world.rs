//! What rules ask of the world. Each kind of question has its own place; one that is not served is answered so that the rule refuses.

use adit_policy::engine::{Answer, Ask, FetchError, Unavailable};

/// Answers what rules ask.
#[derive(Debug, Default)]
pub struct World {}

impl World {
    /// Answers a question. [`Ask::Body`] is answered by who has the body.
    #[expect(clippy::unused_async, reason = "what is asked takes time, as soon as it is served")]
    pub async fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Fetch(_) => Answer::Fetched(Err(FetchError::Forbidden)),
            Ask::Keys { .. } => Answer::Keys(Err(Unavailable)),
            Ask::Password { .. } => Answer::Password(Err(Unavailable)),
            Ask::Body { .. } => Answer::Body(None),
        }
    }
}
