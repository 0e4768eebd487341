//! A log that is written to: what the rest of the agent holds.

use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc as threads},
    time::Instant,
};

use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    Draft, Hasher, OnFailure, Record, Settings,
    store::{OpenError, Store},
    writer::{Desk, run},
};
use crate::errors::{Error, Fault};

/// A log that a thread of its own writes. Whoever has it may drop it: the thread ends with the last.
#[derive(Clone)]
pub(crate) struct Log(Arc<Shared>);

struct Shared {
    queue: mpsc::Sender<Item>,
    state: Arc<State>,
    folder: PathBuf,
}

/// What the thread and the others both know.
#[derive(Debug)]
pub(super) struct State {
    settings: Mutex<Settings>,
    lost: AtomicU64,
    /// Why nothing is written at this moment.
    trouble: Mutex<Option<String>>,
}

/// What goes to the thread.
pub(super) enum Item {
    /// A record, and who waits until it is written.
    Record(Record, Option<oneshot::Sender<Result<u64, String>>>),
    /// What the policy says now.
    Settings(Settings),
    /// The last: the agent ends in order.
    Close(threads::SyncSender<()>),
}

impl Log {
    /// Opens a log, repairs its end, and writes that the agent begins.
    ///
    /// # Errors
    /// [`Fault::AuditUnwritable`], [`Fault::AuditBroken`].
    pub(crate) fn open(folder: &Path, settings: Settings, hasher: Hasher) -> Result<Self, Error> {
        let unwritable = |error: std::io::Error| Error::new(Fault::AuditUnwritable, error.to_string());
        let (store, found) = Store::open(folder, settings.clone(), hasher).map_err(|error| match error {
            OpenError::Io(error) => unwritable(error),
            OpenError::Broken(broken) => Error::new(Fault::AuditBroken, broken.to_string()),
        })?;
        let folder = store.folder().to_owned();
        let state = Arc::new(State::new(settings));
        let mut desk = Desk::new(store, Arc::clone(&state));
        let mut first = vec![Draft::start(found.in_order)];
        if found.in_order.is_none() {
            tracing::info!(folder = %folder.display(), "audit log: no record was there, a chain is begun");
        }
        if let Some((octets, sha256)) = found.repaired {
            tracing::warn!(folder = %folder.display(), octets, "audit log: a record that was never finished is removed");
            first.push(Record::new("repaired").number("octets", octets).text("sha256", &sha256));
        }
        desk.begin(&first).map_err(unwritable)?;
        let (queue, items) = mpsc::channel(QUEUE);
        let runtime = Builder::new_current_thread().enable_time().build().map_err(unwritable)?;
        let thread = std::thread::Builder::new().name("adit-audit".into());
        thread.spawn(move || runtime.block_on(run(desk, items))).map_err(unwritable)?;
        Ok(Self(Arc::new(Shared { queue, state, folder })))
    }

    /// Writes a record, some time. Where the disk is so slow that there is no room for it, it is lost, and counted in the log.
    pub(crate) fn note(&self, record: Record) {
        if self.0.queue.try_send(Item::Record(record, None)).is_err() {
            self.0.state.lose(1);
        }
    }

    /// Writes a record, once there is room for it.
    pub(crate) async fn put(&self, record: Record) {
        if timeout(PATIENCE, self.0.queue.send(Item::Record(record, None))).await.is_err() {
            self.0.state.lose(1);
        }
    }

    /// Writes a record and returns its number once it survives the end of the process. Dropped before, it may be written all the same.
    ///
    /// # Errors
    /// Why it is not written, or that it takes too long.
    pub(crate) async fn written(&self, record: Record) -> Result<u64, String> {
        let (done, answer) = oneshot::channel();
        let write = async {
            let gone = || "its thread is gone".to_owned();
            self.0.queue.send(Item::Record(record, Some(done))).await.map_err(|_| gone())?;
            answer.await.unwrap_or_else(|_| Err(gone()))
        };
        timeout(PATIENCE, write).await.unwrap_or_else(|_| {
            let why = format!("{}: nothing was written for {PATIENCE:?}", self.0.folder.display());
            self.0.state.trouble().get_or_insert_with(|| why.clone());
            Err(why)
        })
    }

    /// Goes on as another policy says.
    pub(crate) fn set(&self, settings: Settings) {
        self.0.state.settings().clone_from(&settings);
        let _ = self.0.queue.try_send(Item::Settings(settings)); // a full queue keeps the sizes of before
    }

    /// Writes that the agent ends in order, and waits for the disk, for a few seconds at most. Blocks: not for tasks.
    pub(crate) fn close(&self) {
        let (done, closed) = threads::sync_channel(1);
        let (mut item, deadline) = (Item::Close(done), Instant::now() + CLOSING);
        while let Err(mpsc::error::TrySendError::Full(back)) = self.0.queue.try_send(item) {
            if deadline <= Instant::now() {
                return;
            }
            item = back;
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = closed.recv_timeout(CLOSING); // a disk that hangs does not hold the process
    }

    /// Returns why nothing is written at this moment, if that is so.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.0.state.trouble().clone()
    }

    /// Returns whether a connection without its record is refused.
    pub(crate) fn refuses(&self) -> bool {
        self.0.state.settings().on_failure == OnFailure::Refuse
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0.folder
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("folder", &self.0.folder).finish_non_exhaustive()
    }
}

impl State {
    pub(super) const fn new(settings: Settings) -> Self {
        Self { settings: Mutex::new(settings), lost: AtomicU64::new(0), trouble: Mutex::new(None) }
    }

    pub(super) fn settings(&self) -> std::sync::MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn trouble(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts records that are not written.
    pub(super) fn lose(&self, records: u64) {
        self.lost.fetch_add(records, Ordering::Relaxed);
    }

    /// Takes the count.
    pub(super) fn lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

/// Records that wait for the thread; more wait for room.
const QUEUE: usize = 4_096;
/// How long a connection waits for its record.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the end of the process waits for the disk.
const CLOSING: Duration = Duration::from_secs(5);

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn hasher() -> Hasher {
        Hasher::of(&rustls::crypto::aws_lc_rs::default_provider()).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_written_has_its_number_and_survives_and_the_next_agent_knows_how_this_one_ended() {
        let folder = crate::testing::folder("log").join("audit");
        let log = Log::open(&folder, Settings::default(), hasher()).unwrap();
        log.note(Record::new("session"));
        assert_eq!(log.written(Record::new("connection")).await, Ok(3));
        log.put(Record::new("end")).await;
        let closing = log.clone();
        tokio::task::spawn_blocking(move || closing.close()).await.unwrap();
        assert!(log.written(Record::new("connection")).await.is_err(), "it is over");
        drop(log);

        let mut reader = super::super::Reader::open(&folder, hasher(), 0, &[]).unwrap();
        let mut kinds = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            kinds.push(record.kind.to_owned());
        }
        assert_eq!(kinds, ["start", "session", "connection", "end", "stop"]);
        let log = Log::open(&folder, Settings::default(), hasher()).unwrap();
        assert_eq!(log.folder(), folder, "the lock went with the thread");
        let record = reader.next().unwrap().unwrap();
        assert!(record.text.contains("\"ended_in_order\":true"), "{}", record.text);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told_with_its_code() {
        let file = crate::testing::folder("log-place").join("file");
        std::fs::write(&file, "").unwrap();

        let error = Log::open(&file.join("audit"), Settings::default(), hasher()).unwrap_err();

        assert_eq!(error.fault, Fault::AuditUnwritable);
        assert!(error.detail.contains("file/audit"), "{}", error.detail);
    }
}
