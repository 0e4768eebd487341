//! What lets a session go on over another link.

use super::Session;
use crate::{Duration, Instant, Resume, ResumeOffer, Secret, SessionId, Side, Violation};

/// The permission to resume, as both sides know it.
#[derive(Debug)]
pub(super) struct Permit {
    session: SessionId,
    secret: Secret,
    /// The secret that was shown last, good until its use is confirmed: any number of WELCOMEs may be lost.
    used: Option<Secret>,
    window: Duration,
    /// Until when the session waits for a link, while there is none.
    parked: Option<Instant>,
}

impl<S: Side> Session<S> {
    /// Takes the offer of a WELCOME, sent or received. Without one the session ends with its link. However long the peer would
    /// wait, this side waits no longer than it wants to.
    pub(crate) fn permit(&mut self, session: SessionId, offer: Option<&ResumeOffer>, now: Instant) {
        self.waited = self.waited(now);
        let used = self.permit.take().map(|old| old.secret); // spec: RES-012, the WELCOME may be lost
        self.permit = offer.and_then(|offer| {
            let window = offer.within(self.config.resume_window)?;
            Some(Permit { session, secret: offer.secret.clone(), used, window, parked: None })
        });
    }

    /// Takes note of a good request: the agent has no newer secret for sure.
    pub(crate) fn show(&mut self, request: &Resume) {
        self.attempt = self.attempt.max(request.attempt);
        if let Some(permit) = &mut self.permit {
            permit.secret = request.secret.clone();
        }
    }

    /// Takes note that the peer speaks on the newest link, and so has the newest secret.
    pub(crate) fn confirm(&mut self) {
        if let Some(permit) = &mut self.permit {
            permit.used = None; // spec: RES-006
        }
    }

    /// Returns for how long the session is kept without a link; `None` when it ends with its link.
    pub(crate) fn window(&self) -> Option<Duration> {
        if self.over.is_some() { None } else { self.permit.as_ref().map(|permit| permit.window) }
    }

    /// Returns for how long the session has been without a link in all, up to `now`.
    pub fn waited(&self, now: Instant) -> Duration {
        let waits = self.permit.as_ref().and_then(|permit| Some((permit.window, permit.parked?)));
        let lately = waits.map_or(Duration::ZERO, |(window, until)| window.saturating_sub(until.since(now)));
        self.waited.saturating_add(lately)
    }

    /// Begins to wait for a link, or goes on waiting; returns until when.
    pub(crate) fn park(&mut self, now: Instant) -> Option<Instant> {
        self.rest();
        let permit = self.permit.as_mut()?;
        Some(*permit.parked.get_or_insert(now + permit.window))
    }

    /// Returns the request with which an agent asks to go on.
    pub(crate) fn resume_request(&mut self) -> Option<Resume> {
        let permit = self.permit.as_ref().filter(|_| self.over.is_none())?;
        let (session, secret) = (permit.session, permit.secret.clone());
        self.attempt = self.attempt.saturating_add(1); // spec: RES-021
        Some(Resume { session, secret, received: self.processed(), attempt: self.attempt })
    }

    /// Returns whether a request is good for this session: name, secret, a count that can be, and no later one was granted.
    pub(crate) fn admits(&self, request: &Resume) -> bool {
        let Some(permit) = self.permit.as_ref().filter(|_| self.over.is_none()) else { return false };
        // Both are compared whatever the first says: the time tells nothing.
        let newest = permit.secret == request.secret;
        let used = permit.used.as_ref().is_some_and(|used| *used == request.secret);
        // What an agent has given up may still come, and must not take the session from what followed it.
        let stale = request.attempt < self.attempt; // spec: RES-021
        let good = (newest | used) && permit.session == request.session && !stale;
        good && self.outgoing.can_resume_at(request.received)
    }

    /// Returns whether a network may say that it resumed this session.
    pub(crate) fn is_named(&self, session: SessionId) -> bool {
        self.permit.as_ref().is_some_and(|permit| permit.session == session)
    }

    /// Goes on over a new link whose peer has processed so many frames: what it lacks is sent again.
    pub(crate) fn resume_at(&mut self, received: u64) -> Result<(), Violation> {
        if !self.outgoing.can_resume_at(received) {
            return Err(Violation::ResumeAnswer); // spec: RES-015
        }
        self.outgoing.resume_at(received)?;
        self.rtt = None; // this link may take another path
        self.incoming.owe(); // so that the peer learns that its WELCOME came
        Ok(())
    }

    /// Returns whether counted frames wait for an acknowledgement that would let them go.
    pub(crate) const fn awaits_ack(&self) -> bool {
        self.outgoing.kept_octets() > 0
    }

    /// Returns how many counted frames the peer has acknowledged.
    pub(crate) const fn acknowledged(&self) -> u64 {
        self.outgoing.acknowledged()
    }
}
