//! The task that performs what the core says, and one task for each dial and the session that comes of it.

use alloc::{borrow::ToOwned, string::ToString, sync::Arc, vec::Vec};
use core::{
    future::poll_fn,
    hash::{BuildHasher, Hasher},
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};
use std::hash::RandomState;

use rustls::pki_types::ServerName;

use super::{CommandReply, DialError, Name, Shared, Target, UplinkEvent, UplinkOptions};
use adit_core::{
    Action, BindError, BindRefusal, Code, CommandRequest, GiveUp, Hello, Instant, Refusal, Retry, Welcome,
    driver::{Clock, Timer, Transport, secure},
    side,
    tls::Tls,
};

use crate::{
    ConnectOptions, Event, Events, Runtime, Session, SetupError, Step, StepResult, Stream, SystemClock,
    proxy::{Path, reach_told},
    queue::{Receiver, queue},
    session::{self, News},
    steps::Steps,
    tasks::Tasks,
    timer::{Alarm, within},
};

/// Performs actions until the last.
pub(super) async fn supervise<R: Runtime>(shared: Arc<Shared<R>>, options: UplinkOptions) {
    let options = Arc::new(options);
    let (mut attempts, mut alarm) = (Tasks::new(), Alarm::<R>::new());
    let reason = loop {
        if let Some(reason) = perform(&shared, &options, &mut attempts) {
            break reason;
        }
        let look = SystemClock.now() + LOOK;
        let due = shared.lock().poll_timeout().map(|due| due.min(look));
        poll_fn(|cx| poll_due(&shared, &mut attempts, &mut alarm, due, cx)).await;
        shared.apply(|state, now| state.each(|core| core.handle_timeout(now)));
    };
    let places = shared.apply(|state, _| {
        state.over = true;
        core::mem::take(&mut state.places)
    });
    drop(places);
    let leave = poll_fn(|cx| {
        while core::task::ready!(attempts.poll_next(cx)).is_some() {}
        Poll::Ready(())
    });
    within::<R, _>(options.config.close_timeout + LEAVE, leave).await;
    shared.tell(UplinkEvent::GaveUp { reason });
    let ends = shared.lock().ends.take();
    drop(ends);
}

/// Waits until there may be something to do.
fn poll_due<R: Runtime>(
    shared: &Shared<R>,
    attempts: &mut Tasks<()>,
    alarm: &mut Alarm<R>,
    due: Option<Instant>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let mut state = shared.lock();
    if core::mem::take(&mut state.due) {
        return Poll::Ready(());
    }
    state.supervisor = Some(cx.waker().clone());
    drop(state);
    if matches!(attempts.poll_next(cx), Poll::Ready(Some(_))) {
        return Poll::Ready(());
    }
    due.map_or(Poll::Pending, |due| alarm.poll_until(due, cx))
}

/// Performs what there is to do; returns why it is over, if it is.
fn perform<R: Runtime>(
    shared: &Arc<Shared<R>>,
    options: &Arc<UplinkOptions>,
    attempts: &mut Tasks<()>,
) -> Option<GiveUp> {
    loop {
        let mut state = shared.lock();
        let next = (0..).zip(&mut state.lanes).find_map(|(number, lane)| Some((number, lane.core.poll_action()?)));
        drop(state);
        let (lane, action) = next?;
        let name = |attempt| Name { lane, attempt };
        match action {
            Action::Dial { attempt, target } => {
                dial(shared, options, attempts, Attempt::new(shared, options, name(attempt), target, Purpose::Begin));
            }
            Action::Resume { attempt, session, target } => {
                let purpose = Purpose::Resume(name(session));
                dial(shared, options, attempts, Attempt::new(shared, options, name(attempt), target, purpose));
            }
            Action::StandBy { attempt, session, target } => {
                let (consent, wait) = queue();
                shared.lock().standbys.insert(name(attempt), consent);
                let purpose = Purpose::StandBy(name(session), wait);
                dial(shared, options, attempts, Attempt::new(shared, options, name(attempt), target, purpose));
            }
            Action::Proceed { attempt } => {
                if let Some(consent) = shared.lock().standbys.get(&name(attempt)) {
                    let _ = consent.send(()); // the attempt may be over
                }
            }
            Action::Hangup { attempt } => hang_up(shared, name(attempt)),
            Action::Bind { attempt, bind } => {
                let Some(session) = session(shared, name(attempt)) else { continue };
                if let Err(BindError::Limit | BindError::InUse(_)) = session.bind(&bind) {
                    let text = "the session takes no more binds".to_owned();
                    let refusal = Refusal { code: Code::LIMIT, retry_after: None, text };
                    let rejected = BindRefusal { id: bind.id, refusal };
                    shared.apply(|state, now| state.core(lane).handle_rejected(attempt, rejected, now));
                }
            }
            Action::Unbind { attempt, unbind } => {
                if let Some(session) = session(shared, name(attempt)) {
                    session.unbind(&unbind);
                }
            }
            Action::Withhold { attempt, withheld } => {
                if let Some(session) = session(shared, name(attempt)) {
                    let _ = session.withhold(&withheld); // a hint: what does not fit is left out
                }
            }
            Action::Drain { attempt } => {
                if let Some(session) = session(shared, name(attempt)) {
                    session.drain(Code::NO_ERROR, None, "");
                }
            }
            Action::GiveUp(reason) => {
                let mut state = shared.lock();
                state.lanes[usize::from(lane)].gave_up = Some(reason);
                if state.lanes.iter().all(|lane| lane.gave_up.is_some()) {
                    return Some(reason);
                }
            }
        }
    }
}

