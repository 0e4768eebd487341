//! Sessions over any transport: the network's side accepts, the agent's side connects.

use alloc::{boxed::Box, sync::Arc};
use core::{
    fmt,
    future::poll_fn,
    marker::PhantomData,
    task::{Context, Poll, ready},
};
use std::io;

use bytes::Bytes;
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};

use super::{Runtime, Step, Stream, SystemClock, drive::Drive, steps::Steps};
use adit_core::{
    AnswerError, AuthRequest, Bind, BindError, BindId, BindRefusal, BindRequest, Bound, Cause, Code, Command,
    CommandRequest, CommandResult, Config, Duration, GoAway, Hello, Link, Loss, Open, OpenError, Refusal,
    RevocationsError, SessionId, Side, Stats, Unbind, Welcome, Withheld,
    driver::{Clock, Failure, Handle, PollEvent, Task, Transport},
    side,
    tls::{Peer, Tls},
};

/// A session; clones are the same session. When all clones, its events and its streams are gone, it closes.
pub struct Session<S: Side, R> {
    handle: Handle<S>,
    id: SessionId,
    runtime: PhantomData<fn() -> R>,
}

impl<S: Side, R> Clone for Session<S, R> {
    fn clone(&self) -> Self {
        Self::new(self.handle.clone(), self.id)
    }
}

impl<S: Side, R> fmt::Debug for Session<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What happens to a session, in order.
pub struct Events<S: Side, R> {
    handle: Handle<S>,
    runtime: PhantomData<fn() -> R>,
}

impl<S: Side, R> fmt::Debug for Events<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// Something that happened to a session.
#[derive(Debug)]
pub enum Event<T> {
    /// The peer opened a stream.
    Opened(T),
    /// Network: the agent wishes for an endpoint. Answer with [`Session::bound`] or [`Session::reject`].
    Bind(BindRequest),
    /// Network: the agent gave a bind up, and may have said why. The text is the agent's own: [`adit_core::escape`] it.
    Unbind(Unbind),
    /// Network: the agent says of an endpoint why it does not ask for it, or with [`Code::NO_ERROR`] that this is over: a hint
    /// that proves nothing (BIND-024). What is in it is the agent's own: [`adit_core::escape`] it.
    Withheld(Withheld),
    /// Network: the agent answered a remote command.
    CommandResult(CommandResult),
    /// Agent: a bind is in force.
    Bound(Bound),
    /// Agent: a bind was refused.
    Rejected(BindRefusal),
    /// Agent: a bind that was in force was taken back.
    Unbound(BindRefusal),
    /// Agent: the network asks for something. Answer with [`Session::answer`].
    Command(CommandRequest),
    /// Agent: the network handed out revocation lists. Nothing of them was looked at: they are octets of the peer.
    Revocations(Bytes),
    /// The peer will end the session; no more streams can be opened.
    GoAway(GoAway),
    /// The connection is lost, and the session waits for the next: streams stall and go on.
    Suspended(Cause),
    /// Agent: the session goes on over another connection.
    Resumed(Welcome),
    /// The session is over: the last event.
    Closed(Cause),
}

/// A session could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// TLS failed.
    #[error("TLS failed: {0}")]
    Tls(rustls::Error),
    /// The peer does not agree on the application protocol: it is not Adit.
    #[error("the peer does not speak Adit (no application protocol adit/1)")]
    NotAdit,
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(io::Error),
    /// The session ended before it was established.
    #[error("{0}")]
    Closed(Cause),
}

/// An agent that has said HELLO and waits for an answer. Dropped, its connection closes.
#[must_use = "an agent that is not answered is turned away without a reason"]
pub struct Incoming<R> {
    handle: Handle<side::Network>,
    request: AuthRequest,
    runtime: PhantomData<fn() -> R>,
}

