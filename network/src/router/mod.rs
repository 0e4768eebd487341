//! Who serves which endpoint: a table, pure and filled directly on one machine.
//!
//! A session binds endpoints; an endpoint has members, one a session. What is chosen is the agent with the least outstanding
//! requests and connections, the nearer one as long as it is not busy, and of its sessions the one with the least; those that
//! fail are turned away for a while. Sessions are ordered by an epoch: a newer session of the same
//! agent takes an endpoint over from its own ghost at once, and what the ghost does late changes nothing (V41, V97). Sessions
//! of one run of an agent are siblings, which serve an endpoint together.

mod choice;
mod health;
mod index;
mod key;
mod load;
mod owners;
mod watch;

use core::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};
use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
    time::Instant,
};

use adit_core::{AgentId, BindId, SessionId, TlsEnd, UpstreamProtocol};

use crate::{EndpointName, NamePattern};

use choice::Candidate;
use index::Index;
use owners::Owners;
use watch::Outlook;

pub use health::{Budget, Change, Outcome, Pool, Rounds, Rules, Standing};
pub use key::{Internal, Key, Scheme, Wish};
pub use load::{Lease, Load};
pub use owners::Configured;
pub use watch::{Pending, Watch};

/// The table. `H` is what a member is reached by.
#[derive(Debug)]
pub struct Router<H> {
    endpoints: HashMap<Arc<Key>, Endpoint<H>>,
    live: Index,
    /// Endpoints that are set or were bound once, so that their callers hear "no agent" and not "unknown".
    known: Index,
    owners: Owners,
    sessions: BTreeMap<SessionId, SessionRecord>,
    /// How many sessions each agent has, and the connections of all of them.
    agents: HashMap<(i64, AgentId), (usize, Arc<Load>)>,
    /// The connections to all endpoints of each account that has some.
    accounts: HashMap<i64, Arc<Load>>,
    epoch: u64,
    member: u64,
}

/// The identity of one member of one endpoint, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(u64);

impl MemberId {
    #[cfg(test)]
    pub(crate) fn of(number: u64) -> Self {
        Self(number)
    }
}

/// Whose session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The account.
    pub account: i64,
    /// The agent, whose name is its own claim: it counts inside its account only.
    pub agent: AgentId,
    /// The run of the agent.
    pub incarnation: u64,
    /// The session's place among those of the run.
    pub lane: u8,
}

impl Origin {
    /// Returns whether both sessions are of the same agent.
    pub fn is_same_agent(&self, other: &Self) -> bool {
        (self.account, self.agent) == (other.account, other.agent)
    }

    /// Returns whether neither takes anything from the other although they are of the same agent.
    pub fn is_sibling(&self, other: &Self) -> bool {
        self.is_same_agent(other) && self.incarnation == other.incarnation && self.lane != other.lane // spec: AUTH-008
    }
}

/// A bind as a session asks for it.
#[derive(Clone, Debug)]
pub struct BindWish<H> {
    /// The session that asks.
    pub session: SessionId,
    /// The agent's number for it.
    pub bind: BindId,
    /// Whether others may bind it too.
    pub pooling: bool,
    /// What the upstream speaks.
    pub upstream: UpstreamProtocol,
    /// Where TLS of callers ends.
    pub tls_end: TlsEnd,
    /// What the member is reached by.
    pub handle: H,
}

/// Why an endpoint was not bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindError {
    /// Another agent has it, and not both ask for pooling; or it is inside another account's wildcard.
    InUse,
    /// A newer session of the same agent has it.
    Fenced,
    /// The session is not one of the table's.
    NoSession,
}

/// A bind that a newer session of the same agent took over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The session that had it.
    pub session: SessionId,
    /// Its number for it.
    pub bind: BindId,
    /// True when the session has no bind left: a ghost.
    pub empty: bool,
}

/// A bind that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The endpoint.
    pub key: Arc<Key>,
    /// True when nobody is left to serve it.
    pub last: bool,
}

/// A member that was chosen for a connection.
#[derive(Debug)]
pub struct Chosen<H> {
    /// Who.
    pub member: MemberId,
    /// Whose session it is.
    pub agent: AgentId,
    /// Its session's number for the endpoint.
    pub bind: BindId,
    /// What its upstream speaks.
    pub upstream: UpstreamProtocol,
    /// What it is reached by.
    pub handle: H,
    /// Counts as outstanding with the member until dropped.
    pub lease: Lease,
    /// Is told how it goes.
    pub watch: Watch,
}