fn dial<R: Runtime>(shared: &Shared<R>, options: &Arc<UplinkOptions>, attempts: &mut Tasks<()>, attempt: Attempt<R>) {
    let (name, target, steps) = (attempt.name, attempt.target, attempt.steps.clone());
    if !attempt.is_standby() {
        shared.tell(UplinkEvent::Dialing { lane: name.lane, attempt: name.attempt, target });
    }
    // Under the lock: the task must find its handle in place.
    let mut state = shared.lock();
    let handle = attempts.spawn::<R>(run(attempt, Arc::clone(options)));
    state.dials.insert(name, (target, handle, steps));
}

fn session<R>(shared: &Shared<R>, name: Name) -> Option<Session<side::Agent, R>> {
    shared.lock().sessions.get(&name).cloned()
}

fn hang_up<R: Runtime>(shared: &Shared<R>, name: Name) {
    if let Some(session) = session(shared, name) {
        session.close(Code::DRAIN_TIMEOUT, "");
        return;
    }
    shared.apply(|state, now| {
        if let Some((target, dial, steps)) = state.dials.remove(&name) {
            // Under the lock: the task learns from its missing handle that it is too late.
            dial.abort();
            let retry_in = state.core(name.lane).redial_in(now);
            if state.standbys.remove(&name).is_none() {
                let (lane, error, steps) = (name.lane, DialError::Abandoned, steps.take(StepResult::Unfinished));
                shared.tell(UplinkEvent::DialFailed { lane, target, error, retry_in, steps });
            }
        }
    });
}

/// One dial, and the session that comes of it.
struct Attempt<R: Runtime> {
    shared: Arc<Shared<R>>,
    name: Name,
    /// The index among the options' targets.
    target: usize,
    purpose: Purpose,
    steps: Steps,
}

/// What a dial is for.
enum Purpose {
    /// A session.
    Begin,
    /// To take a session to a new connection.
    Resume(Name),
    /// The same, should its link stay silent: each step waits for consent. Nobody is told of it before it is done.
    StandBy(Name, Receiver<()>),
}

async fn run<R: Runtime>(attempt: Attempt<R>, options: Arc<UplinkOptions>) {
    let resumed = match &attempt.purpose {
        Purpose::Begin => None,
        Purpose::Resume(session) => Some((*session, attempt.resume(&options, *session).await)),
        Purpose::StandBy(session, consent) => Some((*session, attempt.stand_by(&options, *session, consent).await)),
    };
    match resumed {
        Some((session, Ok(remote))) => return attempt.settle(session, remote),
        Some((_, Err(error))) => return attempt.fail(error),
        None => {}
    }
    match attempt.dial(&options).await {
        Ok((session, events, welcome, remote)) => {
            if attempt.establish(session.clone(), &options, welcome, remote) {
                attempt.attend(session, events).await;
            }
        }
        Err(error) => attempt.fail(error),
    }
}

