//! Panics where tests ask for them (V98). Compiled for tests only.

use parking_lot::Mutex;

/// Where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the task of a session: an endpoint is bound, and its agent has no answer.
    Session,
    /// In the task of a caller: its stream is open.
    Caller,
    /// In the task of a connection that speaks HTTP: a request has come.
    Request,
}

/// Lets whoever comes to a place next panic, once.
pub(crate) fn arm(place: Place) {
    ARMED.lock().push(place);
}

/// Panics if that was asked for.
pub(crate) fn strike(place: Place) {
    let mut armed = ARMED.lock();
    let asked = armed.iter().position(|it| *it == place).map(|it| armed.swap_remove(it));
    drop(armed);
    assert_eq!(asked, None, "a panic that a test asked for");
}

static ARMED: Mutex<Vec<Place>> = Mutex::new(Vec::new());
