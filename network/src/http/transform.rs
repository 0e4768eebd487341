//! Bodies that rules change on their way.
//!
//! Nothing is read of a body as long as there is something to hand out, so what pushes back on one side pushes back on the other. What
//! cannot be changed as rules say is broken off on both sides; it is never complete. Trailers stay.

use core::{
    mem,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};
use std::sync::Arc;

use adit_policy::body::{Broken, Pipeline, SLICE};
use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::{Note, exchange::BodyBroken, record::Notes};

/// A body that is changed.
pub(super) struct Change {
    pipeline: Pipeline,
    /// What came and was not taken.
    rest: Bytes,
    /// What is ready.
    ready: Vec<u8>,
    state: State,
    notes: Notes,
    _held: Vec<Held>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Open,
    /// All of it came.
    Ended(Option<HeaderMap>),
    Over,
}

impl core::fmt::Debug for Change {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Change").field("pipeline", &self.pipeline).field("state", &self.state).finish_non_exhaustive()
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, BodyBroken>>>;

impl Change {
    pub(super) fn new(pipeline: Pipeline, held: Vec<Held>, notes: Notes) -> Self {
        let (rest, ready) = (Bytes::new(), Vec::new());
        Self { pipeline, rest, ready, state: State::Open, notes, _held: held }
    }

    /// Returns whether all of it was handed out.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Hands out the next frame, made of those that `poll` gives.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Polled,
    ) -> Polled {
        for _ in 0..TURNS {
            if !self.ready.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(mem::take(&mut self.ready).into()))));
            }
            let done = if !self.rest.is_empty() {
                let slice = self.rest.split_to(self.rest.len().min(SLICE));
                self.pipeline.push(&slice, &mut self.ready)
            } else {
                match mem::replace(&mut self.state, State::Open) {
                    State::Open => {}
                    State::Ended(trailers) => {
                        self.state = State::Over;
                        return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                    }
                    State::Over => {
                        self.state = State::Over;
                        return Poll::Ready(None);
                    }
                }
                match poll(cx) {
                    Poll::Pending => {
                        let paused = self.pipeline.pause(&mut self.ready);
                        if paused.is_ok() && self.ready.is_empty() {
                            return Poll::Pending;
                        }
                        paused
                    }
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => {
                            self.rest = data;
                            Ok(())
                        }
                        Err(frame) => self.end(frame.into_trailers().ok()),
                    },
                    Poll::Ready(None) => self.end(None),
                    Poll::Ready(Some(Err(broken))) => return Poll::Ready(Some(Err(broken))),
                }
            };
            if let Err(broken) = done {
                self.ready.clear();
                self.notes.note(Note::BodyBroken(broken));
                return Poll::Ready(Some(Err(BodyBroken)));
            }
        }
        // A part may take much and give little: others have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Broken> {
        self.state = State::Ended(trailers);
        self.pipeline.finish(&mut self.ready)
    }
}

/// Changes a text that is all there.
pub(super) fn whole(mut pipeline: Pipeline, text: &[u8]) -> Result<Bytes, Broken> {
    let mut made = Vec::new();
    pipeline.push(text, &mut made)?;
    pipeline.finish(&mut made)?;
    Ok(made.into())
}

/// Pieces that are taken before others have their turn.
const TURNS: usize = 32;

/// Counts of bodies that are changed.
#[derive(Debug, Default)]
pub(super) struct Counts {
    replaced: Arc<AtomicUsize>,
    compressed: Arc<AtomicUsize>,
}

/// Counts one more until dropped.
#[derive(Debug)]
pub(super) struct Held(Arc<AtomicUsize>);

impl Counts {
    /// Counts one more body in which is replaced, unless there are `most`.
    pub(super) fn replace(&self, most: usize) -> Option<Held> {
        Held::take(&self.replaced, most)
    }

    /// Counts one more answer that is compressed, unless there are `most`.
    pub(super) fn compress(&self, most: usize) -> Option<Held> {
        Held::take(&self.compressed, most)
    }
}

