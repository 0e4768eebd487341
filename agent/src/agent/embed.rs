//! An agent beside a program that has another runtime, or none.

use core::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use std::{io, thread};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{Agent, Outcome};
use crate::errors::Fault;

/// An agent that runs on a thread and a runtime of its own; the outcome can be awaited on any executor.
///
/// Dropped, it ends at once and connections are cut.
#[must_use = "dropped, the agent ends"]
pub struct Detached {
    outcome: oneshot::Receiver<Outcome>,
    shutdown: Option<oneshot::Sender<()>>,
    _alive: oneshot::Sender<Infallible>,
}

impl Agent {
    /// Starts the agent on a thread of its own, for a program whose executor is not tokio: smol's, or none.
    ///
    /// # Errors
    /// What the operating system says when there is no thread or no descriptor left.
    pub fn detach(self) -> io::Result<Detached> {
        let (tell, outcome) = oneshot::channel();
        let (shutdown, asked) = oneshot::channel();
        let (alive, gone) = oneshot::channel::<Infallible>();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("adit-agent".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    outcome = self.run(async { drop(asked.await) }) => drop(tell.send(outcome)),
                    _ = gone => {} // nobody is left who could want anything of it
                }
                say_goodbye().await;
            });
            runtime.shutdown_background(); // a resolver that hangs does not hold the thread
        })?;
        Ok(Detached { outcome, shutdown: Some(shutdown), _alive: alive })
    }
}

/// Lets the tasks of sessions tell the network before their runtime goes.
async fn say_goodbye() {
    let (metrics, deadline) = (Handle::current().metrics(), Instant::now() + GOODBYE);
    while metrics.num_alive_tasks() > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(5)).await;
    }
}

impl Detached {
    /// Asks the agent to end: open connections may finish for as long as its configuration says. Again it does nothing.
    pub fn shutdown(&mut self) {
        if let Some(shutdown) = self.shutdown.take() {
            let _ = shutdown.send(()); // it may have ended
        }
    }
}

impl Future for Detached {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let outcome = ready!(Pin::new(&mut self.outcome).poll(cx));
        // No outcome: the thread panicked, and the hook has told.
        Poll::Ready(outcome.unwrap_or_else(|_| Outcome::Failed(Fault::Internal.into())))
    }
}

impl fmt::Debug for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached").finish_non_exhaustive()
    }
}

/// How long that may take.
const GOODBYE: Duration = Duration::from_secs(1);
