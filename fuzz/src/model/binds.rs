//! The model of what concerns the session as a whole: two queues on their way, and what each side holds.

use std::collections::{BTreeMap, VecDeque};

use adit_core::{BindId, BindRequest, Code, Event, Withheld};
use bytes::Bytes;

/// Binds and commands of one session.
#[derive(Debug, Default)]
pub(super) struct Binds {
    /// How many requests came.
    serial: u64,
    pub(super) to_network: VecDeque<Up>,
    pub(super) to_agent: VecDeque<Down>,
    /// What each side holds: at the agent, whether it is in force; at the network, the request that waits, if it is not.
    pub(super) at_agent: BTreeMap<u32, bool>,
    pub(super) at_network: BTreeMap<u32, Option<u64>>,
    /// What the network's application has not answered.
    pub(super) requests: Vec<(u64, BindRequest)>,
    /// What the agent's application has not answered.
    pub(super) commands: Vec<u32>,
    /// How many times the network has told which certificates are revoked, and which of them the agent has heard last.
    lists: (u64, u64),
    /// What is withheld: as the agent said, and as the network heard.
    withheld: BTreeMap<String, Code>,
    heard: BTreeMap<String, Code>,
}

/// On its way to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Up {
    Bind(u32),
    Unbind(u32),
    Answer(u32),
}

/// On its way to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Down {
    Bound(u32),
    Rejected(u32),
    Unbound(u32),
    Command(u32),
}

impl Binds {
    /// Takes what the network was told.
    #[expect(clippy::wildcard_enum_match_arm, reason = "what concerns streams is taken elsewhere")]
    pub(super) fn on_network_event(&mut self, event: Event) {
        self.skip();
        let event = match event {
            Event::Withheld(hint) => return self.on_told_hint(hint),
            event => event,
        };
        let told = match event {
            Event::Bind(request) => {
                let id = request.bind().id.0;
                self.serial += 1;
                self.at_network.insert(id, Some(self.serial));
                self.requests.push((self.serial, request));
                Up::Bind(id)
            }
            Event::Unbind(unbind) => {
                self.at_network.remove(&unbind.id.0);
                Up::Unbind(unbind.id.0)
            }
            Event::CommandResult(result) => Up::Answer(result.id),
            other => panic!("the network was told {other:?}"),
        };
        assert_eq!(self.to_network.pop_front(), Some(told), "each message once, in order");
    }

    /// Takes what the agent was told.
    #[expect(clippy::wildcard_enum_match_arm, reason = "what concerns streams is taken elsewhere")]
    pub(super) fn on_agent_event(&mut self, event: Event) {
        if let Event::Revocations(lists) = &event {
            let number = u64::from_be_bytes(lists[..].try_into().expect("as they were told"));
            assert!(self.lists.1 < number && number <= self.lists.0, "never older ones: {number} of {:?}", self.lists);
            self.lists.1 = number;
            return;
        }
        self.skip();
        let told = match event {
            Event::Bound(bound) => {
                self.at_agent.insert(bound.id.0, true);
                Down::Bound(bound.id.0)
            }
            Event::Rejected(no) => {
                self.at_agent.remove(&no.id.0);
                Down::Rejected(no.id.0)
            }
            Event::Unbound(no) => {
                self.at_agent.remove(&no.id.0);
                Down::Unbound(no.id.0)
            }
            Event::Command(request) => {
                self.commands.push(request.id);
                Down::Command(request.id)
            }
            other => panic!("the agent was told {other:?}"),
        };
        assert_eq!(self.to_agent.pop_front(), Some(told), "each message once, in order");
    }

    /// Returns the revocation lists that the network tells next.
    pub(super) fn next_lists(&mut self) -> Bytes {
        self.lists.0 += 1;
        Bytes::copy_from_slice(&self.lists.0.to_be_bytes())
    }

    /// Takes that the agent asks for this number; no answer to an earlier wish for it may be on its way.
    pub(super) fn on_bind(&mut self, id: u32) {
        self.skip();
        let answers = [Down::Bound(id), Down::Rejected(id)];
        let stale = self.to_agent.iter().any(|down| answers.contains(down));
        assert!(!stale, "bind {id} would take an old answer for its own: {self:?}");
        self.at_agent.insert(id, false);
        self.withheld.remove(&super::a_bind(BindId(id)).url); // spec: BIND-021
        self.to_network.push_back(Up::Bind(id));
    }

    /// Takes what the agent says of an endpoint that it does not ask for.
    pub(super) fn on_hint(&mut self, hint: Withheld) {
        _ = if hint.code == Code::NO_ERROR {
            self.withheld.remove(&hint.url)
        } else {
            self.withheld.insert(hint.url, hint.code)
        };
    }

    /// Takes what the network was told of that: of each endpoint the last word counts, and others may be left out.
    fn on_told_hint(&mut self, hint: Withheld) {
        if hint.code == Code::NO_ERROR {
            assert!(self.heard.remove(&hint.url).is_some(), "nothing was withheld: {hint:?}");
        } else {
            self.heard.insert(hint.url, hint.code);
        }
    }

    /// Panics when something has not arrived.
    pub(super) fn assert_complete(&mut self) {
        self.skip();
        assert!(self.to_network.is_empty() && self.to_agent.is_empty(), "RES: not everything arrived: {self:?}");
        assert_eq!(self.withheld, self.heard, "BIND-021");
    }

    /// Nobody is told of what concerns a bind that was given up meanwhile.
    fn skip(&mut self) {
        while let Some(Up::Unbind(id)) = self.to_network.front()
            && !self.at_network.contains_key(id)
        {
            self.to_network.pop_front();
        }
        while let Some(down) = self.to_agent.front() {
            let expected = match down {
                Down::Bound(id) | Down::Rejected(id) => self.at_agent.get(id) == Some(&false),
                Down::Unbound(id) => self.at_agent.get(id) == Some(&true),
                Down::Command(_) => true,
            };
            if expected {
                break;
            }
            self.to_agent.pop_front();
        }
    }
}
