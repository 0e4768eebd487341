//! A runtime of one thread whose time is virtual: it goes on when nothing else can.

use alloc::{boxed::Box, collections::BTreeMap, string::String, sync::Arc, task::Wake, vec::Vec};
use core::{
    cell::RefCell,
    future::{Future, pending},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};
use std::{io, net::UdpSocket, thread_local};

use socket2::SockRef;

use super::{Datagrams, Runtime, Sleep, Stream};
use adit_core::driver::Transport;

#[derive(Clone, Copy, Debug)]
pub(super) struct Virtual;

/// A connection without octets: the address that was dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nothing;

#[derive(Debug)]
pub(super) struct Nap {
    until: Duration,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    static NOW: RefCell<Duration> = const { RefCell::new(Duration::ZERO) };
    static NAPS: RefCell<BTreeMap<Duration, Vec<Waker>>> = const { RefCell::new(BTreeMap::new()) };
    static TASKS: RefCell<Vec<Task>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn now() -> Duration {
    NOW.with_borrow(|now| *now)
}

/// Runs `future` and what it spawns.
pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    loop {
        while woken.0.swap(false, Ordering::Relaxed) {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                TASKS.take();
                return output;
            }
            let mut tasks = TASKS.take();
            if !tasks.is_empty() {
                tasks.retain_mut(|task| task.as_mut().poll(&mut cx).is_pending());
                let spawned = TASKS.take();
                if !spawned.is_empty() {
                    woken.0.store(true, Ordering::Relaxed);
                }
                tasks.extend(spawned);
            }
            TASKS.set(tasks);
        }
        let (due, wakers) = NAPS.with_borrow_mut(BTreeMap::pop_first).expect("something to wait for");
        NOW.with_borrow_mut(|now| *now = due.max(*now));
        wakers.into_iter().for_each(Waker::wake);
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Sleep for Nap {
    fn start(after: Duration) -> Self {
        Self { until: now() + after }
    }

    fn restart(&mut self, after: Duration) {
        *self = Self::start(after);
    }
}

impl Future for Nap {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.until <= now() {
            return Poll::Ready(());
        }
        NAPS.with_borrow_mut(|naps| naps.entry(self.until).or_default().push(cx.waker().clone()));
        Poll::Pending
    }
}

impl Runtime for Virtual {
    type Stream = Stream;
    type Listener = Nothing;
    type Tcp = Nothing;
    type Socket = Nothing;
    type Udp = Nothing;
    type Sleep = Nap;

    fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        TASKS.with_borrow_mut(|tasks| tasks.push(Box::pin(task)));
    }

    async fn resolve(_: String, _: u16) -> io::Result<Vec<SocketAddr>> {
        pending().await
    }

    async fn dial(_: SocketAddr) -> io::Result<Nothing> {
        pending().await
    }

    fn udp(_: UdpSocket) -> io::Result<Nothing> {
        Ok(Nothing)
    }

    fn poll_accept(_: &mut Nothing, _: &mut Context<'_>) -> Poll<io::Result<(Nothing, SocketAddr)>> {
        Poll::Pending
    }

    fn local_addr(_: &Nothing) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn socket(_: &Nothing) -> SockRef<'_> {
        unreachable!("nothing has no socket")
    }
}

impl Datagrams for Nothing {
    fn poll_send(&mut self, _: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(datagram.len()))
    }

    fn poll_recv(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
}

impl Transport for Nothing {
    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, _: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
