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
    policy::Reason,
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
    /// When the file was looked at last, whether it is there.
    looked: Instant,
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
        let received = timeout_at(desk.wake().into(), more).await.ok();
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
        let now = Instant::now();
        Self { store, state, start: now, held: Vec::new(), trouble: None, unsynced: None, looked: now }
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
                // Who has waited too long was refused: there is no connection.
                Item::Record(_, Some(done)) if done.is_closed() && self.refuses() => {}
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
        if self.looked + LOOK <= Instant::now() {
            self.look();
        }
        closing
    }

    /// Makes sure that the file is there although nothing is written.
    fn look(&mut self) {
        self.looked = Instant::now();
        if self.trouble.is_some() {
            return; // it is looked at when it is tried again
        }
        match self.store.check() {
            Ok(()) => *self.state.trouble() = None, // who waited in vain for a slow disk has said so
            Err(error) => self.fail(&error),
        }
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
                    for (at, done) in waiting {
                        let _ = done.send(Err(why.clone())); // who waited may be gone
                        self.hold(all.get(ahead + at).map(|record| never(record, first + (ahead + at) as u64)));
                    }
                    return;
                }
                *self.state.trouble() = None;
                if let Some(trouble) = self.trouble.take() {
                    tracing::warn!(connections = trouble.unrecorded, "audit log is written again");
                }
                let mut late = Vec::new();
                for (at, done) in waiting {
                    let number = first + (ahead + at) as u64;
                    if done.send(Ok(number)).is_err() && self.refuses() {
                        late.extend(all.get(ahead + at).map(|record| never(record, number)));
                    }
                }
                if !late.is_empty() {
                    self.write(late, Vec::new());
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
        let refuses = self.refuses();
        let Some(trouble) = &mut self.trouble else { return };
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

    /// Keeps the end of a connection that was refused because its record was not written well.
    fn hold(&mut self, record: Option<Record>) {
        let Some(record) = record.filter(|_| self.refuses()) else { return };
        if self.held.len() < HELD {
            self.held.push(record);
        } else {
            self.state.lose(1);
        }
    }

    fn refuses(&self) -> bool {
        self.store.settings().on_failure == OnFailure::Refuse
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
        *self.state.trouble() = Some(why.clone());
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
    fn wake(&self) -> Instant {
        let retry = self.trouble.as_ref().map(|trouble| trouble.retry);
        let sync = self.unsynced.map(|since| since + SYNC);
        [retry, sync].into_iter().flatten().fold(self.looked + LOOK, Instant::min)
    }

    fn stamp(&self) -> Stamp {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let wall = micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        Stamp { wall, passed: micros(self.start.elapsed()).saturating_add(1) }
    }
}

/// Returns what is said of a connection that has a record and was refused all the same.
fn never(record: &Record, number: u64) -> Record {
    let end = Record::new("end").maybe("endpoint", record.word("endpoint")).number("begin", number);
    let end = end.text("ending", "not carried").text("detail", "its record was not written in time");
    let end = end.text("decision", "refused").text("reason", Reason::Audit.word());
    end.maybe("policy", record.word("policy"))
}

/// So many records are written together at most.
const BATCH: usize = 512;
/// So many are kept while nothing can be written.
const HELD: usize = 16_384;
/// How long what was written waits for the disk to be asked, unless each is.
const SYNC: Duration = Duration::from_secs(1);
/// How often is looked whether the file is there.
const LOOK: Duration = Duration::from_secs(1);
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
        let mut reader = Reader::open(folder, hasher, 0, &[]).unwrap();
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
        assert!(desk.unsynced.is_some(), "the disk is asked to keep it");
        assert!(desk.sync() && desk.unsynced.is_none());
    }

    /// A record of a connection, and who waits for it no longer.
    fn late() -> (Record, oneshot::Sender<Result<u64, String>>) {
        let (done, answer) = oneshot::channel();
        drop(answer);
        (Record::new("connection").text("endpoint", "crm"), done)
    }

    #[test]
    fn who_waits_no_longer_has_no_record_or_one_that_says_that_it_was_not_carried() {
        for (on_failure, queued, written) in [
            (OnFailure::Refuse, &[][..], &["connection", "end"][..]),
            (OnFailure::Continue, &["connection"], &["connection", "connection"]),
        ] {
            let folder = crate::testing::folder(&format!("desk-late-{on_failure:?}")).join("audit");
            let mut desk = desk(&folder, on_failure);

            let (record, done) = late();
            desk.handle(&mut vec![Item::Record(record, Some(done))]);
            assert_eq!(kinds(&folder), queued, "it was not written yet");

            let (record, done) = late();
            desk.write(vec![record], vec![(0, done)]); // it waits no longer while this is written
            assert_eq!(kinds(&folder), written);
        }
    }

    #[test]
    fn a_file_that_is_gone_or_changed_while_nothing_is_written_is_told_and_nothing_is_carried() {
        let folder = crate::testing::folder("desk-gone").join("audit");
        let mut desk = desk(&folder, OnFailure::Refuse);
        hand(&mut desk).unwrap();
        let (path, elsewhere) = (folder.join("audit-00000000000000000001.jsonl"), folder.join("elsewhere"));
        let look = |desk: &mut Desk| {
            desk.looked = desk.looked.checked_sub(LOOK).unwrap();
            desk.handle(&mut Vec::new());
            desk.state.trouble().clone()
        };
        assert_eq!(look(&mut desk), None);

        std::fs::rename(&path, &elsewhere).unwrap();
        assert!(look(&mut desk).unwrap().contains("removed or moved away"));
        assert!(hand(&mut desk).unwrap_err().contains("removed or moved away"));
        // Put back, it is gone on with.
        std::fs::rename(&elsewhere, &path).unwrap();
        desk.trouble.as_mut().unwrap().retry = Instant::now();
        hand(&mut desk).unwrap();
        assert_eq!(look(&mut desk), None);
        assert_eq!(kinds(&folder), ["end", "connection", "resumed", "end", "end", "connection"]);

        std::fs::copy(&path, &elsewhere).unwrap();
        std::fs::rename(&elsewhere, &path).unwrap();
        assert!(look(&mut desk).unwrap().contains("another file"));
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