impl<R: Runtime> Attempt<R> {
    /// Each lane begins at another target, and goes round from there.
    fn new(shared: &Arc<Shared<R>>, options: &UplinkOptions, name: Name, target: usize, purpose: Purpose) -> Self {
        let target = (target + usize::from(name.lane)) % options.targets.len().max(1);
        Self { shared: Arc::clone(shared), name, target, purpose, steps: Steps::default() }
    }

    const fn is_standby(&self) -> bool {
        matches!(self.purpose, Purpose::StandBy(..))
    }

    /// Returns the session that it is to take to a new connection.
    const fn resumes(&self) -> Option<Name> {
        match self.purpose {
            Purpose::Begin => None,
            Purpose::Resume(session) | Purpose::StandBy(session, _) => Some(session),
        }
    }

    async fn dial(
        &self,
        options: &UplinkOptions,
    ) -> Result<(Session<side::Agent, R>, Events<side::Agent, R>, Welcome, SocketAddr), DialError> {
        let (io, remote, name) = self.connect(options, &options.connect).await?;
        let (tls, hello) = ((Arc::clone(&options.tls), name), self.hello(options));
        let made = session::connect_told(io, tls, options.config.clone(), hello, seed(), &self.steps).await;
        let (session, events, welcome) = made.map_err(DialError::Setup)?;
        Ok((session, events, welcome, remote))
    }

    /// Takes a session to a new connection.
    async fn resume(&self, options: &UplinkOptions, session: Name) -> Result<SocketAddr, DialError> {
        let Some(session) = self::session(&self.shared, session) else { return Err(DialError::Abandoned) };
        let connect = ConnectOptions { again: Some(AGAIN), ..options.connect.clone() };
        let (io, remote, name) = self.connect(options, &connect).await?;
        let (tls, hello) = ((Arc::clone(&options.tls), name), self.hello(options));
        let resumed = session.resume_told(io, tls, options.config.clone(), hello, seed(), &self.steps).await;
        resumed.map(|()| remote).map_err(DialError::Setup)
    }

    /// Takes a session to a connection beside its silent link, a step after each consent.
    async fn stand_by(
        &self,
        options: &UplinkOptions,
        session: Name,
        consent: &Receiver<()>,
    ) -> Result<SocketAddr, DialError> {
        let Some(session) = self::session(&self.shared, session) else { return Err(DialError::Abandoned) };
        let (config, name) = (&options.config, self.server_name(options)?);
        let (path, remote) = self.connect_again(options).await?;
        let mut spare = Spare(Some(path));
        let Some(socket) = &mut spare.0 else { return Err(DialError::Abandoned) };
        self.shared.act(|state, now| state.core(self.name.lane).handle_connected(self.name.attempt, now));
        consent.recv().await.ok_or(DialError::Abandoned)?;

        let setup = |error| DialError::Setup(error);
        let mut tls = Tls::client(Arc::clone(&options.tls), name).map_err(|error| setup(SetupError::Tls(error)))?;
        self.steps.begin(Step::Secure);
        let secured = within::<R, _>(config.handshake_timeout, secure(socket, &mut tls)).await;
        secured.ok_or(DialError::Abandoned)?.map_err(|failure| setup(failure.into()))?;
        self.steps.done("TLS 1.3".into());
        self.shared.act(|state, now| state.core(self.name.lane).handle_secured(self.name.attempt, now));
        consent.recv().await.ok_or(DialError::Abandoned)?;

        let Some(socket) = spare.0.take() else { return Err(DialError::Abandoned) };
        self.steps.begin(Step::Session);
        let resumed = session.resume_silent(socket, tls, config.clone(), self.hello(options), seed()).await;
        if resumed.is_ok() {
            self.steps.done(session.id().to_string());
        }
        resumed.map(|()| remote).map_err(setup)
    }

    async fn connect(
        &self,
        options: &UplinkOptions,
        how: &ConnectOptions,
    ) -> Result<(Path<R::Socket>, SocketAddr, ServerName<'static>), DialError> {
        let Some(target) = options.targets.get(self.target) else { return Err(DialError::Abandoned) };
        let name = self.server_name(options)?;
        let how = ConnectOptions { first: usize::from(self.name.lane), ..how.clone() };
        let reached = reach_told::<R>(&target.host, target.port, &how, &self.steps).await;
        let (path, remote) = reached.map_err(DialError::Connect)?;
        Ok((path, remote, name))
    }

