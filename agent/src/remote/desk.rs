//! Writes documents, and sees when somebody else changes what is kept: the agent itself waits for no disk.

use core::time::Duration;
use std::io;

use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use super::{Document, Kept, RemoteFile, file::Stamp};

/// What an agent has of its keeper.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) file: RemoteFile,
    wishes: mpsc::Sender<Wish>,
    news: mpsc::Receiver<News>,
    /// The number of the document that was handed over last.
    number: u64,
}

/// What a keeper is asked for.
#[derive(Debug)]
enum Wish {
    /// To write a document down beside what is kept; nothing where all is to be taken back.
    Draft(u64, Option<Kept>),
    /// To keep what was written down last.
    Keep(u64),
    /// To forget it.
    Forget,
}

/// What a keeper tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The document of this number is written down and does not count yet, or why it is not.
    Drafted(u64, Result<(), String>),
    /// It is what is kept, or why not.
    Kept(u64, Result<(), String>),
    /// Somebody else has changed or removed what is kept.
    Changed(Result<Option<Document>, String>),
}

/// The keeper itself.
#[derive(Debug)]
pub(crate) struct Keeping {
    file: RemoteFile,
    wishes: mpsc::Receiver<Wish>,
    news: mpsc::Sender<News>,
    seen: Seen,
    /// Whether a document is to be kept, rather than none.
    wanted: bool,
}

/// What the keeper has seen of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    As(Option<Stamp>),
    /// Somebody else was there between two looks.
    Otherwise,
}

impl Desk {
    /// Returns what is kept, and the two ends of the keeper.
    pub(crate) fn open(file: RemoteFile) -> (Result<Option<Document>, String>, Self, Keeping) {
        file.forget(); // nobody has decided about it, or it was refused
        let seen = Seen::As(file.stamp()); // before it is read: what changes meanwhile is read again
        let found = file.load();
        // What is forgotten is followed by the next at once.
        let ((wishes, asked), (tell, news)) = (mpsc::channel(2), mpsc::channel(1));
        let keeping = Keeping { file: file.clone(), wishes: asked, news: tell, seen, wanted: false };
        (found, Self { file, wishes, news, number: 0 }, keeping)
    }

    /// Asks for a document to be written down, or for nothing to be; returns its number where somebody will. What is kept stays as it is.
    pub(crate) fn draft(&mut self, kept: Option<Kept>) -> Option<u64> {
        self.number += 1;
        self.wishes.try_send(Wish::Draft(self.number, kept)).ok().map(|()| self.number)
    }

    /// Asks for what was written down to be what is kept; returns whether somebody will.
    pub(crate) fn keep(&self, number: u64) -> bool {
        self.wishes.try_send(Wish::Keep(number)).is_ok()
    }

    /// Lets go of what was written down.
    pub(crate) fn forget(&self) {
        let _ = self.wishes.try_send(Wish::Forget); // it counts for nothing, and is gone at the next start at the latest
    }

    /// Waits for news. Cancelled, it loses none.
    pub(crate) async fn next(&mut self) -> Option<News> {
        self.news.recv().await
    }
}

impl Keeping {
    /// Writes and looks until the agent is gone.
    pub(crate) async fn run(mut self) {
        let mut clock = interval(LOOK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let news = tokio::select! {
                wish = self.wishes.recv() => match wish {
                    Some(Wish::Draft(number, kept)) => Some(News::Drafted(number, self.draft(kept).await)),
                    Some(Wish::Keep(number)) => Some(News::Kept(number, self.keep().await)),
                    Some(Wish::Forget) => {
                        self.forget().await;
                        None
                    }
                    None => return,
                },
                _ = clock.tick() => self.look().await,
            };
            if let Some(news) = news
                && self.news.send(news).await.is_err()
            {
                return;
            }
        }
    }

    async fn draft(&mut self, kept: Option<Kept>) -> Result<(), String> {
        self.wanted = kept.is_some();
        let Some(kept) = kept else { return Ok(()) };
        let file = self.file.clone();
        let written = spawn_blocking(move || file.draft(&kept)).await;
        self.told(written.unwrap_or_else(|_| Err(io::ErrorKind::Other.into())))
    }

