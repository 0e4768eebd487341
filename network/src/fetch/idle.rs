//! Connections that wait for another request of the same account to the same server: a policy that asks a server about every request does
//! not shake hands with it each time.
//!
//! Whom a connection leads to was judged when it was dialed. It is used again only under the rules under which that was, so that a reload
//! which allows less, or trusts others, closes what was open; and only for [`IDLE`], so that a name which moves is looked up again.

use core::{net::IpAddr, time::Duration};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Driver, Rules};

/// Connections that wait.
#[derive(Debug, Default)]
pub(super) struct Idle {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The one that has waited longest is the first.
    kept: Vec<Kept>,
    /// Whether a task closes them in time.
    watched: bool,
}

#[derive(Debug)]
struct Kept {
    whose: Whose,
    connection: Connection,
    since: Instant,
}

/// Who may use a connection, and for which server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whose {
    pub(super) account: i64,
    pub(super) secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

/// A connection that serves one request at a time.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<Full<Bytes>>,
    /// Where it leads to.
    pub(super) address: IpAddr,
    /// Under which rules it was opened.
    pub(super) rules: Arc<Rules>,
    pub(super) _driver: Driver,
}

impl Idle {
    /// Returns a connection that may serve another request, the one that was used last.
    pub(super) fn take(&self, whose: &Whose, rules: &Arc<Rules>) -> Option<Connection> {
        let mut state = self.state.lock();
        let now = Instant::now();
        state.kept.retain(|kept| kept.is_good(now) && Arc::ptr_eq(&kept.connection.rules, rules));
        let at = state.kept.iter().rposition(|kept| kept.whose == *whose)?;
        Some(state.kept.remove(at).connection)
    }

    /// Lets a connection wait whose answer has been read to its end, if the server leaves it open and there is room.
    pub(super) async fn keep(self: &Arc<Self>, whose: Whose, mut connection: Connection) {
        // The end of an answer is noticed by the task of the connection, a moment later.
        let Ok(Ok(())) = timeout(SETTLE, connection.sender.ready()).await else { return };
        let mut state = self.state.lock();
        let since = Instant::now();
        state.kept.retain(|kept| kept.is_good(since));
        let (mut same, mut of_account) = (0, 0);
        for kept in &state.kept {
            same += usize::from(kept.whose == whose);
            of_account += usize::from(kept.whose.account == whose.account);
        }
        if same >= MOST_OF_A_SERVER || of_account >= MOST_OF_AN_ACCOUNT {
            return;
        }
        if state.kept.len() >= MOST {
            state.kept.remove(0);
        }
        state.kept.push(Kept { whose, connection, since });
        if !state.watched {
            state.watched = true;
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Closes those that have waited long enough; returns when the next one will have, or nothing when none is left and nobody watches.
    fn expire(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        let now = Instant::now();
        state.kept.retain(|kept| kept.is_good(now));
        let next = state.kept.iter().map(|kept| kept.since + IDLE).min();
        state.watched = next.is_some();
        next
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state.lock().kept.len()
    }
}

impl Kept {
    fn is_good(&self, now: Instant) -> bool {
        now < self.since + IDLE && self.connection.sender.is_ready()
    }
}

async fn watch(idle: Weak<Idle>) {
    while let Some(next) = idle.upgrade().and_then(|idle| idle.expire()) {
        sleep_until(next).await;
    }
}

/// How long a connection waits.
pub(super) const IDLE: Duration = Duration::from_secs(15);
/// Those that wait, of one account for one server.
const MOST_OF_A_SERVER: usize = 2;
/// Those that wait, of one account.
const MOST_OF_AN_ACCOUNT: usize = 8;
/// Those that wait.
const MOST: usize = 64;
/// How long it may take until the end of an answer is noticed.
const SETTLE: Duration = Duration::from_millis(100);