    /// Connects beside the link that is there: to whoever has the session, for a name may stand for several, and its resolver
    /// may be as far away. What is behind a proxy has no address here.
    async fn connect_again(&self, options: &UplinkOptions) -> Result<(Path<R::Socket>, SocketAddr), DialError> {
        let Some(Target { host, port }) = options.targets.get(self.target) else { return Err(DialError::Abandoned) };
        let mut how = ConnectOptions { again: Some(AGAIN), ..options.connect.clone() };
        let reached = if how.proxy.as_ref().is_some_and(|proxy| proxy.carries(host, *port)) {
            reach_told::<R>(host, *port, &how, &self.steps).await
        } else {
            let remote = self.shared.lock().lanes[usize::from(self.name.lane)].remote.ok_or(DialError::Abandoned)?;
            how.proxy = None;
            reach_told::<R>(&remote.ip().to_string(), remote.port(), &how, &self.steps).await
        };
        reached.map_err(DialError::Connect)
    }

    /// Returns the name that the network's certificate must have.
    fn server_name(&self, options: &UplinkOptions) -> Result<ServerName<'static>, DialError> {
        if let Some(name) = &options.server_name {
            return Ok(name.clone());
        }
        let Some(target) = options.targets.get(self.target) else { return Err(DialError::Abandoned) };
        target.server_name()
    }

    fn hello(&self, options: &UplinkOptions) -> Hello {
        Hello {
            versions: Vec::new(), // what the link speaks
            agent: options.agent,
            incarnation: self.shared.incarnation, // spec: AUTH-008
            token: options.token.clone(),
            software: options.software.clone(),
            metadata: options.metadata.clone(),
            heartbeat: options.config.heartbeat,
            limits: options.config.limits(),
            resume: None, // what the session says
            resume_window: options.config.resume_window,
            lane: self.name.lane,
        }
    }

    /// Makes it known that the session goes on.
    fn settle(&self, session: Name, remote: SocketAddr) {
        self.shared.act(|state, now| {
            if state.dials.remove(&self.name).is_none() {
                return;
            }
            state.standbys.remove(&self.name);
            state.lanes[usize::from(self.name.lane)].remote = Some(remote);
            state.core(self.name.lane).handle_resumed(self.name.attempt, now);
            let steps = self.steps.take(StepResult::Unfinished);
            let Self { name: Name { lane, .. }, target, .. } = *self;
            self.shared.tell(UplinkEvent::Resumed { lane, target, remote, steps });
            // Lost again already: that may have been told before it was known to be there.
            if state.sessions.get(&session).is_some_and(Session::is_parked) {
                state.core(session.lane).handle_suspended(session.attempt, Retry::Backoff, now);
            }
        });
    }

    /// Makes the session known, unless the dial was hung up meanwhile.
    fn establish(
        &self,
        session: Session<side::Agent, R>,
        options: &UplinkOptions,
        welcome: Welcome,
        remote: SocketAddr,
    ) -> bool {
        let resumable = welcome.resume.is_some() && options.config.resume_window > Duration::ZERO;
        self.shared.act(|state, now| {
            let Name { lane, attempt } = self.name;
            let wanted = state.dials.remove(&self.name).is_some();
            if wanted {
                state.sessions.insert(self.name, session);
                state.lanes[usize::from(lane)].remote = Some(remote);
                let steps = self.steps.take(StepResult::Unfinished);
                let target = self.target;
                self.shared.tell(UplinkEvent::Connected { lane, target, welcome, remote, steps });
                state.core(lane).handle_established(attempt, now);
                state.core(lane).handle_offer(attempt, resumable);
            }
            wanted
        })
    }

    fn fail(&self, error: DialError) {
        self.shared.act(|state, now| {
            let Name { lane, attempt } = self.name;
            if state.dials.remove(&self.name).is_some() {
                // A session that ended with this dial is told first: the next dial must not try to resume it.
                let over = self.resumes().and_then(|session| Some((session, state.sessions.get(&session)?.cause()?)));
                if let Some((session, cause)) = over {
                    self.shared.conclude(state, session, cause, now);
                }
                state.core(lane).handle_closed(attempt, error.retry(), now);
                if state.standbys.remove(&self.name).is_none() {
                    let retry_in = state.core(lane).redial_in(now);
                    let (target, steps) = (self.target, self.steps.take(StepResult::Failed));
                    self.shared.tell(UplinkEvent::DialFailed { lane, target, error, retry_in, steps });
                }
            }
        });
    }

    /// Passes on what happens to the session, until its end.
    async fn attend(&self, session: Session<side::Agent, R>, events: Events<side::Agent, R>) {
        let (shared, name) = (&self.shared, self.name);
        let Name { lane, attempt } = name;
        while let Some(news) = events.next_news().await {
            let event = match news {
                News::Event(event) => event,
                News::Silent(silent) => {
                    shared.act(|state, now| match silent {
                        true => state.core(lane).handle_silence(attempt, now),
                        false => state.core(lane).handle_sound(attempt, now),
                    });
                    continue;
                }
            };
            match event {
                Event::Opened(stream) => self.deliver(stream),
                Event::Bound(bound) => shared.act(|state, now| state.core(lane).handle_bound(attempt, &bound, now)),
                Event::Rejected(refused) => {
                    shared.act(|state, now| state.core(lane).handle_rejected(attempt, refused, now));
                }
                Event::Unbound(refused) => {
                    shared.act(|state, now| state.core(lane).handle_unbound(attempt, refused, now))
                }
                Event::GoAway(notice) => shared.act(|state, now| state.core(lane).handle_goaway(attempt, &notice, now)),
                Event::Command(request) => {
                    let reply = CommandReply { session: session.handle().clone(), id: request.id };
                    let CommandRequest { command, text, document, .. } = request;
                    shared.tell(UplinkEvent::Command { command, text, document, reply });
                }
                Event::Revocations(lists) => shared.tell(UplinkEvent::Revocations { lane, lists }),
                Event::Closed(cause) => {
                    shared.act(|state, now| {
                        state.sessions.remove(&name);
                        shared.conclude(state, name, cause, now);
                    });
                    session.gone().await;
                    return;
                }
                Event::Suspended(cause) => shared.act(|state, now| {
                    if state.core(lane).handle_suspended(attempt, cause.retry(), now) {
                        let retry_in = state.core(lane).redial_in(now);
                        shared.tell(UplinkEvent::Suspended { lane, cause, retry_in });
                    }
                }),
                Event::Resumed(welcome) => {
                    shared.act(|state, _| state.core(lane).handle_offer(attempt, welcome.resume.is_some()));
                }
                Event::Bind(_) | Event::Unbind(_) | Event::Withheld(_) | Event::CommandResult(_) => {} // the network's business
            }
        }
    }

    /// Hands a stream to its endpoint; one that has none is refused, so that the network may try elsewhere.
    fn deliver(&self, stream: Stream) {
        let place = stream.open().and_then(|open| open.bind).and_then(|bind| {
            let state = self.shared.lock();
            let id = state.lanes[usize::from(self.name.lane)].binds.get(&bind)?;
            state.places.get(id).map(|place| place.streams.clone())
        });
        let refused = match place {
            Some(place) => place.send(stream).err(),
            None => Some(stream),
        };
        if let Some(stream) = refused {
            stream.abort(Code::REFUSED);
        }
    }
}

