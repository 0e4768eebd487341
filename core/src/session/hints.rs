//! What an agent's configuration names and the agent does not ask for: hints, of each endpoint the last one (BIND-021).

use alloc::{
    collections::{BTreeMap, VecDeque},
    string::String,
};

use super::{BindError, Session};
use crate::{Code, Side, Violation, Withheld, frame::Kind, side};

/// The endpoints that are withheld, on either side. What the application has not heard is replaced and not queued, so that as many hints
/// are kept as there may be endpoints, however fast they change.
#[derive(Debug, Default)]
pub(super) struct Hints {
    entries: BTreeMap<String, Entry>,
    /// Those with news, each once, in order.
    fresh: VecDeque<String>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Whether the application knows of it.
    told: bool,
    /// What the application is to be told; of a code of zero, and then the entry goes.
    news: Option<Withheld>,
}

impl Hints {
    /// Returns the next news.
    pub(super) fn poll(&mut self) -> Option<Withheld> {
        let url = self.fresh.pop_front()?;
        let entry = self.entries.get_mut(&url)?;
        let news = entry.news.take()?;
        entry.told = true;
        if news.code == Code::NO_ERROR {
            self.entries.remove(&url);
        }
        Some(news)
    }

    #[cfg(feature = "driver")]
    pub(super) fn has_news(&self) -> bool {
        !self.fresh.is_empty()
    }

    #[cfg(feature = "testing")]
    pub(super) fn held(&self) -> usize {
        let news = |entry: &Entry| entry.news.as_ref().map_or(0, |news| news.url.capacity() + news.text.capacity());
        let entries =
            self.entries.iter().map(|(url, entry)| size_of::<(String, Entry)>() + url.capacity() + news(entry));
        let fresh =
            self.fresh.iter().map(String::capacity).sum::<usize>() + self.fresh.capacity() * size_of::<String>();
        entries.sum::<usize>() + fresh
    }

    /// Takes note, on an agent, that an endpoint is withheld no more; returns whether it was.
    pub(super) fn drop(&mut self, url: &str) -> bool {
        self.entries.remove(url).is_some()
    }

    /// Takes back what was said of an endpoint; returns whether there was anything, and whether the application had heard it.
    pub(super) fn take_back(&mut self, url: &str) -> TakenBack {
        let Some(entry) = self.entries.get_mut(url) else { return TakenBack::Nothing };
        if !entry.told {
            self.entries.remove(url);
            self.fresh.retain(|other| other != url);
            return TakenBack::Unheard;
        }
        match entry.news.replace(Withheld::taken_back(url)) {
            Some(news) if news.code == Code::NO_ERROR => TakenBack::Nothing,
            Some(_) => TakenBack::Unheard,
            None => {
                self.fresh.push_back(url.into());
                TakenBack::Heard
            }
        }
    }

    /// Takes what is said of an endpoint; returns whether something goes that the application has not heard, or nothing where there are
    /// `most` already.
    fn insert(&mut self, withheld: Withheld, most: usize) -> Option<bool> {
        let is_known = self.entries.contains_key(&withheld.url);
        if !is_known && (withheld.url.is_empty() || self.entries.len() >= most) {
            return None;
        }
        let url = withheld.url.clone();
        let replaced = self.entries.entry(url.clone()).or_default().news.replace(withheld).is_some();
        if !replaced {
            self.fresh.push_back(url);
        }
        Some(replaced)
    }
}

/// What became of a hint that is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TakenBack {
    /// The application will be told.
    Heard,
    /// The application had not heard the last one.
    Unheard,
    /// Nothing was withheld.
    Nothing,
}

impl Session<side::Agent> {
    /// Says of an endpoint why it is not asked for, or with [`Code::NO_ERROR`] that this is over: a hint for those who run the
    /// network. That does nothing where nothing was said before.
    ///
    /// # Errors
    /// [`BindError::Limit`] when as many are withheld as a session may have binds, [`BindError::Ending`] at its end: nothing was said.
    pub fn withhold(&mut self, withheld: &Withheld) -> Result<(), BindError> {
        if self.over.is_some() || self.is_draining() {
            return Err(BindError::Ending);
        }
        let (hints, most) = (&mut self.control.hints, self.config.binds as usize);
        if withheld.code == Code::NO_ERROR {
            if !hints.drop(&withheld.url) {
                return Ok(());
            }
        } else if hints.entries.len() >= most && !hints.entries.contains_key(&withheld.url) {
            return Err(BindError::Limit); // spec: BIND-023
        } else {
            hints.entries.insert(withheld.url.clone(), Entry::default());
        }
        self.control.send(Kind::Withheld, withheld);
        Ok(())
    }
}

impl<S: Side> Session<S> {
    pub(super) fn on_withheld(&mut self, withheld: Withheld) -> Result<(), Violation> {
        let hints = &mut self.control.hints;
        let is_odd = if withheld.code == Code::NO_ERROR {
            hints.take_back(&withheld.url) != TakenBack::Heard
        } else {
            hints.insert(withheld, self.config.binds as usize) != Some(false)
        };
        if is_odd { self.charge_oddity() } else { Ok(()) } // spec: BIND-023
    }
}
