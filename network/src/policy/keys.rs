//! The keys of issuers: fetched when [`KeyCache`] says so, for each account by itself (V64).

use core::{future::Future, time::Duration};
use std::sync::Arc;

use adit_policy::{
    auth::jwt::{KeyCache, KeySet, Look, MOST_OCTETS},
    engine::{Keys, Unavailable},
};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, StatusCode, header};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::fetch::{Bounds, Fetcher};

/// Whose keys, and where they are.
type Address = (i64, String);

/// The keys that are known.
#[derive(Debug, Default)]
pub(crate) struct IssuerKeys {
    cache: Mutex<KeyCache<Address>>,
    /// Told when a fetch is over, whatever came of it.
    arrived: Notify,
}

impl IssuerKeys {
    /// Returns the keys of these addresses for an account: those of all that have any.
    ///
    /// # Errors
    /// [`Unavailable`] when none has.
    pub(crate) async fn get(
        self: &Arc<Self>,
        fetcher: &Arc<Fetcher>,
        account: i64,
        urls: Vec<String>,
        fresh: bool,
    ) -> Result<Keys, Unavailable> {
        self.cache.lock().set_terms(fetcher.terms());
        let fetch = |(account, url): Address| {
            let fetcher = Arc::clone(fetcher);
            async move { fetch(&fetcher, account, &url).await }
        };
        self.get_by(fetch, account, urls, fresh).await
    }

    async fn get_by<F, T>(
        self: &Arc<Self>,
        fetch: F,
        account: i64,
        urls: Vec<String>,
        fresh: bool,
    ) -> Result<Keys, Unavailable>
    where
        F: Fn(Address) -> T + Copy,
        T: Future<Output = Option<KeySet>> + Send + 'static,
    {
        let sets = join_all(urls.into_iter().map(|url| self.one(fetch, (account, url), fresh))).await;
        let sets: Vec<_> = sets.into_iter().flatten().collect();
        if sets.is_empty() { Err(Unavailable) } else { Ok(Keys { sets, fresh }) }
    }

    async fn one<F, T>(self: &Arc<Self>, fetch: F, address: Address, mut fresh: bool) -> Option<Arc<KeySet>>
    where
        F: Fn(Address) -> T,
        T: Future<Output = Option<KeySet>> + Send + 'static,
    {
        loop {
            // Before it is looked, so that no fetch is over unnoticed between.
            let mut arrived = core::pin::pin!(self.arrived.notified());
            arrived.as_mut().enable();
            let look = self.cache.lock().look(&address, fresh, Instant::now().into_std());
            match look {
                Look::Use(keys) => return Some(keys),
                Look::Refresh(keys) => {
                    self.begin(address.clone(), fetch(address));
                    return Some(keys);
                }
                Look::Fetch => self.begin(address.clone(), fetch(address.clone())),
                Look::Wait => {}
                Look::Unavailable => return None,
            }
            fresh = false;
            arrived.await;
        }
    }

    /// Fetches by a task of its own: the caller who was first may go away, and others wait.
    fn begin(self: &Arc<Self>, address: Address, fetch: impl Future<Output = Option<KeySet>> + Send + 'static) {
        let fetching = Fetching { keys: Arc::clone(self), address, found: None };
        tokio::spawn(async move {
            let mut fetching = fetching;
            fetching.found = fetch.await;
        });
    }
}

/// A fetch under way. However it ends, that is told.
struct Fetching {
    keys: Arc<IssuerKeys>,
    address: Address,
    found: Option<KeySet>,
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.keys.cache.lock().on_fetched(&self.address, self.found.take(), Instant::now().into_std());
        self.keys.arrived.notify_waiters();
    }
}

async fn fetch(fetcher: &Fetcher, account: i64, url: &str) -> Option<KeySet> {
    let told = |why: &dyn core::fmt::Display| tracing::warn!(account, url, %why, "the keys of an issuer");
    let request = Request::get(url).header(header::ACCEPT, "application/jwk-set+json, application/json");
    let request = request.body(Bytes::new()).map_err(|error| told(&error)).ok()?;
    let bounds = Bounds { timeout: TIMEOUT, most: MOST_OCTETS };
    let fetched = fetcher.fetch(account, request, bounds).await.map_err(|fault| told(&fault)).ok()?;
    if fetched.response.status() != StatusCode::OK {
        told(&fetched.response.status());
        return None;
    }
    KeySet::parse(fetched.response.body()).map_err(|bad| told(&bad)).ok()
}

