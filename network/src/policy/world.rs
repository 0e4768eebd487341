//! What rules ask of the world. Each kind of question has its own place; one that is not served is answered so that the rule refuses.

use core::num::NonZeroUsize;
use std::sync::{Arc, OnceLock, Weak};

use adit_core::{Open, UpstreamProtocol};
use adit_policy::{
    auth::basic::Check,
    engine::{Answer, Ask, Fetch, FetchError, Keys, Unavailable},
};
use adit_tokio::Stream;
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::keys::IssuerKeys;
use crate::{
    Edge,
    fetch::{Bounds, FetchFault, Fetcher, is_internal},
    router::Lease,
};

/// Answers what rules ask.
#[derive(Debug)]
pub struct World {
    /// Sends requests to other servers.
    fetcher: Option<Arc<Fetcher>>,
    /// The keys of issuers.
    keys: Arc<IssuerKeys>,
    /// Where internal endpoints are.
    edge: OnceLock<Weak<Edge>>,
    /// Threads that may check passwords at a time: half of the cores, so that callers with wrong ones do not take all.
    passwords: Arc<Semaphore>,
    /// Places of those who wait for one.
    waiting: Semaphore,
}

impl Default for World {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            fetcher: None,
            keys: Arc::default(),
            edge: OnceLock::new(),
            passwords: Arc::new(Semaphore::new((cores / 2).max(1))),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }
}

impl World {
    /// Returns one that sends requests by `fetcher`.
    pub fn new(fetcher: Fetcher) -> Self {
        Self { fetcher: Some(Arc::new(fetcher)), ..Self::default() }
    }

    /// Lets requests reach the internal endpoints of their account.
    pub fn reach(&self, edge: &Arc<Edge>) {
        let _ = self.edge.set(Arc::downgrade(edge)); // once: there is one
    }

    /// Returns who sends requests to other servers.
    pub fn fetcher(&self) -> Option<&Fetcher> {
        self.fetcher.as_deref()
    }

    /// Answers a question of an account. [`Ask::Body`] is answered by who has the body.
    pub async fn answer(&self, account: i64, ask: Ask) -> Answer {
        match ask {
            Ask::Fetch(fetch) => Answer::Fetched(self.fetch(account, *fetch).await),
            Ask::Keys { urls, fresh } => Answer::Keys(self.keys(account, urls, fresh).await),
            Ask::Password { check } => Answer::Password(self.password(check).await),
            Ask::Body { .. } => Answer::Body(None),
        }
    }

    async fn keys(&self, account: i64, urls: Vec<String>, fresh: bool) -> Result<Keys, Unavailable> {
        let fetcher = self.fetcher.as_ref().ok_or(Unavailable)?;
        self.keys.get(fetcher, account, urls, fresh).await
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

    async fn fetch(&self, account: i64, fetch: Fetch) -> Result<http::Response<Vec<u8>>, FetchError> {
        let fetcher = self.fetcher.as_ref().ok_or(FetchError::Forbidden)?;
        let Fetch { request, timeout, most } = fetch;
        let (request, bounds) = (request.map(Into::into), Bounds { timeout, most });
        if is_internal(request.uri()) {
            let connect = self.connect(account, request.uri().clone());
            let response = fetcher.fetch_over(account, request, bounds, connect).await;
            return response.map(|response| response.map(Vec::from)).map_err(error);
        }
        let fetched = fetcher.fetch(account, request, bounds).await.map_err(error)?;
        let mut response = fetched.response.map(Vec::from);
        response.extensions_mut().insert(fetched.address);
        Ok(response)
    }
}

impl World {
    /// Opens a connection to an internal endpoint of an account.
    async fn connect(&self, account: i64, uri: http::Uri) -> Result<(Stream, UpstreamProtocol, Lease), FetchFault> {
        let edge = self.edge.get().and_then(Weak::upgrade).ok_or(FetchFault::Unreachable)?;
        let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority());
        let url = format!("{scheme}://{}", authority.map_or("", |authority| authority.as_str()));
        let (key, _) = edge.forward(account, &url, true).map_err(|_| FetchFault::Unresolved)?;
        // Rules of its own are for requests that pass them.
        if edge.settings(&key).is_some_and(|settings| settings.policy.is_some()) {
            return Err(FetchFault::Forbidden);
        }
        let open = Open { bind: None, caller: None, local: None, tls: None, endpoint: key.to_string() };
        let carried = edge.open(&key, &open, &mut Vec::new()).await.map_err(|_| FetchFault::Unreachable)?;
        Ok((carried.stream, carried.upstream, carried.lease))
    }
}

fn error(fault: FetchFault) -> FetchError {
    match fault {
        FetchFault::Forbidden => FetchError::Forbidden,
        FetchFault::Timeout => FetchError::Timeout,
        FetchFault::TooLarge => FetchError::TooLarge,
        FetchFault::Busy | FetchFault::Unresolved | FetchFault::Unreachable | FetchFault::Tls | FetchFault::Broken => {
            FetchError::Unreachable
        }
    }
}

/// Passwords that wait to be checked: those beyond are refused, for they would wait for half a minute and more.
const MAX_WAITING: usize = 64;
