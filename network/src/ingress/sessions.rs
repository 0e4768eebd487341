//! The sessions that live, and how many there may be.

use core::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use adit_core::{AgentId, Code, Hello, SessionId};
use adit_tokio::NetworkSession;
use parking_lot::Mutex;

use crate::{
    config::Limits,
    router::Origin,
    store::{Acl, unix_millis},
};

/// Every session that lives.
#[derive(Debug, Default)]
pub struct Sessions {
    table: Mutex<HashMap<SessionId, Entry>>,
    begun: AtomicU64,
    parked: Mutex<Parked>,
}

/// The sessions that wait for their agents, the longest first.
#[derive(Debug, Default)]
struct Parked {
    order: BTreeMap<u64, (SessionId, i64)>,
    places: HashMap<SessionId, u64>,
    count: u64,
}

/// Whose session it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The token's public id.
    pub token: String,
    /// The account's name.
    pub account: String,
    /// The agent, and the place among its sessions.
    pub origin: Origin,
    /// What may be bound.
    pub acl: Acl,
    /// What is told of it to whoever asks which agents are there.
    pub about: About,
}

/// What an agent says of itself, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Where it connects from.
    pub address: SocketAddr,
    /// Name and version of its program.
    pub software: String,
    /// Text of its owner.
    pub metadata: String,
    /// When the session began: milliseconds since 1970.
    pub began: i64,
}

#[derive(Debug)]
struct Entry {
    member: Member,
    session: Option<NetworkSession>,
    /// Its number in the order of their beginnings.
    number: u64,
    /// Who issued the certificate that the agent was shown last, as certificates have it.
    issuer: Option<Arc<[u8]>>,
}

/// A place among the sessions. Dropping it frees it.
#[derive(Debug)]
pub struct Place {
    sessions: Arc<Sessions>,
    id: SessionId,
}