impl Held {
    fn take(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let more = |now: usize| (now < most).then_some(now + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(count)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use core::task::Waker;
    use std::collections::VecDeque;

    use adit_policy::body::{Pattern, Replacement, Replacer, Stage};
    use parking_lot::Mutex;

    use super::*;

    type Given = VecDeque<Polled>;

    fn change(from: &str, to: &str) -> (Change, Arc<Mutex<Vec<Note>>>) {
        let replacement = Replacement::new(Pattern::compile(from).unwrap(), to);
        let pipeline = Pipeline::new(vec![Stage::Replace(Box::new(Replacer::new(replacement)))], false);
        let noted = Arc::<Mutex<Vec<Note>>>::default();
        let notes = Arc::clone(&noted);
        let notes = Notes { take: Arc::new(move |note| notes.lock().push(note)), seeing: None };
        (Change::new(pipeline, Vec::new(), notes), noted)
    }

    fn data(text: &'static str) -> Polled {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
    }

    /// Polls once; says what came and how many frames were taken.
    fn next(change: &mut Change, given: &mut Given) -> (String, usize) {
        let before = given.len();
        let mut cx = Context::from_waker(Waker::noop());
        let polled = change.poll_frame(&mut cx, |_| given.pop_front().unwrap_or(Poll::Pending));
        let told = match polled {
            Poll::Pending => "pending".to_owned(),
            Poll::Ready(None) => "over".to_owned(),
            Poll::Ready(Some(Err(BodyBroken))) => "broken".to_owned(),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => String::from_utf8(data.to_vec()).unwrap(),
                Err(frame) => format!("{:?}", frame.into_trailers().unwrap()),
            },
        };
        (told, before - given.len())
    }

    #[test]
    fn what_is_ready_is_handed_out_before_more_is_read_and_trailers_stay() {
        let (mut change, _) = change("foo", "bar");
        let mut trailers = HeaderMap::new();
        trailers.insert("x", http::HeaderValue::from_static("y"));
        let mut given = Given::from([data("a foo b"), data(" fo"), Poll::Pending, data("o")]);
        given.push_back(Poll::Ready(Some(Ok(Frame::trailers(trailers)))));

        let told: Vec<_> = (0..7).map(|_| next(&mut change, &mut given)).collect();

        let told: Vec<_> = told.iter().map(|(told, taken)| (told.as_str(), *taken)).collect();
        assert_eq!(
            told,
            [("a bar b", 1), (" ", 1), ("pending", 1), ("bar", 1), ("{\"x\": \"y\"}", 1), ("over", 0), ("over", 0)]
        );
        assert!(change.is_over());
    }

    #[test]
    fn what_breaks_is_never_complete() {
        let (mut one, noted) = change("<[^>]*>", "");
        let long: &'static str = "<".repeat(300_000).leak();
        let mut given = Given::from([data("a"), data(long)]);
        assert_eq!(next(&mut one, &mut given).0, "a");
        assert_eq!(next(&mut one, &mut given).0, "broken");
        assert_eq!(*noted.lock(), [Note::BodyBroken(Broken::Window)]);
        assert!(!one.is_over());

        let (mut other, noted) = change("foo", "bar");
        let mut given = Given::from([data("fo"), Poll::Ready(Some(Err(BodyBroken)))]);
        assert_eq!(next(&mut other, &mut given).0, "broken");
        assert_eq!((noted.lock().len(), other.is_over()), (0, false));
    }

    #[test]
    fn who_takes_much_and_gives_little_lets_others_have_their_turn() {
        let (mut change, _) = change("[a-z]+", "x");
        let mut given: Given = (0..TURNS * 2).map(|_| data("abc")).collect();
        let (told, taken) = next(&mut change, &mut given);
        assert_eq!(told, "pending");
        assert!(taken < TURNS);
    }

    #[test]
    fn so_many_are_counted_and_no_more() {
        let counts = Counts::default();
        let (one, two) = (counts.replace(2), counts.replace(2));
        assert!(one.is_some() && two.is_some() && counts.replace(2).is_none());
        assert!(counts.compress(1).is_some());
        drop(one);
        assert!(counts.replace(2).is_some());
    }
}
