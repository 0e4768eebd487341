//! The future that drives one link.

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::{Runtime, timer::Alarm};
use adit_core::{
    Side,
    driver::{Task, Transport},
};

/// Drives one link to its end, and keeps its session afterwards for as long as another link may come.
pub(super) struct Drive<R: Runtime, S: Side, T> {
    task: Task<S>,
    /// Closed as soon as it is of no more use.
    io: Option<T>,
    alarm: Alarm<R>,
}

impl<R: Runtime, S: Side, T> Drive<R, S, T> {
    pub(super) const fn new(task: Task<S>, io: T) -> Self {
        Self { task, io: Some(io), alarm: Alarm::new() }
    }
}

impl<R: Runtime, S: Side, T: Transport> Future for Drive<R, S, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { task, io, alarm } = self.get_mut();
        if let Some(socket) = io {
            ready!(task.poll_drive(socket, alarm, cx));
            *io = None;
        }
        task.poll_parked(alarm, cx)
    }
}

impl<R: Runtime, S: Side, T> Unpin for Drive<R, S, T> {}