/// Why nobody was chosen though somebody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Each session carries as much as it may.
    Session,
    /// Each member has as much outstanding as it may.
    Outstanding,
    /// Of each member as many connections wait for its upstream as may.
    Pending,
}

/// One member as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub member: MemberId,
    /// Its session.
    pub session: SessionId,
    /// Whether its session is connected and takes something new.
    pub connected: bool,
    /// Whether it gets requests.
    pub standing: Standing,
    /// Requests and connections that are outstanding.
    pub outstanding: usize,
    /// The way to its agent and back, as measured.
    pub rtt: Option<Duration>,
}

/// What is known about a name or port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Somebody serves it.
    Live(Arc<Key>),
    /// It was served once; nobody is online.
    Idle(Arc<Key>),
    /// Never heard of.
    Unknown,
}

#[derive(Debug)]
struct Endpoint<H> {
    account: i64,
    load: Arc<Load>,
    account_load: Arc<Load>,
    members: Vec<Member<H>>,
    outlook: Arc<Outlook>,
}

#[derive(Debug)]
struct Member<H> {
    id: MemberId,
    session: SessionId,
    origin: Origin,
    epoch: u64,
    pooling: bool,
    accepting: bool,
    bind: BindId,
    upstream: UpstreamProtocol,
    tls_end: TlsEnd,
    load: Arc<Load>,
    /// Connections that its upstream has not taken yet.
    pending: Arc<AtomicUsize>,
    /// When it was chosen last, counted in choices.
    turn: AtomicU64,
    handle: H,
}

#[derive(Debug)]
struct SessionRecord {
    origin: Origin,
    epoch: u64,
    draining: bool,
    /// Whether it waits for its agent.
    parked: bool,
    /// Connections that all binds of the session carry.
    load: Arc<Load>,
    /// Connections that all sessions of the agent carry.
    agent_load: Arc<Load>,
    /// The way to the agent and back in microseconds; 0 until that was measured.
    rtt: AtomicU64,
    binds: BTreeMap<BindId, Arc<Key>>,
}

impl<H> Default for Router<H> {
    fn default() -> Self {
        Self {
            endpoints: HashMap::new(),
            live: Index::default(),
            known: Index::default(),
            owners: Owners::default(),
            sessions: BTreeMap::new(),
            agents: HashMap::new(),
            accounts: HashMap::new(),
            epoch: 0,
            member: 0,
        }
    }
}

impl<H: Clone> Router<H> {
    /// Notes an endpoint that was bound before this process began.
    pub fn remember(&mut self, key: Key) {
        self.owners.bound(&key);
        self.known.insert(&Arc::new(key));
    }

    /// Takes in what the configuration says of endpoints, in place of what it said before. Binds that it takes away are returned:
    /// those of endpoints that their policy serves, and of names that are another account's.
    pub fn configure(&mut self, configured: Vec<Configured>) -> Vec<Replaced> {
        let before = core::mem::take(&mut self.owners);
        before.cloud().for_each(|(key, _)| self.live.remove(key));
        before.forget(&mut self.known);
        self.owners = Owners::new(configured, &mut self.known);
        let lost = self.endpoints.iter().filter(|(key, endpoint)| self.owners.bar(key, endpoint.account));
        let lost: Vec<_> = lost.map(|(key, _)| Arc::clone(key)).collect();
        let taken = self.take_back(&lost);
        self.owners.cloud().for_each(|(key, _)| _ = self.live.insert(key));
        taken
    }

    /// Ends the binds of these endpoints and returns them.
    pub fn take_back(&mut self, lost: &[Arc<Key>]) -> Vec<Replaced> {
        let mut taken = Vec::new();
        for key in lost {
            let members = self.endpoints.get(key).map(|endpoint| &endpoint.members).into_iter().flatten();
            let binds: Vec<_> = members.map(|member| (member.session, member.bind)).collect();
            for (session, bind) in binds {
                self.unbind(session, bind);
                let record = self.sessions.get(&session);
                let empty = record.is_some_and(|record| record.binds.is_empty() && !record.draining);
                taken.push(Replaced { session, bind, empty });
            }
        }
        taken
    }