    async fn keep(&mut self) -> Result<(), String> {
        let (file, wanted) = (self.file.clone(), self.wanted);
        let kept = spawn_blocking(move || (if wanted { file.keep() } else { file.remove() }, file.stamp())).await;
        let (kept, stamp) = kept.unwrap_or_else(|_| (Err(io::ErrorKind::Other.into()), None));
        if kept.is_ok() {
            self.seen = if stamp.is_some() == wanted { Seen::As(stamp) } else { Seen::Otherwise };
        }
        self.told(kept)
    }

    async fn forget(&self) {
        let file = self.file.clone();
        let _ = spawn_blocking(move || file.forget()).await; // nobody reads what is left
    }

    fn told(&self, done: io::Result<()>) -> Result<(), String> {
        done.map_err(|error| format!("{}: {error}", self.file.path().display()))
    }

    async fn look(&mut self) -> Option<News> {
        let file = self.file.clone();
        let stamp = spawn_blocking(move || file.stamp()).await.ok()?;
        if self.seen == Seen::As(stamp) {
            return None;
        }
        self.seen = Seen::As(stamp);
        let file = self.file.clone();
        let found = spawn_blocking(move || file.load()).await.ok()?;
        Some(News::Changed(found))
    }
}

/// How often it is looked whether somebody else has changed what is kept.
const LOOK: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> RemoteFile {
        let state = crate::testing::folder(name);
        RemoteFile::of(&[], &state, &rustls::crypto::aws_lc_rs::default_provider()).unwrap()
    }

    #[tokio::test]
    async fn what_is_written_is_told_and_what_somebody_else_removes_as_well() {
        let (found, mut desk, keeping) = Desk::open(file("remote-desk"));
        let task = tokio::spawn(keeping.run());
        assert_eq!(found, Ok(None));
        let kept = desk.file.kept("version: 1\nendpoints: []\n".to_owned(), String::new());

        let number = desk.draft(Some(kept.clone())).unwrap();
        assert_eq!(desk.next().await, Some(News::Drafted(number, Ok(()))));
        assert_eq!(desk.file.load(), Ok(None), "nobody has decided yet");
        assert!(desk.keep(number));
        assert_eq!(desk.next().await, Some(News::Kept(number, Ok(()))));
        assert_eq!(desk.file.load().unwrap().unwrap().kept, kept);

        std::fs::remove_file(desk.file.path()).unwrap();
        assert_eq!(desk.next().await, Some(News::Changed(Ok(None))));
        std::fs::write(desk.file.path(), "x").unwrap();
        assert!(matches!(desk.next().await, Some(News::Changed(Err(_)))));
        drop(desk);
        task.await.unwrap();
    }

    /// CMD-007: killed at any moment, an agent never has what it has refused, or was about to.
    #[tokio::test]
    async fn what_nobody_has_decided_about_and_what_is_let_go_of_is_never_kept() {
        let file = file("remote-undecided");
        let (_, mut desk, keeping) = Desk::open(file.clone());
        tokio::spawn(keeping.run());
        let document = |said: &str| file.kept("version: 1\nendpoints: []\n".to_owned(), said.to_owned());
        let first = desk.draft(Some(document("first"))).unwrap();
        assert_eq!(desk.next().await, Some(News::Drafted(first, Ok(()))));
        let (found, ..) = Desk::open(file.clone()); // as after a crash
        assert_eq!(found, Ok(None));
        assert!(desk.keep(first));
        assert!(matches!(desk.next().await, Some(News::Kept(number, Err(_))) if number == first), "it is gone");

        let second = desk.draft(Some(document("second"))).unwrap();
        assert_eq!(desk.next().await, Some(News::Drafted(second, Ok(()))));
        desk.forget();
        let third = desk.draft(Some(document("third"))).unwrap();

        assert_eq!(desk.next().await, Some(News::Drafted(third, Ok(()))), "what comes next has its own number");
        assert!(desk.keep(third));
        assert_eq!(desk.next().await, Some(News::Kept(third, Ok(()))));
        assert_eq!(file.load().unwrap().unwrap().kept.said, "third");
        assert_eq!(std::fs::read_dir(file.path().parent().unwrap()).unwrap().count(), 1, "nothing else is left");
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_told() {
        let file = file("remote-unwritable");
        std::fs::write(file.path().parent().unwrap(), "in the way").unwrap();
        let (_, mut desk, keeping) = Desk::open(file);
        tokio::spawn(keeping.run());

        let kept = desk.file.kept(String::new(), String::new());
        let number = desk.draft(Some(kept)).unwrap();

        assert!(matches!(desk.next().await, Some(News::Drafted(told, Err(_))) if told == number));
    }
}