impl Sessions {
    /// Takes a place for a session. Those that [`Self::release`] would end do not count.
    ///
    /// # Errors
    /// The name of the limit that is reached.
    pub fn enter(self: &Arc<Self>, id: SessionId, member: Member, limits: &Limits) -> Result<Place, &'static str> {
        let mut table = self.table.lock();
        let gives_way = |entry: &Entry| entry.gives_way(&member.origin);
        let count = |same: &dyn Fn(&Member) -> bool| {
            table.values().filter(|entry| same(&entry.member) && !gives_way(entry)).count()
        };
        // The one that is nearest to the agent is named.
        if count(&|other| other.token == member.token) >= limits.sessions_per_token {
            return Err("sessions_per_token");
        }
        if count(&|other| other.origin.account == member.origin.account) >= limits.sessions_per_account {
            return Err("sessions_per_account");
        }
        if count(&|_| true) >= limits.sessions {
            return Err("sessions");
        }
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        table.insert(id, Entry { member, session: None, number, issuer: None });
        drop(table);
        Ok(Place { sessions: Arc::clone(self), id })
    }

    /// Notes how a session is reached.
    pub fn begin(&self, id: SessionId, session: NetworkSession) {
        if let Some(entry) = self.table.lock().get_mut(&id) {
            entry.session = Some(session);
        }
    }

    /// Notes who issued the certificate that the agent was shown.
    pub fn note_issuer(&self, id: SessionId, issuer: Option<Arc<[u8]>>) {
        if let Some(entry) = self.table.lock().get_mut(&id) {
            entry.issuer = issuer;
        }
    }

    /// Returns how a session is reached, and who issued the certificate that its agent was shown, if that is known.
    pub fn shown(&self, id: SessionId) -> Option<(NetworkSession, Arc<[u8]>)> {
        let table = self.table.lock();
        let entry = table.get(&id)?;
        Some((entry.session.clone()?, entry.issuer.clone()?))
    }

    /// Returns the name of every session.
    pub fn ids(&self) -> Vec<SessionId> {
        self.table.lock().keys().copied().collect()
    }

    /// Returns whose session it is.
    pub fn member(&self, id: SessionId) -> Option<Member> {
        self.table.lock().get(&id).map(|entry| entry.member.clone())
    }

    /// Returns how a session is reached.
    pub fn get(&self, id: SessionId) -> Option<NetworkSession> {
        self.table.lock().get(&id).and_then(|entry| entry.session.clone())
    }

    /// Notes where an agent connects from.
    pub fn moved(&self, id: SessionId, address: SocketAddr) {
        if let Some(entry) = self.table.lock().get_mut(&id) {
            entry.member.about.address = address;
        }
    }

    /// Returns, of each of these agents that is connected, the session that began last.
    pub fn of_agents(&self, wanted: &HashSet<(i64, AgentId)>) -> HashMap<(i64, AgentId), (SessionId, NetworkSession)> {
        let mut newest: HashMap<(i64, AgentId), (u64, SessionId, NetworkSession)> = HashMap::new();
        let table = self.table.lock();
        for (id, entry) in table.iter().filter(|_| !wanted.is_empty()) {
            let agent = (entry.member.origin.account, entry.member.origin.agent);
            let Some(session) = entry.session.as_ref().filter(|_| wanted.contains(&agent)) else { continue };
            if !session.is_parked() && newest.get(&agent).is_none_or(|(number, ..)| *number < entry.number) {
                newest.insert(agent, (entry.number, *id, session.clone()));
            }
        }
        newest.into_iter().map(|(agent, (_, id, session))| (agent, (id, session))).collect()
    }

    /// Returns the tokens that are in use, each once.
    pub fn tokens(&self) -> Vec<String> {
        let mut tokens: Vec<_> = self.table.lock().values().map(|entry| entry.member.token.clone()).collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    /// Returns the sessions of a token.
    pub fn of_token(&self, token: &str) -> Vec<(SessionId, NetworkSession)> {
        let table = self.table.lock();
        let entries = table.iter().filter(|(_, entry)| entry.member.token == token);
        entries.filter_map(|(id, entry)| Some((*id, entry.session.clone()?))).collect()
    }

    /// Returns every session that has begun.
    pub fn all(&self) -> Vec<(SessionId, NetworkSession)> {
        let table = self.table.lock();
        table.iter().filter_map(|(id, entry)| Some((*id, entry.session.clone()?))).collect()
    }

    /// Replaces what the sessions of a token may bind; returns whether that changed anything.
    pub fn set_acl(&self, token: &str, acl: &Acl) -> bool {
        let mut changed = false;
        for entry in self.table.lock().values_mut().filter(|entry| entry.member.token == token) {
            changed |= entry.member.acl != *acl;
            entry.member.acl = acl.clone();
        }
        changed
    }

    /// Announces the end to every session; one that waits for its agent ends at once.
    pub fn drain(&self) {
        let sessions: Vec<_> = self.table.lock().values().filter_map(|entry| entry.session.clone()).collect();
        for session in sessions {
            if session.is_parked() {
                session.close(Code::SHUTDOWN, "the node stops");
            } else {
                session.drain(Code::SHUTDOWN, None, "the node stops");
            }
        }
    }

    /// Notes that a session waits for its agent. While more than `most` wait, the one that has waited longest ends, of the
    /// account that has most of them. Returns how many ended.
    pub fn park(&self, id: SessionId, most: usize) -> usize {
        let Some(account) = self.member(id).map(|member| member.origin.account) else { return 0 };
        let mut parked = self.parked.lock();
        parked.remove(id);
        let place = parked.count;
        parked.count += 1;
        parked.order.insert(place, (id, account));
        parked.places.insert(id, place);
        let waiting: Vec<_> =
            if parked.order.len() > most { parked.order.values().copied().collect() } else { Vec::new() };
        drop(parked);
        let waiting: Vec<_> = waiting.into_iter().map(|(id, account)| (id, account, 1)).collect();
        self.end(&excess(&waiting, most as u64))
    }

    /// Notes that a session waits no more.
    pub fn unpark(&self, id: SessionId) {
        self.parked.lock().remove(id);
    }

    /// Ends sessions that wait until the others keep no more than `most` octets: of the account that keeps most, the one that
    /// has waited longest. Returns how many ended.
    pub fn weigh(&self, most: u64) -> usize {
        let waiting: Vec<_> = self.parked.lock().order.values().copied().collect();
        let weight = |id: SessionId| {
            let stats = self.get(id).map(|session| session.stats()).unwrap_or_default();
            stats.queued.saturating_add(stats.retained)
        };
        let waiting: Vec<_> = waiting.into_iter().map(|(id, account)| (id, account, weight(id))).collect();
        self.end(&excess(&waiting, most))
    }

    /// Ends the sessions of an agent that wait for it and are not siblings of the one that it has begun.
    pub fn release(&self, begun: &Origin) {
        let table = self.table.lock();
        let old = table.values().filter(|entry| entry.gives_way(begun));
        let sessions: Vec<_> = old.filter_map(|entry| entry.session.clone()).collect();
        drop(table);
        for session in sessions {
            session.close(Code::REPLACED, "the agent began a new session");
        }
    }

    fn end(&self, sessions: &[SessionId]) -> usize {
        let waiting = sessions.iter().filter_map(|id| self.get(*id)).filter(NetworkSession::is_parked);
        waiting.map(|session| session.close(Code::LIMIT, "too many sessions wait for their agents")).count()
    }

    /// Ends every session at once.
    pub fn close(&self) {
        let sessions: Vec<_> = self.table.lock().values().filter_map(|entry| entry.session.clone()).collect();
        for session in sessions {
            session.close(Code::SHUTDOWN, "the node stops");
        }
    }

    /// Returns how many wait for their agents.
    pub fn parked(&self) -> usize {
        self.parked.lock().order.len()
    }

    /// Returns how many there are.
    pub fn count(&self) -> usize {
        self.table.lock().len()
    }
}