    /// Takes a session in and returns its epoch.
    pub fn session_began(&mut self, session: SessionId, origin: Origin) -> u64 {
        self.epoch += 1;
        let epoch = self.epoch;
        let (count, agent_load) = self.agents.entry((origin.account, origin.agent)).or_default();
        *count += 1;
        let agent_load = Arc::clone(agent_load);
        let record = SessionRecord {
            origin,
            epoch,
            draining: false,
            parked: false,
            load: Arc::default(),
            agent_load,
            rtt: AtomicU64::new(0),
            binds: BTreeMap::new(),
        };
        self.sessions.insert(session, record);
        epoch
    }

    /// Gives a session no new connections any more and returns its members; what is open goes on.
    pub fn session_drains(&mut self, session: SessionId) -> Vec<MemberId> {
        let Some(record) = self.sessions.get_mut(&session) else { return Vec::new() };
        record.draining = true;
        let mut leaving = Vec::new();
        for key in record.binds.values() {
            let Some(Endpoint { members, outlook, .. }) = self.endpoints.get_mut(key) else { continue };
            for member in members.iter_mut().filter(|member| member.session == session) {
                member.accepting = false;
                outlook.leave(member.id);
                leaving.push(member.id);
            }
        }
        leaving
    }

    /// Notes whether a session waits for its agent, and returns its members: new connections go to others meanwhile.
    pub fn session_parked(&mut self, session: SessionId, parked: bool) -> Vec<MemberId> {
        let Some(record) = self.sessions.get_mut(&session) else { return Vec::new() };
        record.parked = parked;
        let endpoints = record.binds.values().filter_map(|key| self.endpoints.get(key));
        let members = endpoints.flat_map(|endpoint| &endpoint.members);
        members.filter(|member| member.session == session).map(|member| member.id).collect()
    }

    /// Returns the endpoints that a session has bound.
    pub fn bound_by(&self, session: SessionId) -> impl Iterator<Item = &Arc<Key>> {
        self.sessions.get(&session).into_iter().flat_map(|record| record.binds.values())
    }

    /// Takes a session out, with all it bound.
    pub fn session_ended(&mut self, session: SessionId) -> Vec<Ended> {
        let Some(record) = self.sessions.remove(&session) else { return Vec::new() };
        let agent = (record.origin.account, record.origin.agent);
        if let Entry::Occupied(mut sessions) = self.agents.entry(agent) {
            sessions.get_mut().0 -= 1;
            if sessions.get().0 == 0 {
                sessions.remove();
            }
        }
        record.binds.into_iter().map(|(bind, key)| self.leave(key, session, bind)).collect()
    }

    /// Binds an endpoint, taking it over from older sessions of the same agent.
    ///
    /// # Errors
    /// [`BindError`]; the table is then as before.
    pub fn bind(&mut self, key: Key, wish: BindWish<H>) -> Result<(MemberId, Vec<Replaced>), BindError> {
        let record = self.sessions.get(&wish.session).ok_or(BindError::NoSession)?;
        let (origin, epoch, draining) = (record.origin, record.epoch, record.draining);
        let account = origin.account;
        if self.owners.bar(&key, account) {
            return Err(BindError::InUse);
        }
        let given = self.owners.of(&key) == Some(account);
        if !given && self.inside_foreign_wildcard(&key, account) {
            return Err(BindError::InUse);
        }
        let endpoint = self.endpoints.get(&key);
        if endpoint.is_some_and(|endpoint| endpoint.account != account) {
            return Err(BindError::InUse);
        }
        for member in endpoint.map_or(&[][..], |endpoint| &endpoint.members) {
            let same = member.origin.is_same_agent(&origin);
            if same && !member.origin.is_sibling(&origin) && member.epoch > epoch {
                return Err(BindError::Fenced);
            }
            let shared = member.pooling && wish.pooling; // spec: BIND-003
            if member.session == wish.session || (!same && !shared) {
                return Err(BindError::InUse);
            }
        }
        if self.ends_tls_elsewhere(&key, &wish, &origin) {
            return Err(BindError::InUse); // spec: BIND-019
        }

        let replaced = self.displace(&key, &origin); // spec: BIND-003
        self.member += 1;
        let id = MemberId(self.member);
        let key = match self.endpoints.get_key_value(&key) {
            Some((key, _)) => Arc::clone(key),
            None => Arc::new(key),
        };
        self.live.insert(&key);
        self.known.insert(&key);
        self.owners.bound(&key);
        let endpoint = self.endpoints.entry(Arc::clone(&key)).or_insert_with(|| Endpoint {
            account,
            load: Arc::default(),
            account_load: Arc::clone(self.accounts.entry(account).or_default()),
            members: Vec::new(),
            outlook: Arc::default(),
        });
        endpoint.account = account;
        if !draining {
            endpoint.outlook.join(id);
        }
        endpoint.members.push(Member {
            id,
            session: wish.session,
            origin,
            epoch,
            pooling: wish.pooling,
            accepting: !draining,
            bind: wish.bind,
            upstream: wish.upstream,
            tls_end: wish.tls_end,
            load: Arc::default(),
            pending: Arc::default(),
            turn: AtomicU64::new(endpoint.outlook.turn()), // the last in turn
            handle: wish.handle,
        });
        if let Some(record) = self.sessions.get_mut(&wish.session) {
            record.binds.insert(wish.bind, key);
        }
        Ok((id, replaced))
    }

