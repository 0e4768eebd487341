//! Connections to upstreams that are used again: one shelf a member.

use core::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};
use std::{
    collections::HashMap,
    io,
    sync::{Arc, Weak},
};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    HttpLimits, Member, Upstream,
    exchange::RequestBody,
    link::{Fate, Link},
};

/// The shelves of all members.
pub(super) struct Pool<M: Member> {
    shelves: Mutex<HashMap<M::Id, Arc<Shelf>>>,
    most: usize,
    age: Duration,
    swept: AtomicBool,
}

impl<M: Member> Pool<M> {
    pub(super) fn new(most: usize, age: Duration) -> Self {
        Self { shelves: Mutex::default(), most, age, swept: AtomicBool::new(false) }
    }

    /// Returns the shelf of a member.
    pub(super) fn shelf(self: &Arc<Self>, member: M::Id) -> Arc<Shelf> {
        if !self.swept.swap(true, Ordering::Relaxed) {
            tokio::spawn(sweep(Arc::downgrade(self), self.age));
        }
        let mut shelves = self.shelves.lock();
        let shelf = shelves.entry(member).or_insert_with(|| Arc::new(Shelf::new(self.most)));
        Arc::clone(shelf)
    }

    /// Closes what waits of a member and is given nothing back: it takes no more requests.
    pub(super) fn forget(&self, member: M::Id) {
        drop(self.shelves.lock().remove(&member));
    }

    /// Returns the connections that wait.
    pub(super) fn idle(&self) -> usize {
        self.shelves.lock().values().map(|shelf| shelf.idle.lock().len()).sum()
    }

    fn tidy(&self, now: Instant) {
        self.shelves.lock().retain(|_, shelf| {
            let mut idle = shelf.idle.lock();
            idle.retain(|idle| !idle.sender.is_closed() && now.duration_since(idle.since) < self.age);
            let mut shared = shelf.shared.lock();
            shared.retain(|shared| {
                !shared.sender.is_closed()
                    && (shared.active.load(Ordering::Relaxed) > 0 || now.duration_since(*shared.used.lock()) < self.age)
            });
            !idle.is_empty() || !shared.is_empty() || Arc::strong_count(shelf) > 1
        });
    }
}

/// Closes what was idle for too long and forgets members that are gone.
async fn sweep<M: Member>(pool: Weak<Pool<M>>, age: Duration) {
    let pause = (age / 4).max(Duration::from_millis(100));
    loop {
        tokio::time::sleep(pause).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.tidy(Instant::now());
    }
}

/// The connections of one member.
#[derive(Debug)]
pub(super) struct Shelf {
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Vec<Shared>>,
    most: usize,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<RequestBody>,
    fate: Arc<Fate>,
    since: Instant,
}

#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    fate: Arc<Fate>,
    active: Arc<AtomicUsize>,
    used: Arc<Mutex<Instant>>,
}

/// A connection that a request can be sent on.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: Sender,
    pub(super) fate: Arc<Fate>,
    /// It has carried a request before: it may have died unseen.
    pub(super) used: bool,
}

/// The sending side of a connection.
#[derive(Debug)]
pub(super) enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2 { sender: http2::SendRequest<RequestBody>, _place: Place },
}

/// A request's place on a shared connection.
#[derive(Debug)]
pub(super) struct Place {
    active: Arc<AtomicUsize>,
    used: Arc<Mutex<Instant>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.used.lock() = Instant::now();
        self.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Gives a connection back when its answer has been read to the end.
#[derive(Debug)]
pub(super) struct Return {
    shelf: Arc<Shelf>,
    sender: Sender,
    fate: Arc<Fate>,
}

impl Return {
    pub(super) fn new(shelf: Arc<Shelf>, connection: Connection) -> Self {
        Self { shelf, sender: connection.sender, fate: connection.fate }
    }

    pub(super) fn give(self) {
        let Sender::Http1(sender) = self.sender else { return };
        self.fate.settle();
        if sender.is_closed() {
            return;
        }
        let mut idle = self.shelf.idle.lock();
        if idle.len() < self.shelf.most {
            idle.push(Idle { sender, fate: self.fate, since: Instant::now() });
        }
    }
}

impl Shelf {
    fn new(most: usize) -> Self {
        Self { idle: Mutex::default(), shared: Mutex::default(), most }
    }

    /// Takes the connection that was used last, so that those beyond need grow old.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            if idle[at].sender.is_closed() {
                idle.remove(at);
            } else if idle[at].sender.is_ready() {
                let Idle { sender, fate, .. } = idle.remove(at);
                return Some(Connection { sender: Sender::Http1(sender), fate, used: true });
            }
        }
        None
    }

    /// Takes a place on a shared connection that has room.
    pub(super) fn share(&self) -> Option<Connection> {
        let mut shared = self.shared.lock();
        shared.retain(|shared| !shared.sender.is_closed());
        let roomy = |shared: &&Shared| shared.active.load(Ordering::Relaxed) < MAX_SHARED;
        let shared = shared.iter().find(roomy)?;
        Some(shared.place(true))
    }

    /// Makes a connection that carries one request after the other.
    pub(super) async fn connect<Io: Upstream>(io: Io, limits: &HttpLimits) -> io::Result<Connection> {
        let (link, fate) = Link::new(io);
        let mut builder = http1::Builder::new();
        builder.max_buf_size(limits.answer_size.max(MIN_BUFFER));
        if limits.answer_fields != HYPER_FIELDS {
            builder.max_headers(limits.answer_fields);
        }
        let (sender, connection) = builder.handshake(TokioIo::new(link)).await.map_err(io::Error::other)?;
        tokio::spawn(connection.with_upgrades());
        Ok(Connection { sender: Sender::Http1(sender), fate, used: false })
    }

    /// Makes a connection that carries many requests at once, and keeps it.
    pub(super) async fn connect_shared<Io: Upstream>(&self, io: Io, limits: &HttpLimits) -> io::Result<Connection> {
        let (link, fate) = Link::new(io);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * 4)
            .max_header_list_size(u32::try_from(limits.answer_size).unwrap_or(u32::MAX))
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(limits.ping_interval)
            .keep_alive_timeout(limits.upstream_ping_timeout);
        let (sender, connection) = builder.handshake(TokioIo::new(link)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let used = Arc::new(Mutex::new(Instant::now()));
        let shared = Shared { sender, fate, active: Arc::default(), used };
        let connection = shared.place(false);
        self.shared.lock().push(shared);
        Ok(connection)
    }
}

impl Shared {
    fn place(&self, used: bool) -> Connection {
        self.active.fetch_add(1, Ordering::Relaxed);
        let place = Place { active: Arc::clone(&self.active), used: Arc::clone(&self.used) };
        Connection {
            sender: Sender::Http2 { sender: self.sender.clone(), _place: place },
            fate: Arc::clone(&self.fate),
            used,
        }
    }
}

/// Requests at once on a shared connection, before another one is made.
const MAX_SHARED: usize = 100;
const MIN_BUFFER: usize = 64 << 10;
const WINDOW: u32 = 256 << 10;
const SEND_BUFFER: usize = 64 << 10;
/// The fields that hyper reads without allocating for them.
pub(super) const HYPER_FIELDS: usize = 100;