impl About {
    /// Takes what an agent says at the beginning of its session.
    pub fn new(hello: &Hello, address: SocketAddr) -> Self {
        let (software, metadata) = (hello.software.clone(), hello.metadata.clone());
        Self { address, software, metadata, began: unix_millis() }
    }
}

impl Entry {
    /// Returns whether the session waits for an agent that begins another one, of which it is no sibling.
    fn gives_way(&self, begun: &Origin) -> bool {
        let origin = &self.member.origin;
        origin.is_same_agent(begun)
            && !origin.is_sibling(begun)
            && self.session.as_ref().is_some_and(NetworkSession::is_parked)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sessions.table.lock().remove(&self.id);
        self.sessions.unpark(self.id);
    }
}

impl Parked {
    fn remove(&mut self, id: SessionId) {
        if let Some(place) = self.places.remove(&id) {
            self.order.remove(&place);
        }
    }
}

/// Returns whom to give up so that the weights of the others are `most` together at the most. `waiting` are sessions with
/// their accounts and weights, those first that have waited longest. Who takes most gives first: no account can push out
/// what another keeps.
fn excess(waiting: &[(SessionId, i64, u64)], most: u64) -> Vec<SessionId> {
    let mut accounts: BTreeMap<i64, (u128, VecDeque<(SessionId, u128)>)> = BTreeMap::new();
    let mut total = 0;
    for (id, account, weight) in waiting {
        let (sum, sessions) = accounts.entry(*account).or_default();
        let weight = u128::from(*weight);
        *sum += weight;
        total += weight;
        sessions.push_back((*id, weight));
    }
    let mut given_up = Vec::new();
    while total > u128::from(most)
        && let Some((sum, sessions)) = accounts.values_mut().max_by_key(|(sum, _)| *sum)
        && let Some((id, weight)) = sessions.pop_front()
    {
        *sum -= weight;
        total -= weight;
        given_up.push(id);
    }
    given_up
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_most_gives_first_and_of_it_what_has_waited_longest() {
        let id = |number| SessionId([number; 16]);
        type Row<'a> = (&'a [(u8, i64, u64)], u64, &'a [u8]);
        let table: [Row<'_>; 6] = [
            (&[(1, 1, 5), (2, 2, 5)], 10, &[]),
            (&[(1, 1, 1), (2, 2, 1), (3, 2, 1)], 2, &[2]),
            (&[(1, 1, 10), (2, 2, 40), (3, 2, 40), (4, 3, 5)], 60, &[2]),
            (&[(1, 1, 10), (2, 2, 9), (3, 1, 10), (4, 1, 10)], 20, &[1, 3]),
            (&[(1, 1, 7), (2, 2, 8)], 0, &[2, 1]),
            (&[(1, 1, u64::MAX), (2, 2, u64::MAX)], 1, &[2, 1]),
        ];
        for (waiting, most, expected) in table {
            let waiting: Vec<_> =
                waiting.iter().map(|(number, account, weight)| (id(*number), *account, *weight)).collect();
            let expected: Vec<_> = expected.iter().map(|number| id(*number)).collect();
            assert_eq!(excess(&waiting, most), expected, "{waiting:?} {most}");
        }
    }

    #[test]
    fn so_many_sessions_are_let_in_and_not_one_more() {
        let sessions = Arc::new(Sessions::default());
        let limits = Limits { sessions: 4, sessions_per_account: 3, sessions_per_token: 2, ..Limits::default() };
        let enter = |id, token: &str, account| {
            let origin = Origin { account, agent: AgentId::default(), incarnation: 1, lane: 0 };
            let (address, none) = (SocketAddr::from(([127, 0, 0, 1], 1)), String::new);
            let about = About { address, software: none(), metadata: none(), began: 0 };
            let member = Member { token: token.to_owned(), account: none(), origin, acl: Acl::default(), about };
            sessions.enter(SessionId([id; 16]), member, &limits)
        };

        let first = enter(1, "a", 1);
        let kept = [enter(2, "a", 1), enter(4, "b", 1), enter(6, "d", 2)];
        assert!(first.is_ok() && kept.iter().all(Result::is_ok));
        assert_eq!(enter(3, "a", 1).err(), Some("sessions_per_token"));
        assert_eq!(enter(5, "c", 1).err(), Some("sessions_per_account"));
        assert_eq!(enter(7, "e", 3).err(), Some("sessions"));

        drop(first);
        assert!(enter(8, "a", 1).is_ok());
    }
}