    /// Ends one bind; nothing happens when the session does not have it (any more).
    pub fn unbind(&mut self, session: SessionId, bind: BindId) -> Option<Ended> {
        let key = self.sessions.get_mut(&session)?.binds.remove(&bind)?;
        Some(self.leave(key, session, bind))
    }

    /// Ends those binds of a session that `allowed` does not allow any more, and returns their numbers.
    pub fn recheck(&mut self, session: SessionId, allowed: impl Fn(&Key) -> bool) -> Vec<(BindId, Ended)> {
        let Some(record) = self.sessions.get_mut(&session) else { return Vec::new() };
        let lost = record.binds.iter().filter(|(_, key)| !allowed(key));
        let lost: Vec<_> = lost.map(|(bind, _)| *bind).collect();
        lost.into_iter().filter_map(|bind| Some((bind, self.unbind(session, bind)?))).collect()
    }

    /// Finds the endpoint of a name: the exact one before the nearest wildcard.
    pub fn find_name(&self, scheme: Scheme, name: &EndpointName) -> Found {
        self.found(|index| index.names[scheme as usize].find(name))
    }

    /// Finds the endpoint of a TCP port.
    pub fn find_port(&self, port: u16) -> Found {
        self.found(|index| index.ports.get(&port))
    }

    /// Finds what an account calls so, for its policies alone.
    pub fn find_internal(&self, account: i64, internal: &Internal) -> Found {
        let key = Key::Internal(account, internal.clone());
        self.found(|index| index.internal.get(&key))
    }