/// Secures a connection that an agent made and waits for its HELLO. The handshake timeout of `config` bounds all of it.
///
/// # Errors
/// [`SetupError`]: the connection is closed.
pub async fn accept<R: Runtime>(
    io: impl Transport + Send + 'static,
    tls: Arc<ServerConfig>,
    config: Config,
    seed: u64,
) -> Result<Incoming<R>, SetupError> {
    let link = Link::<side::Network>::new(config, seed, SystemClock.now());
    let handle = spawn::<R, _>(link, Tls::server(tls).map_err(SetupError::Tls)?, io);
    match poll_fn(|cx| handle.poll_event(cx)).await {
        Some(PollEvent::Event(adit_core::Event::Hello(request))) => {
            Ok(Incoming { handle, request, runtime: PhantomData })
        }
        other => Err(setup_error(&handle, other)),
    }
}

/// Secures a connection to the network and asks for a session. The handshake timeout of `config` bounds all of it.
///
/// # Errors
/// [`SetupError`]: the connection is closed.
pub async fn connect_over<R: Runtime>(
    io: impl Transport + Send + 'static,
    tls: (Arc<ClientConfig>, ServerName<'static>),
    config: Config,
    hello: Hello,
    seed: u64,
) -> Result<(Session<side::Agent, R>, Events<side::Agent, R>, Welcome), SetupError> {
    connect_told(io, tls, config, hello, seed, &Steps::default()).await
}

/// Like [`connect_over`], and notes the steps.
pub(super) async fn connect_told<R: Runtime>(
    io: impl Transport + Send + 'static,
    (tls, name): (Arc<ClientConfig>, ServerName<'static>),
    config: Config,
    hello: Hello,
    seed: u64,
    steps: &Steps,
) -> Result<(Session<side::Agent, R>, Events<side::Agent, R>, Welcome), SetupError> {
    steps.begin(Step::Secure);
    let link = Link::<side::Agent>::new(config, hello, seed, SystemClock.now());
    let handle = spawn::<R, _>(link, Tls::client(tls, name).map_err(SetupError::Tls)?, io);
    let event = poll_fn(|cx| handle.poll_event(cx)).await;
    secured(&handle, steps);
    match event {
        Some(PollEvent::Event(adit_core::Event::Established(welcome))) => {
            steps.done(welcome.session.to_string());
            let session = Session::new(handle.clone(), welcome.session);
            Ok((session, Events { handle, runtime: PhantomData }, welcome))
        }
        other => Err(setup_error(&handle, other)),
    }
}

/// Notes when TLS was done, if it was.
fn secured(handle: &Handle<side::Agent>, steps: &Steps) {
    if let Some(at) = handle.secured_at() {
        steps.done_at("TLS 1.3".into(), at); // there is no other, TLS-001
        steps.begin_at(Step::Session, at);
    }
}

fn spawn<R: Runtime, S: Side>(link: Link<S>, tls: Tls, io: impl Transport + Send + 'static) -> Handle<S> {
    let (task, handle) = Task::new(link, tls, Box::new(SystemClock));
    R::spawn(Drive::<R, _, _>::new(task, io));
    handle
}

/// Gives a handshake up when nobody waits for it any more.
struct Hangup<'a>(&'a Handle<side::Agent>);

impl Drop for Hangup<'_> {
    fn drop(&mut self) {
        self.0.hang_up();
    }
}

fn setup_error<S: Side>(handle: &Handle<S>, event: Option<PollEvent>) -> SetupError {
    let cause = match event {
        Some(PollEvent::Event(adit_core::Event::Closed(cause))) => cause,
        _ => handle.cause().unwrap_or(Cause::Local(Code::INTERNAL)),
    };
    setup_failure(handle, cause)
}

fn setup_failure<S: Side>(handle: &Handle<S>, cause: Cause) -> SetupError {
    match (handle.take_failure(), cause) {
        (_, cause @ (Cause::Refused(_) | Cause::HandshakeTimeout)) => SetupError::Closed(cause),
        (Some(failure), _) => failure.into(),
        (None, cause) => SetupError::Closed(cause),
    }
}

impl From<Failure> for SetupError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Tls(error) => Self::Tls(error),
            Failure::NotAdit => Self::NotAdit,
            Failure::Io(error) => Self::Io(error),
            _ => Self::Closed(Cause::Transport(Loss::Other)),
        }
    }
}

impl<R> Incoming<R> {
    /// Returns what TLS said of the agent: the name that it asked for.
    pub fn peer(&self) -> Option<Arc<Peer>> {
        self.handle.peer()
    }

