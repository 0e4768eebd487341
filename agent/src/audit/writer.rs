//! The thread that writes: what has come meanwhile is written at once, and the disk is asked to keep it once for all.

use core::time::Duration;
use std::{
    io,
    sync::{Arc, mpsc as threads},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout_at,
};

use super::{
    OnFailure, Record, Stamp, SyncWhen,
    log::{Item, State},
    store::Store,
};
use crate::{
    clock,
    errors::{Error, Fault},
};

/// What the thread holds.
pub(super) struct Desk {
    store: Store,
    state: Arc<State>,
    start: Instant,
    /// Records that could not be written, which are not those of connections that were refused for it.
    held: Vec<Record>,
    trouble: Option<Trouble>,
    /// When something was written that the disk was not asked to keep yet.
    unsynced: Option<Instant>,
}

/// Nothing can be written.
struct Trouble {
    /// In microseconds since 1970.
    since: u64,
    why: String,
    /// Connections that had no record.
    unrecorded: u64,
    retry: Instant,
    told: Instant,
}

/// Who waits for a record: its place among those that were taken together.
type Waiting = (usize, oneshot::Sender<Result<u64, String>>);

/// Writes until there is nobody left who could want it.
pub(super) async fn run(mut desk: Desk, mut queue: mpsc::Receiver<Item>) {
    let mut items = Vec::new();
    loop {
        let more = queue.recv_many(&mut items, BATCH);
        let received = match desk.wake() {
            Some(at) => timeout_at(at.into(), more).await.ok(),
            None => Some(more.await),
        };
        let closing = desk.handle(&mut items);
        if received == Some(0) || closing.is_some() {
            desk.sync();
            drop(desk); // the folder is free before anybody hears of it
            if let Some(closing) = closing {
                let _ = closing.send(()); // who closed it may not wait any more
            }
            return;
        }
    }
}

impl Desk {
    pub(super) fn new(store: Store, state: Arc<State>) -> Self {
        Self { store, state, start: Instant::now(), held: Vec::new(), trouble: None, unsynced: None }
    }

    /// Writes the first records.
    pub(super) fn begin(&mut self, records: &[Record]) -> io::Result<()> {
        self.store.append(records, self.stamp())?;
        self.store.sync()
    }

    /// Takes what has come; returns who waits for the end.
    fn handle(&mut self, items: &mut Vec<Item>) -> Option<threads::SyncSender<()>> {
        let (mut records, mut waiting, mut closing) = (Vec::new(), Vec::new(), None);
        for item in items.drain(..) {
            match item {
                Item::Record(record, done) => {
                    waiting.extend(done.map(|done| (records.len(), done)));
                    records.push(record);
                }
                Item::Settings(settings) => self.store.set(settings),
                Item::Close(done) => {
                    records.push(Record::new("stop"));
                    closing = Some(done);
                }
            }
        }
        let now = Instant::now();
        match &self.trouble {
            Some(trouble) if now < trouble.retry && closing.is_none() => self.put_off(records, waiting),
            Some(_) | None => self.write(records, waiting),
        }
        if self.unsynced.is_some_and(|since| since + SYNC <= Instant::now()) {
            self.sync();
        }
        closing
    }

    fn write(&mut self, records: Vec<Record>, waiting: Vec<Waiting>) {
        let mut all = Vec::new();
        if let Some(trouble) = &self.trouble {
            let record = Record::new("resumed").text("since", &clock::precise(trouble.since));
            all.push(record.text("why", &trouble.why).number("connections", trouble.unrecorded));
        }
        let lost = self.state.lost();
        if lost > 0 {
            all.push(Record::new("lost").number("records", lost));
        }
        let own = all.len();
        all.append(&mut self.held);
        let ahead = all.len();
        all.extend(records);
        if all.is_empty() {
            return;
        }
        match self.store.append(&all, self.stamp()) {
            Ok(first) => {
                self.unsynced.get_or_insert_with(Instant::now);
                if self.store.settings().sync == SyncWhen::Each && !self.sync() {
                    let why = self.trouble.as_ref().map(|trouble| trouble.why.clone()).unwrap_or_default();
                    waiting.into_iter().for_each(|(_, done)| drop(done.send(Err(why.clone()))));
                    return;
                }
                if let Some(trouble) = self.trouble.take() {
                    tracing::warn!(connections = trouble.unrecorded, "audit log is written again");
                }
                for (at, done) in waiting {
                    let _ = done.send(Ok(first + (ahead + at) as u64)); // whoever waited may be gone
                }
            }
            Err(error) => {
                self.state.lose(lost);
                let records = all.split_off(ahead);
                self.held = all.split_off(own);
                self.fail(&error);
                self.put_off(records, waiting);
            }
        }
    }

    /// Tells who waits that nothing is written, and keeps what is not theirs.
    fn put_off(&mut self, records: Vec<Record>, waiting: Vec<Waiting>) {
        let Some(trouble) = &mut self.trouble else { return };
        let refuses = self.store.settings().on_failure == OnFailure::Refuse;
        let mut theirs = waiting.iter().map(|(at, _)| *at).peekable();
        for (at, record) in records.into_iter().enumerate() {
            let is_theirs = theirs.next_if_eq(&at).is_some();
            trouble.unrecorded += u64::from(is_theirs);
            if is_theirs && refuses {
                continue; // there is no connection
            }
            if self.held.len() < HELD {
                self.held.push(record);
            } else {
                self.state.lose(1);
            }
        }
        for (_, done) in waiting {
            let _ = done.send(Err(trouble.why.clone())); // whoever waited may be gone
        }
    }