    /// Notes how long the way to a session's agent and back was. The least counts, which grows slowly: what is more waited.
    pub fn measured(&self, session: SessionId, rtt: Duration) {
        let Some(record) = self.sessions.get(&session) else { return };
        let micros = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX).max(1);
        let least = record.rtt.load(Ordering::Relaxed);
        let known = if least == 0 { micros } else { micros.min(least.saturating_add(least / 8).saturating_add(1)) };
        record.rtt.store(known, Ordering::Relaxed);
    }

    /// Chooses, among the members that are not in `exclude` and not full, the one that has least to do, as far as they are well.
    ///
    /// `most` bounds what one session carries.
    pub fn choose(
        &self,
        key: &Key,
        exclude: &[MemberId],
        most: usize,
        rules: &Rules,
        now: Instant,
    ) -> Option<Chosen<H>> {
        let endpoint = self.endpoints.get(key)?;
        if exclude.is_empty() {
            endpoint.outlook.asked();
        }
        let fits = |member: &&Member<H>| {
            !exclude.contains(&member.id) && self.serves(member) && self.full(member, most, rules).is_none()
        };
        let (id, member, trial) = endpoint.outlook.choose(rules, exclude.is_empty(), now, |qualifies| {
            let members = endpoint.members.iter().filter(fits).filter(|member| qualifies(member.id));
            let candidates = members.filter_map(|member| Some((self.candidate(member)?, member)));
            choice::best(candidates).map(|member| (member.id, member))
        })?;
        member.turn.store(endpoint.outlook.turn(), Ordering::Relaxed);
        let session = self.sessions.get(&member.session)?;
        let loads = [&member.load, &session.load, &session.agent_load, &endpoint.load, &endpoint.account_load];
        let lease = Lease::new(loads.map(Arc::clone));
        Some(Chosen {
            member: id,
            agent: member.origin.agent,
            bind: member.bind,
            upstream: member.upstream,
            handle: member.handle.clone(),
            lease,
            watch: Watch::new(&endpoint.outlook, id, trial, &member.pending),
        })
    }

    /// Returns why none of the members that are not in `exclude` can be chosen, if there are any: what one of them has too much
    /// of.
    pub fn why_full(&self, key: &Key, exclude: &[MemberId], most: usize, rules: &Rules) -> Option<Full> {
        let members = self.endpoints.get(key).map_or(&[][..], |endpoint| &endpoint.members);
        let others = members.iter().filter(|member| !exclude.contains(&member.id) && self.serves(member));
        others.filter_map(|member| self.full(member, most, rules)).next()
    }

    fn full(&self, member: &Member<H>, most: usize, rules: &Rules) -> Option<Full> {
        let session = self.sessions.get(&member.session)?;
        if most <= session.load.open() {
            Some(Full::Session)
        } else if rules.outstanding <= member.load.open() {
            Some(Full::Outstanding)
        } else if rules.pending <= member.pending.load(Ordering::Relaxed) {
            Some(Full::Pending)
        } else {
            None
        }
    }

    fn candidate(&self, member: &Member<H>) -> Option<Candidate> {
        let session = self.sessions.get(&member.session)?;
        // spec: AUTH-008
        Some(Candidate {
            agent: session.agent_load.open(),
            session: session.load.open(),
            rtt: session.rtt(),
            turn: member.turn.load(Ordering::Relaxed),
        })
    }

    /// Takes in what a probe of a member found.
    pub fn probed(&self, key: &Key, member: MemberId, well: bool, rounds: Rounds) -> Option<Change> {
        self.endpoints.get(key)?.outlook.handle_probe(member, well, rounds)
    }

    /// Returns the members of an endpoint whose sessions are connected and take something new, for probes.
    pub fn connected(&self, key: &Key) -> Vec<(MemberId, BindId, UpstreamProtocol, H)> {
        let members = self.endpoints.get(key).map_or(&[][..], |endpoint| &endpoint.members);
        let members = members.iter().filter(|member| self.serves(member));
        members.map(|member| (member.id, member.bind, member.upstream, member.handle.clone())).collect()
    }

    /// Returns whether an endpoint has a member that is connected and well.
    pub fn is_ready(&self, key: &Key, rules: &Rules, now: Instant) -> bool {
        let fine = |endpoint: &Endpoint<H>| {
            let mut members = endpoint.members.iter().filter(|member| self.serves(member));
            members.any(|member| endpoint.outlook.standing(member.id, rules, now) == Standing::Fine)
        };
        self.endpoints.get(key).is_some_and(fine)
    }

    /// Returns the members of an endpoint as an operator sees them.
    pub fn see(&self, key: &Key, rules: &Rules, now: Instant) -> Vec<Seen> {
        let Some(endpoint) = self.endpoints.get(key) else { return Vec::new() };
        let seen = |member: &Member<H>| Seen {
            member: member.id,
            session: member.session,
            connected: self.serves(member),
            standing: endpoint.outlook.standing(member.id, rules, now),
            outstanding: member.load.open(),
            rtt: self.sessions.get(&member.session).and_then(SessionRecord::rtt),
        };
        endpoint.members.iter().map(seen).collect()
    }

    /// Returns true when the endpoint has a member that is not in `exclude`.
    pub fn has_other(&self, key: &Key, exclude: &[MemberId]) -> bool {
        let members = self.endpoints.get(key).map_or(&[][..], |endpoint| &endpoint.members);
        members.iter().any(|member| self.serves(member) && !exclude.contains(&member.id))
    }

    /// Returns true when somebody serves the endpoint who waits for an agent that may come back.
    pub fn has_parked(&self, key: &Key) -> bool {
        let members = self.endpoints.get(key).map_or(&[][..], |endpoint| &endpoint.members);
        members.iter().any(|member| member.accepting && !self.serves(member))
    }

    fn serves(&self, member: &Member<H>) -> bool {
        member.accepting && self.sessions.get(&member.session).is_some_and(|session| !session.parked)
    }

    /// Returns the connections that an endpoint has open, and those of all endpoints of its account.
    pub fn open(&self, key: &Key) -> (usize, usize) {
        self.endpoints.get(key).map_or((0, 0), |endpoint| (endpoint.load.open(), endpoint.account_load.open()))
    }

    /// Returns whose an endpoint is that somebody serves.
    pub fn owner(&self, key: &Key) -> Option<i64> {
        let bound = self.endpoints.get(key).map(|endpoint| endpoint.account);
        bound.or_else(|| self.owners.of_cloud(key))
    }

    /// Returns the binds of a session.
    pub fn binds(&self, session: SessionId) -> usize {
        self.sessions.get(&session).map_or(0, |record| record.binds.len())
    }

    /// Returns the endpoints that somebody serves, or their policy.
    pub fn live(&self) -> impl Iterator<Item = (&Arc<Key>, i64)> {
        let bound = self.endpoints.iter().map(|(key, endpoint)| (key, endpoint.account));
        bound.chain(self.owners.cloud())
    }

    fn found<'a>(&'a self, find: impl Fn(&'a Index) -> Option<&'a Arc<Key>>) -> Found {
        match (find(&self.live), find(&self.known)) {
            (Some(key), _) => Found::Live(Arc::clone(key)),
            (None, Some(key)) => Found::Idle(Arc::clone(key)),
            (None, None) => Found::Unknown,
        }
    }

    /// Returns whether a bind would change where TLS of callers ends while somebody serves the name who stays.
    fn ends_tls_elsewhere(&self, key: &Key, wish: &BindWish<H>, origin: &Origin) -> bool {
        let stays = |member: &Member<H>| {
            let replaced = member.origin.is_same_agent(origin) && !member.origin.is_sibling(origin);
            member.session == wish.session || !replaced
        };
        let members = |key: &Key| self.endpoints.get(key).map_or(&[][..], |endpoint| &endpoint.members);
        let said = |end: TlsEnd| end != TlsEnd::Unsaid;
        let differs = |member: &Member<H>| said(member.tls_end) && said(wish.tls_end) && member.tls_end != wish.tls_end;
        members(key).iter().any(|member| stays(member) && differs(member))
            || key.with_other_tls().is_some_and(|other| members(&other).iter().any(stays))
    }

    /// A name beats a wildcard of its own account only: the nearest wildcard above must not be another's (V77).
    fn inside_foreign_wildcard(&self, key: &Key, account: i64) -> bool {
        let Key::Name(_, name) = key else { return false };
        let (NamePattern::Exact(base) | NamePattern::Below(base)) = name;
        let above: Vec<_> = base.parents().filter_map(|parent| EndpointName::parse(parent).ok()).collect();
        Scheme::ALL.iter().any(|scheme| {
            let covering = above
                .iter()
                .find_map(|parent| self.endpoints.get(&Key::Name(*scheme, NamePattern::Below(parent.clone()))));
            covering.is_some_and(|endpoint| endpoint.account != account)
        })
    }

    fn displace(&mut self, key: &Key, origin: &Origin) -> Vec<Replaced> {
        let Some(Endpoint { members, outlook, .. }) = self.endpoints.get_mut(key) else { return Vec::new() };
        let mut replaced = Vec::new();
        members.retain(|member| {
            let ghost = member.origin.is_same_agent(origin) && !member.origin.is_sibling(origin);
            if ghost {
                outlook.leave(member.id);
                replaced.push((member.session, member.bind));
            }
            !ghost
        });
        let mut done = Vec::with_capacity(replaced.len());
        for (session, bind) in replaced {
            let Some(record) = self.sessions.get_mut(&session) else { continue };
            record.binds.remove(&bind);
            done.push(Replaced { session, bind, empty: record.binds.is_empty() && !record.draining });
        }
        done
    }

    fn leave(&mut self, key: Arc<Key>, session: SessionId, bind: BindId) -> Ended {
        let Some(endpoint) = self.endpoints.get_mut(&key) else { return Ended { key, last: true } };
        endpoint.members.retain(|member| {
            let leaves = (member.session, member.bind) == (session, bind);
            if leaves {
                endpoint.outlook.leave(member.id);
            }
            !leaves
        });
        let last = endpoint.members.is_empty();
        if last {
            let account = endpoint.account;
            self.endpoints.remove(&key);
            // Connections that go on are counted there, too: a new endpoint of the account counts on.
            if self.accounts.get(&account).is_some_and(|load| Arc::strong_count(load) == 1) {
                self.accounts.remove(&account);
            }
            self.live.remove(&key);
        }
        Ended { key, last }
    }
}

impl SessionRecord {
    fn rtt(&self) -> Option<Duration> {
        let micros = self.rtt.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }
}

#[cfg(test)]
mod tests;