impl<R: Runtime> Drop for Attempt<R> {
    /// Whatever became of the task, the core learns that the attempt is over.
    fn drop(&mut self) {
        self.shared.act(|state, now| {
            state.dials.remove(&self.name);
            state.standbys.remove(&self.name);
            state.sessions.remove(&self.name);
            state.core(self.name.lane).handle_closed(self.name.attempt, Retry::Backoff, now);
        });
    }
}

/// A connection that is closed by a reset unless it is taken: a network that only wakes need not shake hands.
struct Spare<T: Transport>(Option<T>);

impl<T: Transport> Drop for Spare<T> {
    fn drop(&mut self) {
        if let Some(io) = &mut self.0 {
            io.abort();
        }
    }
}

/// Returns a number that another process, machine or call does not share: for jitter and nonces, not for secrets.
pub(super) fn seed() -> u64 {
    RandomState::new().build_hasher().finish() ^ SystemClock.now().as_nanos()
}

/// A machine that sleeps stops the timers of a runtime and not the clock: a deadline that passed meanwhile is seen this long
/// after it woke.
const LOOK: Duration = Duration::from_secs(1);

/// After how long a dial that resumes is made once more beside the first: callers wait meanwhile.
const AGAIN: Duration = Duration::from_secs(1);

/// What the transports may take after the links are over.
const LEAVE: Duration = Duration::from_secs(2);
