//! The HTTP reverse proxy: HTTP/1.1 and HTTP/2 from callers, HTTP/1.1 or HTTP/2 to upstreams through streams.
//!
//! A caller's octets meet a strict reading first (`gate`), then hyper, then [`proxy`](self), which finds the endpoint, makes
//! the request anew with our own words about the caller, and sends it over a pooled stream. Nothing is read from an upstream
//! that the caller has no room for, nor the other way round; what breaks on one side is broken on the other, never complete.
//!
//! What HTTP/2 callers get of 1xx: 100 comes from us when the upstream takes the body; 103 goes to HTTP/1.1 callers only.
//! Trailers towards HTTP/1.1 are carried when `Trailer` announces them and the caller sent `TE: trailers`.

mod allowance;
mod answer;
mod body;
mod caller;
mod cut;
mod edge;
mod exchange;
mod fields;
mod gate;
mod govern;
mod identity;
mod limits;
mod link;
mod peek;
mod pool;
pub(crate) mod probe;
mod proxy;
mod record;
mod send;
mod serve;
mod streams;
mod transform;
mod tunnel;

use core::{
    fmt::Debug,
    future::Future,
    hash::Hash,
    task::{Context, Poll},
    time::Duration,
};
use std::{io, sync::Arc};

use adit_core::{AgentId, Code, UpstreamProtocol};
use adit_policy::body::Broken;
use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    Caller, EndpointName, Fault,
    admission::Source,
    endpoints::Settings,
    router::{Outcome, Pending, Scheme},
    seeing::{Numbers, Seeing},
};

pub use cut::Cut;
pub(crate) use exchange::Exchange;
pub(crate) use fields::clean_request;
pub use limits::HttpLimits;
pub(crate) use peek::Rewound;
pub use serve::serve;

/// What the proxy stands on: who serves which endpoint.
pub trait Backend: Send + Sync + Sized + 'static {
    /// An endpoint.
    type Key: Debug + Eq + Send + Sync + 'static;
    /// One way to an upstream of an endpoint.
    type Member: Member;

    /// Finds the endpoint of a name.
    ///
    /// # Errors
    /// [`Fault::EndpointUnknown`].
    fn find(&self, scheme: Scheme, name: &EndpointName) -> Result<Arc<Self::Key>, Fault>;

    /// Returns whether what TLS has agreed on with the caller, its certificate among that, holds for this name.
    fn is_under_terms(&self, caller: &Caller, name: &EndpointName) -> bool;

    /// Chooses the member with least to do that is not in `tried`; may wait for one as far as the network holds connections.
    ///
    /// # Errors
    /// [`Fault::NoAgent`], [`Fault::TooManyConnections`] or [`Fault::MembersBusy`].
    fn choose(
        &self,
        key: &Self::Key,
        tried: &[<Self::Member as Member>::Id],
    ) -> impl Future<Output = Result<Self::Member, Fault>> + Send;

    /// Returns what the configuration says of an endpoint.
    fn settings(&self, key: &Self::Key) -> Option<Arc<Settings>> {
        let _ = key;
        None
    }

    /// Finds what a rule of an account forwards requests to, and whether it is served at this moment.
    ///
    /// # Errors
    /// [`Fault::ForwardUnknown`].
    fn forward(&self, account: i64, url: &str) -> Result<(Arc<Self::Key>, bool), Fault> {
        let _ = (account, url);
        Err(Fault::ForwardUnknown)
    }

    /// Returns an endpoint as the agent knows it.
    fn url(&self, key: &Self::Key) -> String {
        format!("{key:?}")
    }

    /// Takes in how an attempt with a member went.
    fn report(&self, key: &Self::Key, member: &Self::Member, outcome: Outcome) {
        let _ = (key, member, outcome);
    }

    /// Returns whether what another member did not take, for this reason, may go to `member`.
    fn may_retry(&self, member: &Self::Member, code: Code) -> bool {
        let _ = (member, code);
        true
    }

    /// Returns what the network itself answers in plain HTTP, and of which type it is: to a CA that asks whether a name is ours
    /// while an order waits for it, and the revocation list of the private CA.
    fn document(&self, name: &EndpointName, path: &str) -> Option<(Bytes, &'static str)> {
        let _ = (name, path);
        None
    }

    /// Returns what counts the requests of the caller, over all connections of its source.
    fn source(&self, caller: &Caller) -> Arc<Source> {
        let _ = caller;
        Arc::default()
    }

    /// Returns where it goes that is told of requests.
    fn seeing(&self) -> Option<Arc<Seeing>> {
        None
    }

    /// Returns the numbers of an endpoint.
    fn numbers(&self, key: &Self::Key) -> Option<Numbers> {
        let _ = key;
        None
    }

    /// Is told what happened, for the numbers.
    fn note(&self, note: Note) {
        let _ = note;
    }
}