/// How long an issuer has to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicUsize, Ordering};

    use adit_policy::auth::jwt::{FRESH, PAUSE, STALE};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        time::{advance, sleep},
    };

    use super::*;
    use crate::{
        config::{FetchRules, Limits},
        metrics::Metrics,
    };

    const URL: &str = "https://issuer.example/keys";

    /// An issuer that serves as many keys as `serves` says, or is down; it takes a second to answer.
    struct Issuer {
        keys: Arc<IssuerKeys>,
        serves: Arc<Mutex<Option<usize>>>,
        asked: Arc<AtomicUsize>,
    }

    impl Issuer {
        fn new(serves: usize) -> Self {
            Self { keys: Arc::default(), serves: Arc::new(Mutex::new(Some(serves))), asked: Arc::default() }
        }

        /// Returns how many keys there are for an account.
        async fn ask(&self, account: i64, fresh: bool) -> Option<usize> {
            let fetch = |_| {
                self.asked.fetch_add(1, Ordering::Relaxed);
                let serves = Arc::clone(&self.serves);
                async move {
                    sleep(Duration::from_secs(1)).await;
                    let key = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
                    let keys = vec![key; (*serves.lock())?].join(",");
                    KeySet::parse(format!(r#"{{"keys":[{keys}]}}"#).as_bytes()).ok()
                }
            };
            let keys = self.keys.get_by(&fetch, account, vec![URL.into()], fresh).await.ok()?;
            Some(keys.sets.iter().map(|set| set.len()).sum())
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn callers_at_once_make_one_fetch_and_one_who_goes_away_stops_nothing() {
        let issuer = Issuer::new(1);
        let gone = tokio::time::timeout(Duration::from_millis(10), issuer.ask(1, false)).await;

        let found = join_all((0..100).map(|_| issuer.ask(1, false))).await;

        assert!(gone.is_err());
        assert_eq!(found, vec![Some(1); 100]);
        assert_eq!(issuer.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_not_known_is_looked_for_once_a_minute() {
        let issuer = Issuer::new(1);
        assert_eq!(issuer.ask(1, false).await, Some(1));
        *issuer.serves.lock() = Some(2);

        assert_eq!(issuer.ask(1, true).await, Some(1));
        advance(PAUSE).await;
        assert_eq!(join_all((0..10).map(|_| issuer.ask(1, true))).await, vec![Some(2); 10]);
        assert_eq!(issuer.ask(1, true).await, Some(2));
        assert_eq!(issuer.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_is_down_is_outlived_up_to_the_bound() {
        let issuer = Issuer::new(1);
        issuer.ask(1, false).await;
        *issuer.serves.lock() = None;

        advance(FRESH * 2).await;
        assert_eq!(issuer.ask(1, false).await, Some(1));
        advance(STALE - FRESH * 2 - Duration::from_secs(2)).await;
        assert_eq!(issuer.ask(1, false).await, Some(1));
        advance(Duration::from_secs(70)).await;
        assert_eq!(issuer.ask(1, false).await, None);
        *issuer.serves.lock() = Some(3);
        advance(PAUSE).await;
        assert_eq!(issuer.ask(1, false).await, Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn old_keys_are_used_while_others_are_fetched() {
        let issuer = Issuer::new(1);
        issuer.ask(1, false).await;
        *issuer.serves.lock() = Some(2);
        advance(FRESH + Duration::from_secs(1)).await;

        assert_eq!(issuer.ask(1, false).await, Some(1));
        sleep(Duration::from_secs(2)).await;
        assert_eq!(issuer.ask(1, false).await, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn each_account_has_keys_of_its_own() {
        let issuer = Issuer::new(1);
        issuer.ask(1, false).await;
        *issuer.serves.lock() = Some(2);

        assert_eq!((issuer.ask(2, false).await, issuer.ask(1, false).await), (Some(2), Some(1)));
        assert_eq!(issuer.asked(), 2);
    }

    /// Answers each connection with what is there to be answered.
    async fn server(answer: Arc<Mutex<String>>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1_024];
                let _ = stream.read(&mut head).await;
                let answer = answer.lock().clone();
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    fn with_keys(count: usize) -> String {
        let key = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let body = format!(r#"{{"keys":[{}]}}"#, vec![key; count].join(","));
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    async fn pass(time: Duration) {
        tokio::time::pause();
        advance(time).await;
        tokio::time::resume();
    }

    /// With a real server: what it serves is read, what it serves anew is found, and what is no set of keys changes nothing.
    #[tokio::test]
    async fn a_server_of_keys_may_rotate_them_fail_and_talk_nonsense() {
        let answer = Arc::new(Mutex::new(with_keys(1)));
        let urls = vec![format!("http://127.0.0.1:{}/keys", server(Arc::clone(&answer)).await)];
        let rules = FetchRules { allow: vec![crate::config::network("127.0.0.1").unwrap()], ca: None };
        let fetcher = Arc::new(Fetcher::new(&rules, Limits::default(), Arc::new(Metrics::new())).unwrap());
        let keys = Arc::new(IssuerKeys::default());
        let ask = async |fresh| {
            let found = keys.get(&fetcher, 1, urls.clone(), fresh).await;
            found.map(|keys| keys.sets.iter().map(|set| set.len()).sum::<usize>())
        };

        assert_eq!(ask(false).await, Ok(1));
        *answer.lock() = with_keys(2);
        assert_eq!(ask(true).await, Ok(1), "not before a minute is over");
        pass(PAUSE).await;
        assert_eq!(ask(true).await, Ok(2));
        for bad in [
            "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_owned(),
            with_keys(3).replace("200 OK", "302 Found\r\nlocation: /keys"),
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>".to_owned(),
            with_keys(101),
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{{}}{}",
                MOST_OCTETS + 1,
                " ".repeat(MOST_OCTETS - 1)
            ),
            "nonsense".to_owned(),
        ] {
            *answer.lock() = bad.clone();
            pass(PAUSE).await;
            assert_eq!(ask(true).await, Ok(2), "{}", bad.chars().take(60).collect::<String>());
        }
        pass(STALE).await;
        assert_eq!(ask(false).await, Err(Unavailable));
        *answer.lock() = with_keys(4);
        pass(PAUSE).await;
        assert_eq!(ask(false).await, Ok(4));
    }
}