    /// Returns what the agent said.
    pub const fn hello(&self) -> &Hello {
        self.request.hello()
    }

    /// Returns how long the session may be kept without a connection, as far as both sides want; zero not at all. An offer in
    /// the consent is held to it.
    pub const fn resume_window(&self) -> Duration {
        self.request.resume_window()
    }

    /// Returns a consent with the negotiated version, limits and heartbeat, to be completed.
    pub fn welcome(&self, session: SessionId, region: &str, node: &str) -> Welcome {
        self.request.welcome(session, region, node)
    }

    /// Consents: the session is there at once.
    pub fn accept(self, welcome: Welcome) -> (Session<side::Network, R>, Events<side::Network, R>) {
        let id = welcome.session;
        self.handle.accept(self.request, welcome);
        (Session::new(self.handle.clone(), id), Events { handle: self.handle, runtime: PhantomData })
    }

    /// Consents to go on with a session, lost or alive, that the agent asked to resume: its handles, events and streams stay as
    /// they are. What is negotiated and counted in `welcome` is filled in; its offer is the permission for the next time.
    ///
    /// # Errors
    /// The agent, when its request is not good for that session: nothing has changed. Refuse it with
    /// [`Code::RESUME_UNKNOWN`], the one answer for every reason.
    #[expect(clippy::result_large_err, reason = "moved once a handshake")]
    pub fn resume(self, session: &Session<side::Network, R>, welcome: Welcome) -> Result<(), Self> {
        let Self { handle, request, runtime } = self;
        handle.resume(request, &session.handle, welcome).map_err(|request| Self { handle, request, runtime })
    }

    /// Refuses and closes the connection.
    pub fn refuse(self, refusal: Refusal) {
        self.handle.refuse(self.request, refusal);
    }
}

impl<R> fmt::Debug for Incoming<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("hello", self.hello()).finish_non_exhaustive()
    }
}

impl<S: Side, R> Session<S, R> {
    const fn new(handle: Handle<S>, id: SessionId) -> Self {
        Self { handle, id, runtime: PhantomData }
    }

    pub(super) const fn handle(&self) -> &Handle<S> {
        &self.handle
    }

    /// Returns what TLS said of the peer when the present connection, or the last there was, was secured.
    pub fn peer(&self) -> Option<Arc<Peer>> {
        self.handle.peer()
    }

    /// Returns the session's name.
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// Announces the end: open streams finish, new ones are refused, and the session closes when all are over or the
    /// drain timeout of the configuration has passed.
    pub fn drain(&self, code: Code, retry_after: Option<Duration>, text: &str) {
        self.handle.drain(code, retry_after, text);
    }

    /// Ends the session at once; the peer is told.
    pub fn close(&self, code: Code, text: &str) {
        self.handle.close(code, text);
    }

    /// Waits for the end and returns why.
    pub async fn closed(&self) -> Cause {
        self.handle.closed().await
    }

    /// Waits until the connection is closed: what was said last is on its way, or never will be. A program that ends
    /// before does not say goodbye.
    pub async fn gone(&self) {
        self.handle.gone().await;
    }

    /// Returns whether the connection is lost and the session waits for another.
    pub fn is_parked(&self) -> bool {
        self.handle.is_parked()
    }

    /// Returns for how long the session has been without a connection, in all.
    pub fn waited(&self) -> Duration {
        self.handle.waited()
    }

    /// Returns why the session ended, if it has.
    pub fn cause(&self) -> Option<Cause> {
        self.handle.cause()
    }

    /// Returns whether new streams cannot be opened because one side drains or the session is over.
    pub fn is_ending(&self) -> bool {
        self.handle.is_ending()
    }

    /// Returns the counters.
    pub fn stats(&self) -> Stats {
        self.handle.stats().unwrap_or_default()
    }

    /// Returns how many streams are open.
    pub fn open_streams(&self) -> usize {
        self.handle.live_streams()
    }

    /// Returns the round trip of the latest question and its answer.
    pub fn rtt(&self) -> Option<Duration> {
        self.handle.rtt()
    }
}