/// One agent's bind of an endpoint, chosen for one request; counts as busy until dropped.
pub trait Member: Send + Sync + Unpin + 'static {
    /// Stable while the bind lives, never used again: what the pool of connections goes by.
    type Id: Copy + Debug + Eq + Hash + Send + Sync + 'static;
    /// The connection.
    type Io: Upstream;

    /// Returns who it is.
    fn id(&self) -> Self::Id;

    /// Returns whose session it is.
    fn agent(&self) -> Option<AgentId> {
        None
    }

    /// Returns what the upstream speaks.
    fn protocol(&self) -> UpstreamProtocol;

    /// Counts a connection that its upstream has not taken yet, until the result is dropped.
    fn pending(&self) -> Pending {
        Pending::default()
    }

    /// Returns for how long it was away, in all: what a request waits for is not expected to happen meanwhile.
    fn away(&self) -> Duration;

    /// Opens a connection to the upstream; octets may be written at once.
    ///
    /// # Errors
    /// The code that says why not; nothing was sent.
    fn open(&self, caller: &Caller, endpoint: &str) -> Result<Self::Io, Code>;
}

/// A connection to an upstream through an agent. Dropping it unfinished cancels it at the far end.
pub trait Upstream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Waits until the upstream has the connection.
    ///
    /// # Errors
    /// The code with which it was not handed over: nothing of it reached the upstream.
    fn poll_accepted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Code>>;

    /// Ends both directions at once.
    fn abort(&mut self, code: Code);

    /// Returns the wire code behind an error of such a connection.
    fn code_of(error: &io::Error) -> Option<Code>;
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A request was answered by ourselves.
    Refused(Fault),
    /// A connection to an upstream was opened.
    Opened,
    /// A request was tried again, on another connection or agent.
    Retried,
    /// A request began to be served.
    Began,
    /// A request is over; `whole` tells whether its answer was complete.
    Ended {
        /// The status of the answer.
        status: u16,
        /// Whether the answer went out to its end.
        whole: bool,
    },
    /// A caller's connection was closed because it reset too many of its own requests.
    ResetFlood,
    /// Rules cost more than they may.
    OverBudget,
    /// A body could not be changed as rules say.
    BodyBroken(Broken),
    /// A limit of this name was reached.
    Limit(&'static str),
}

/// The proxy of one network process.
pub struct HttpEdge<B: Backend> {
    backend: Arc<B>,
    pool: Arc<pool::Pool<B::Member>>,
    limits: ArcSwap<HttpLimits>,
    /// Bodies that rules change.
    bodies: transform::Counts,
}

impl<B: Backend> HttpEdge<B> {
    /// Returns a proxy in front of `backend`.
    pub fn new(backend: Arc<B>, limits: HttpLimits) -> Self {
        let pool = Arc::new(pool::Pool::new(limits.pool_idle, limits.pool_idle_timeout));
        Self { backend, pool, limits: ArcSwap::from_pointee(limits), bodies: transform::Counts::default() }
    }

    /// Replaces the limits for connections that come from here on; those of the pool stay.
    pub fn set_limits(&self, limits: HttpLimits) {
        self.limits.store(Arc::new(limits));
    }

    /// Closes what waits to be used again of members that take nothing new: their session ends when nothing is open.
    pub fn forget(&self, members: &[<B::Member as Member>::Id]) {
        for member in members {
            self.pool.forget(*member);
        }
    }

    /// Returns the connections to upstreams that wait to be used again.
    pub fn pooled(&self) -> usize {
        self.pool.idle()
    }
}