    /// Asks the disk to keep what was written; returns whether it does.
    fn sync(&mut self) -> bool {
        if self.unsynced.is_none() {
            return true;
        }
        match self.store.sync() {
            Ok(()) => {
                self.unsynced = None;
                true
            }
            Err(error) => {
                self.unsynced = Some(Instant::now());
                self.fail(&error);
                false
            }
        }
    }

    fn fail(&mut self, error: &io::Error) {
        let (now, since) = (Instant::now(), self.stamp().wall);
        let why = format!("{}: {error}", self.store.folder().display());
        let is_new = self.trouble.is_none();
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            since,
            why: String::new(),
            unrecorded: 0,
            retry: now,
            told: now,
        });
        (trouble.why, trouble.retry) = (why.clone(), now + RETRY);
        if is_new || trouble.told + TELL <= now {
            trouble.told = now;
            let error = Error::new(Fault::AuditUnwritable, why);
            let remedy = error.fault.entry().remedy;
            let connections = match self.store.settings().on_failure {
                OnFailure::Refuse => "new ones are refused",
                OnFailure::Continue => "new ones are carried",
            };
            tracing::error!(%error, remedy, connections, "audit log cannot be written");
        }
    }

    /// Returns when there is something to do although nothing comes.
    fn wake(&self) -> Option<Instant> {
        let retry = self.trouble.as_ref().map(|trouble| trouble.retry);
        let sync = self.unsynced.map(|since| since + SYNC);
        [retry, sync].into_iter().flatten().min()
    }

    fn stamp(&self) -> Stamp {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let wall = micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        Stamp { wall, passed: micros(self.start.elapsed()).saturating_add(1) }
    }
}

/// So many records are written together at most.
const BATCH: usize = 512;
/// So many are kept while nothing can be written.
const HELD: usize = 16_384;
/// How long what was written waits for the disk to be asked, unless each is.
const SYNC: Duration = Duration::from_secs(1);
/// How soon it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often it is said that nothing can be written.
const TELL: Duration = Duration::from_secs(60);

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::audit::{Hasher, Reader, Settings};

    fn desk(folder: &Path, on_failure: OnFailure) -> Desk {
        let hasher = Hasher::of(&rustls::crypto::aws_lc_rs::default_provider()).unwrap();
        let settings = Settings { on_failure, ..Settings::default() };
        let (store, _) = Store::open(folder, settings.clone(), hasher).unwrap();
        Desk::new(store, Arc::new(State::new(settings)))
    }

    fn kinds(folder: &Path) -> Vec<String> {
        let hasher = Hasher::of(&rustls::crypto::aws_lc_rs::default_provider()).unwrap();
        let mut reader = Reader::open(folder, hasher, 0, None).unwrap();
        let mut kinds = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            kinds.push(record.kind.to_owned());
        }
        kinds
    }

    /// Hands over a record of a connection, which waits, and one of something else; returns what the connection is told.
    fn hand(desk: &mut Desk) -> Result<u64, String> {
        let (done, mut answer) = oneshot::channel();
        let mut items =
            vec![Item::Record(Record::new("end"), None), Item::Record(Record::new("connection"), Some(done))];
        desk.handle(&mut items);
        answer.try_recv().unwrap_or_else(|error| Err(error.to_string()))
    }

    #[test]
    fn whoever_waits_is_told_the_number_of_its_record() {
        let folder = crate::testing::folder("desk").join("audit");
        let mut desk = desk(&folder, OnFailure::Refuse);

        assert_eq!((hand(&mut desk), hand(&mut desk)), (Ok(2), Ok(4)));
        assert!(desk.wake().is_some(), "the disk is asked to keep it");
        assert!(desk.sync() && desk.wake().is_none());
    }

    #[test]
    fn what_cannot_be_written_is_told_and_what_is_not_of_a_connection_that_was_refused_is_written_later() {
        for (on_failure, later) in [
            (OnFailure::Refuse, &["resumed", "end", "end", "end", "connection"][..]),
            (OnFailure::Continue, &["resumed", "end", "connection", "end", "connection", "end", "connection"]),
        ] {
            let folder = crate::testing::folder(&format!("desk-{on_failure:?}")).join("audit");
            let mut desk = desk(&folder, on_failure);
            desk.store.set_broken(true).unwrap();

            let told = hand(&mut desk).unwrap_err();
            assert!(told.contains(&folder.display().to_string()), "{told}");
            assert_eq!(hand(&mut desk), Err(told), "it is not tried for each");
            assert!(kinds(&folder).is_empty());

            desk.store.set_broken(false).unwrap();
            desk.trouble.as_mut().unwrap().retry = Instant::now();
            hand(&mut desk).unwrap();
            assert_eq!(kinds(&folder), later);
            assert!(desk.trouble.is_none() && desk.held.is_empty());
        }
    }

    #[test]
    fn what_is_lost_is_counted() {
        let folder = crate::testing::folder("desk-lost").join("audit");
        let mut desk = desk(&folder, OnFailure::Refuse);
        desk.state.lose(7);

        hand(&mut desk).unwrap();
        assert_eq!(kinds(&folder), ["lost", "end", "connection"]);
        hand(&mut desk).unwrap();
        assert_eq!(kinds(&folder).len(), 5, "once");
    }
}
