//! Writes documents, and sees when somebody else changes what is kept: the agent itself waits for no disk.

use core::time::Duration;

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
    wishes: mpsc::Sender<Option<Kept>>,
    news: mpsc::Receiver<News>,
}

/// What a keeper tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// What was to be written is, or why not.
    Written(Result<(), String>),
    /// Somebody else has changed or removed what is kept.
    Changed(Result<Option<Document>, String>),
}

/// The keeper itself.
#[derive(Debug)]
pub(crate) struct Keeping {
    file: RemoteFile,
    wishes: mpsc::Receiver<Option<Kept>>,
    news: mpsc::Sender<News>,
    seen: Seen,
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
        let seen = Seen::As(file.stamp()); // before it is read: what changes meanwhile is read again
        let found = file.load();
        let ((wishes, wanted), (tell, news)) = (mpsc::channel(1), mpsc::channel(1));
        let keeping = Keeping { file: file.clone(), wishes: wanted, news: tell, seen };
        (found, Self { file, wishes, news }, keeping)
    }

    /// Asks for a document to be written, or for what is kept to be removed; returns whether somebody will.
    pub(crate) fn ask(&self, kept: Option<Kept>) -> bool {
        self.wishes.try_send(kept).is_ok()
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
                    Some(kept) => self.write(kept).await,
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

    async fn write(&mut self, kept: Option<Kept>) -> Option<News> {
        let (file, wanted) = (self.file.clone(), kept.is_some());
        let written = spawn_blocking(move || (file.write(kept.as_ref()), file.stamp())).await;
        let Ok((written, stamp)) = written else { return Some(News::Written(Err("it failed".to_owned()))) };
        if written.is_ok() {
            self.seen = if stamp.is_some() == wanted { Seen::As(stamp) } else { Seen::Otherwise };
        }
        Some(News::Written(written.map_err(|error| format!("{}: {error}", self.file.path().display()))))
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

        assert!(desk.ask(Some(kept.clone())));
        assert_eq!(desk.next().await, Some(News::Written(Ok(()))));
        assert_eq!(desk.file.load().unwrap().unwrap().kept, kept);

        std::fs::remove_file(desk.file.path()).unwrap();
        assert_eq!(desk.next().await, Some(News::Changed(Ok(None))));
        std::fs::write(desk.file.path(), "x").unwrap();
        assert!(matches!(desk.next().await, Some(News::Changed(Err(_)))));
        drop(desk);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_told() {
        let file = file("remote-unwritable");
        std::fs::write(file.path().parent().unwrap(), "in the way").unwrap();
        let (_, mut desk, keeping) = Desk::open(file);
        tokio::spawn(keeping.run());

        assert!(desk.ask(Some(desk.file.kept(String::new(), String::new()))));

        assert!(matches!(desk.next().await, Some(News::Written(Err(_)))));
    }
}