impl<S: Side, R: Runtime> Session<S, R> {
    /// Opens a stream without waiting for the peer.
    ///
    /// # Errors
    /// [`OpenError`]: nothing was opened.
    pub fn open(&self, open: Open) -> Result<R::Stream, OpenError> {
        self.handle.open(open).map(|stream| Stream::new(stream).into())
    }
}

impl<R: Runtime> Session<side::Agent, R> {
    /// Goes on with the session over a new connection: its handles, events and streams stay as they are. The handshake timeout
    /// of `config` bounds it; [`Event::Resumed`] or [`Event::Suspended`] tells the events as well.
    ///
    /// # Errors
    /// [`SetupError`]: without a connection, the session waits for another try or is over.
    pub async fn resume_over(
        &self,
        io: impl Transport + Send + 'static,
        (tls, name): (Arc<ClientConfig>, ServerName<'static>),
        config: Config,
        hello: Hello,
        seed: u64,
    ) -> Result<(), SetupError> {
        self.resume_told(io, (tls, name), config, hello, seed, &Steps::default()).await
    }

    /// Like [`Self::resume_over`], and notes the steps.
    pub(super) async fn resume_told(
        &self,
        io: impl Transport + Send + 'static,
        (tls, name): (Arc<ClientConfig>, ServerName<'static>),
        config: Config,
        hello: Hello,
        seed: u64,
        steps: &Steps,
    ) -> Result<(), SetupError> {
        steps.begin(Step::Secure);
        let tls = Tls::client(tls, name).map_err(SetupError::Tls)?;
        let task = self.handle.resume(tls, config, hello, seed);
        let resumed = self.resume_by(task, io).await;
        secured(&self.handle, steps);
        if resumed.is_ok() {
            steps.done(self.id.to_string());
        }
        resumed
    }

    /// Goes on with the session over a connection that is secured, unless its link speaks.
    pub(super) async fn resume_silent(
        &self,
        io: impl Transport + Send + 'static,
        tls: Tls,
        config: Config,
        hello: Hello,
        seed: u64,
    ) -> Result<(), SetupError> {
        let task = self.handle.resume_silent(tls, config, hello, seed);
        self.resume_by(task, io).await
    }

    async fn resume_by(
        &self,
        task: Option<Task<side::Agent>>,
        io: impl Transport + Send + 'static,
    ) -> Result<(), SetupError> {
        let Some(task) = task else {
            return Err(SetupError::Closed(self.cause().unwrap_or(Cause::ResumeExpired)));
        };
        R::spawn(Drive::<R, _, _>::new(task, io));
        let _hangup = Hangup(&self.handle); // does nothing to a handshake that is done
        self.handle.established().await.map_err(|cause| setup_failure(&self.handle, cause))
    }
}

impl<R> Session<side::Agent, R> {
    /// Asks for an endpoint; the answer is [`Event::Bound`] or [`Event::Rejected`].
    ///
    /// # Errors
    /// [`BindError`]: nothing was asked.
    pub fn bind(&self, bind: &Bind) -> Result<(), BindError> {
        self.handle.bind(bind)
    }

    /// Gives a bind up.
    pub fn unbind(&self, unbind: &Unbind) {
        self.handle.unbind(unbind);
    }

    /// Says of an endpoint why it is not asked for (BIND-021), for those who run the network, or with [`Code::NO_ERROR`] that this
    /// is over. It binds nothing and is not answered.
    ///
    /// # Errors
    /// [`BindError`]: nothing was said.
    pub fn withhold(&self, withheld: &Withheld) -> Result<(), BindError> {
        self.handle.withhold(withheld)
    }

    /// Answers a remote command; a second answer does nothing.
    pub fn answer(&self, result: &CommandResult) {
        let _ = self.handle.answer(result);
    }
}

impl<R> Session<side::Network, R> {
    /// Says that a bind is in force under this URL.
    pub fn bound(&self, request: BindRequest, url: &str) {
        self.handle.bound(request, url);
    }

    /// Refuses a bind.
    pub fn reject(&self, request: BindRequest, refusal: Refusal) {
        self.handle.reject(request, refusal);
    }

    /// Takes a bind back that is in force; returns whether it was.
    pub fn unbound(&self, id: BindId, refusal: Refusal) -> bool {
        self.handle.unbound(id, refusal)
    }

    /// Asks the agent for something that it may refuse; returns the number of the answer.
    ///
    /// # Errors
    /// When the session is over or too many commands wait for an answer.
    pub fn command(&self, command: Command, text: &str) -> Result<u32, AnswerError> {
        self.handle.command(command, text)
    }

    /// Asks the agent to put a document of endpoints in force; returns the number of the answer.
    ///
    /// # Errors
    /// When the session is over, too many commands wait for an answer, or the document is longer than [`adit_core::DOCUMENT`].
    pub fn configure(&self, document: &str, text: &str) -> Result<u32, AnswerError> {
        self.handle.configure(document, text)
    }

    /// Hands revocation lists to the agent: DER, one after the other, of the authority that issued the certificate that it was shown.
    /// Of those that wait to be sent, the newest take the place of the others.
    ///
    /// # Errors
    /// [`RevocationsError`]: when the session is over, or the agent takes no frame that is so long.
    pub fn tell_revocations(&self, lists: &Bytes) -> Result<(), RevocationsError> {
        self.handle.tell_revocations(lists)
    }
}

/// What the keeper of a session is told.
pub(super) enum News {
    Event(Event<Stream>),
    /// The link has fallen silent, or speaks again.
    Silent(bool),
}

impl<R> Events<side::Agent, R> {
    /// Waits for the next event, streams as they are here.
    pub(super) async fn next_news(&self) -> Option<News> {
        poll_fn(|cx| match self.poll_as(cx) {
            Poll::Ready(event) => Poll::Ready(event.map(News::Event)),
            Poll::Pending => {
                self.handle.take_silence().map_or(Poll::Pending, |silent| Poll::Ready(Some(News::Silent(silent))))
            }
        })
        .await
    }
}

impl<S: Side, R> Events<S, R> {
    fn poll_as<T: From<Stream>>(&self, cx: &Context<'_>) -> Poll<Option<Event<T>>> {
        loop {
            let Some(event) = ready!(self.handle.poll_event(cx)) else { return Poll::Ready(None) };
            if let Some(event) = public(event) {
                return Poll::Ready(Some(event));
            }
        }
    }
}

impl<S: Side, R: Runtime> Events<S, R> {
    /// Waits for the next event; `None` after [`Event::Closed`]. Cancelled, it loses nothing.
    pub async fn next(&mut self) -> Option<Event<R::Stream>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Like [`Self::next`], for use in a poll function.
    pub fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Option<Event<R::Stream>>> {
        self.poll_as(cx)
    }
}

fn public<T: From<Stream>>(event: PollEvent) -> Option<Event<T>> {
    use adit_core::Event as Core;

    let event = match event {
        PollEvent::Stream(stream) => return Some(Event::Opened(Stream::new(stream).into())),
        PollEvent::Event(event) => event,
    };
    match event {
        Core::Bind(request) => Some(Event::Bind(request)),
        Core::Unbind(unbind) => Some(Event::Unbind(unbind)),
        Core::Withheld(withheld) => Some(Event::Withheld(withheld)),
        Core::CommandResult(result) => Some(Event::CommandResult(result)),
        Core::Bound(bound) => Some(Event::Bound(bound)),
        Core::Rejected(refusal) => Some(Event::Rejected(refusal)),
        Core::Unbound(refusal) => Some(Event::Unbound(refusal)),
        Core::Command(request) => Some(Event::Command(request)),
        Core::Revocations(lists) => Some(Event::Revocations(lists)),
        Core::GoAway(goaway) => Some(Event::GoAway(goaway)),
        Core::Closed(cause) => Some(Event::Closed(cause)),
        Core::Suspended(cause) => Some(Event::Suspended(cause)),
        Core::Resumed(welcome) => Some(Event::Resumed(welcome)),
        Core::Hello(_)
        | Core::Established(_)
        | Core::Opened(_)
        | Core::Accepted(_)
        | Core::Readable(_)
        | Core::Writable(_) => None, // told in other ways
    }
}
