//! Endpoints that the vendor sends by a command: taken or refused, in force beside the customer's own, and withdrawn.

use core::time::Duration;
use std::collections::BTreeSet;

use adit_core::{Code, escape};
use adit_tokio::CommandReply;
use tokio::time::Instant;

use super::{
    Agent, Patience,
    events::{Next, Order},
    places::Places,
};
use crate::{
    audit::{Draft, Hasher},
    config::{Config, EndpointConfig, RemoteManagement, Sent, document, told},
    errors::{Error, Fault},
    remote::{Desk, Document, News, Objection, beside, withheld},
    status::RemoteState,
};

/// What the vendor has sent, and who keeps it.
#[derive(Debug)]
pub(super) struct Remote {
    desk: Desk,
    document: Option<Document>,
    /// Why what is kept is not believed.
    problem: String,
    /// What is being written down.
    pending: Option<Pending>,
    /// When a document was looked at last.
    weighed: Option<Instant>,
}

/// A document that was found good, and whoever waits for the answer.
#[derive(Debug)]
struct Pending {
    /// The keeper's.
    number: u64,
    /// Nothing where all is taken back.
    document: Option<Document>,
    said: String,
    reply: CommandReply,
}

/// What is to be bound, of both sides.
struct Standing {
    wanted: Vec<EndpointConfig>,
    /// The names of those that the vendor has sent.
    remote: BTreeSet<String>,
    /// The names of those that the customer does not take any more.
    withdrawn: BTreeSet<String>,
}

/// What news mean.
pub(super) enum Heard {
    /// A document was taken: its endpoints are to be bound before this is answered.
    Taken(CommandReply),
    /// The customer has removed these.
    Removed(BTreeSet<String>),
    Nothing,
}

/// Why a document is refused: what the vendor is told, and what the customer reads.
struct No {
    code: Code,
    told: String,
    fault: Fault,
    detail: String,
}

impl Remote {
    /// Waits for news of the keeper, where there is one.
    pub(super) async fn next(remote: &mut Option<Self>) -> Option<News> {
        match remote {
            Some(remote) => remote.desk.next().await,
            None => core::future::pending().await,
        }
    }

    fn set(&mut self, found: Result<Option<Document>, String>) {
        (self.document, self.problem) = match found {
            Ok(document) => (document, String::new()),
            Err(problem) => {
                let error = Error::new(Fault::ConfigInvalid, problem);
                tracing::error!(
                    %error,
                    remedy = "Look at it with `adit config remote show`, and remove it with `adit config remote remove`",
                    "what the vendor has sent is not believed: none of it is in force"
                );
                (None, error.to_string())
            }
        };
    }

    fn names(&self) -> BTreeSet<String> {
        let sent = self.document.iter().flat_map(|document| &document.sent);
        sent.map(|sent| sent.endpoint.name.clone()).collect()
    }
}

impl Agent {
    /// Takes endpoints that the vendor sends, where the customer says so: what is kept of them already, and what `desk` will keep.
    #[must_use]
    pub(crate) fn with_remote(mut self, found: Result<Option<Document>, String>, desk: Desk) -> Self {
        let mut remote = Remote { desk, document: None, problem: String::new(), pending: None, weighed: None };
        remote.set(found);
        if let Some(Document { kept, sent }) = &remote.document {
            let held = withheld(self.config.agent.remote_management.configuration, self.guard.policy().as_deref());
            let (sha256, text) = (&kept.print, escape(&kept.said).to_string());
            tracing::info!(endpoints = sent.len(), sha256, text, not_in_force = held, "the vendor has sent endpoints");
            self.guard.note(|| {
                let record = Draft::configuration("sent by the vendor").number("endpoints", sent.len() as u64);
                record.text("sha256", sha256).text("text", &kept.said).maybe("not_in_force", held)
            });
        }
        self.remote = Some(remote);
        self.show_remote();
        self
    }

    /// Decides about a document that the vendor may send, and has it written down.
    pub(super) fn configure(&mut self, order: Order, places: &Places) {
        let Order { document: text, text: said, reply } = order;
        let print = Hasher::of(&self.provider).map(|hasher| hasher.hash(text.as_bytes()).to_string());
        match self.weigh(&text, &said, places) {
            Ok(Some(document)) => {
                let Some(remote) = &mut self.remote else { return };
                let document = (!document.sent.is_empty()).then_some(document);
                match remote.desk.draft(document.as_ref().map(|document| document.kept.clone())) {
                    Some(number) => remote.pending = Some(Pending { number, document, said, reply }),
                    None => self.refuse(&No::unkept("nothing keeps it".to_owned()), (&said, print.as_deref()), reply),
                }
            }
            Ok(None) => {
                tracing::info!(command = "configuration", text = %escape(&said), "remote command obeyed: nothing changes");
                self.guard.note(|| {
                    let record = Draft::command("configuration", &said, "obeyed").text("why", "nothing changes");
                    record.maybe("sha256", print.as_deref())
                });
                self.tell(reply, places, "it was taken before");
            }
            Err(no) => self.refuse(&no, (&said, print.as_deref()), reply),
        }
    }

    /// Returns the document that is to be written down; nothing where it is in force already.
    fn weigh(&mut self, text: &str, said: &str, places: &Places) -> Result<Option<Document>, No> {
        let Some(remote) = &self.remote else {
            return Err(No::unsupported(
                "this agent was started for endpoints that were named, or keeps no state".to_owned(),
            ));
        };
        if remote.pending.is_some() {
            return Err(No::busy("another document is being taken"));
        }
        let known = remote.document.as_ref().filter(|known| known.kept.document == text);
        if let Some(known) = known {
            self.object(&known.sent)?;
            return Ok(None);
        }
        // What it costs to look at one, and to try its endpoints, holds the rest up.
        let now = Instant::now();
        if remote.weighed.is_some_and(|before| now.duration_since(before) < PACE) {
            return Err(No::busy("one document a second is looked at"));
        }
        self.remote.iter_mut().for_each(|remote| remote.weighed = Some(now));
        let sent = document(text).map_err(|faults| {
            let lines: Vec<String> = faults.iter().take(MAX_FAULTS).map(told).collect();
            let told = lines.join("; ");
            No { code: Code::DOCUMENT, detail: told.clone(), told, fault: Fault::ConfigInvalid }
        })?;
        self.object(&sent)?;
        let Some(remote) = &self.remote else { return Ok(None) };
        if remote.document.is_none() && sent.is_empty() && remote.problem.is_empty() {
            return Ok(None);
        }
        places.try_all(sent.iter().map(|sent| &sent.endpoint)).map_err(|(at, error)| {
            let place = sent.get(at).map_or("", |sent| &*sent.place);
            No { told: format!("{place}: it cannot be served here"), ..No::unsupported(format!("{place}: {error}")) }
        })?;
        let kept = remote.desk.file.kept(text.to_owned(), said.to_owned());
        Ok(Some(Document { kept, sent }))
    }

    /// Holds endpoints against the customer's own, and against the policy.
    fn object(&self, sent: &[Sent]) -> Result<(), No> {
        for Sent { endpoint, place } in sent {
            let of_policy = || self.guard.endpoint(endpoint, None).err().and_then(Objection::of_policy);
            let Some(objection) = Objection::of_local(endpoint, &self.config.endpoints).or_else(of_policy) else {
                continue;
            };
            let fault = match objection {
                Objection::Name | Objection::Url => Fault::ConfigInvalid,
                Objection::Policy(_) => Fault::PolicyRefused,
            };
            let (told, detail) = (format!("{place}: {}", objection.told()), format!("{place}: {}", objection.detail()));
            return Err(No { code: objection.code(), told, fault, detail });
        }
        Ok(())
    }

    /// Refuses a document: what the vendor said about it, and its hash.
    fn refuse(&self, no: &No, (said, print): (&str, Option<&str>), reply: CommandReply) {
        let error = Error::new(no.fault, no.detail.clone());
        tracing::warn!(
            command = "configuration", text = %escape(said), %error, remedy = no.fault.entry().remedy, "remote command refused"
        );
        self.guard.note(|| {
            let record = Draft::command("configuration", said, "refused").text("why", &error.to_string());
            record.maybe("sha256", print)
        });
        reply.answer(no.code, &no.told);
    }

    /// Takes news of what is kept, and puts what follows in force.
    pub(super) fn hear(&mut self, news: News, places: &mut Places) -> Next {
        match self.heard(news) {
            Heard::Taken(reply) => {
                let _ = self.settle(places, Patience::Service); // what fails has been told
                self.tell(reply, places, "");
            }
            Heard::Removed(names) => {
                places.withdrawn.extend(names);
                let _ = self.settle(places, Patience::Service); // as above
            }
            Heard::Nothing => {}
        }
        Next::Continue
    }

    /// Answers that a document was taken, if all that it names is asked for.
    fn tell(&self, reply: CommandReply, places: &Places, words: &str) {
        let sent = self.remote.iter().flat_map(|remote| &remote.document).flat_map(|document| &document.sent);
        if sent.map(|sent| &sent.endpoint).all(|endpoint| places.has(endpoint)) {
            reply.answer(Code::NO_ERROR, words); // spec: CMD-007
        } else {
            reply.answer(Code::UNSUPPORTED, "it is kept, and not all of it can be served here at this moment");
        }
    }

    /// Takes news of what is kept.
    pub(super) fn heard(&mut self, news: News) -> Heard {
        let Some(remote) = &mut self.remote else { return Heard::Nothing };
        match news {
            News::Changed(found) => {
                let before = remote.names();
                remote.set(found);
                let after = remote.names();
                tracing::warn!(
                    endpoints = after.len(),
                    "what is kept of the vendor's endpoints was changed on this machine"
                );
                self.guard.note(|| {
                    Draft::configuration("sent by the vendor, changed here").number("endpoints", after.len() as u64)
                });
                self.show_remote();
                Heard::Removed(before.difference(&after).cloned().collect())
            }
            News::Drafted(number, drafted) => {
                if let Some(pending) = remote.pending.take_if(|pending| pending.number == number) {
                    self.drafted(drafted, pending);
                }
                Heard::Nothing
            }
            News::Kept(number, kept) => {
                let Some(pending) = remote.pending.take_if(|pending| pending.number == number) else {
                    return Heard::Nothing;
                };
                self.kept(kept, pending)
            }
        }
    }

    /// A document is written down, and counts for nothing yet; or it could not be.
    fn drafted(&mut self, drafted: Result<(), String>, pending: Pending) {
        let sent = pending.document.as_ref().map_or(&[][..], |document| &document.sent);
        // The customer may have thought otherwise meanwhile. From here on it is in force, or kept until it may be.
        let allowed = self.guard.commands(self.config.agent.remote_management).configuration;
        let no = match drafted {
            Err(why) => Some(No::unkept(why)),
            Ok(()) if !allowed => Some(No::forbidden()),
            Ok(()) => self.object(sent).err(),
        };
        let Some(remote) = &mut self.remote else { return };
        let no = match no {
            None if remote.desk.keep(pending.number) => {
                remote.pending = Some(pending);
                return;
            }
            None => No::unkept("nothing keeps it".to_owned()),
            Some(no) => no,
        };
        remote.desk.forget();
        let print = pending.document.as_ref().map(|document| &*document.kept.print);
        self.refuse(&no, (&pending.said, print), pending.reply);
    }

    /// A document is what is kept, or could not be.
    fn kept(&mut self, kept: Result<(), String>, pending: Pending) -> Heard {
        let Pending { document, said, reply, .. } = pending;
        if let Err(why) = kept {
            let print = document.as_ref().map(|document| &*document.kept.print);
            self.refuse(&No::unkept(why), (&said, print), reply);
            return Heard::Nothing;
        }
        let sent = document.as_ref().map_or(&[][..], |document| &document.sent);
        let Some(remote) = &mut self.remote else { return Heard::Nothing };
        let (endpoints, sha256) = (sent.len(), document.as_ref().map(|document| document.kept.print.clone()));
        remote.document = document;
        remote.problem.clear();
        tracing::warn!(command = "configuration", text = %escape(&said), endpoints, sha256, "remote command obeyed");
        self.guard.note(|| {
            let record = Draft::command("configuration", &said, "obeyed").number("endpoints", endpoints as u64);
            record.maybe("sha256", sha256.as_deref())
        });
        for Sent { endpoint, .. } in remote.document.iter().flat_map(|document| &document.sent) {
            self.guard.note(|| {
                let record = Draft::configuration("sent by the vendor, one of its endpoints");
                let record = record.text("endpoint", &endpoint.name).text("url", &endpoint.url);
                record.text("upstream", &endpoint.upstream.address.to_string()).maybe("sha256", sha256.as_deref())
            });
        }
        Heard::Taken(reply)
    }

    /// Binds what both sides want, and gives up the rest.
    pub(super) fn settle(&self, places: &mut Places, patience: Patience) -> Result<(), Error> {
        let wanted = self.stand(&self.config, places);
        let done = places.update(&wanted, patience);
        places.withdrawn.clear();
        self.show_remote();
        done
    }

    /// Takes another configuration of the customer's.
    ///
    /// # Errors
    /// What is wrong; the one before stays, but for what the vendor may not ask for any more.
    pub(super) fn replace(&mut self, config: Config, places: &mut Places) -> Result<(), Error> {
        let before = self.config.agent.remote_management;
        let both = before.intersect(config.agent.remote_management);
        let wanted = self.stand(&config, places);
        // Without any there must be the vendor's word, or have been: a customer who takes it back may have nothing else.
        let done =
            if config.endpoints.is_empty() && !before.configuration && !config.agent.remote_management.configuration {
                Err(Error::no_endpoints())
            } else {
                places.replace(&wanted)
            };
        places.withdrawn.clear();
        if done.is_ok() {
            self.adopt(config);
        } else if both != before {
            self.config.agent.remote_management = both;
            let _ = self.settle(places, Patience::Service); // what fails has been told
        }
        self.show_remote();
        done
    }

    /// Takes over of another configuration what needs no new start.
    pub(super) fn adopt(&mut self, config: Config) {
        self.config.endpoints = config.endpoints;
        self.config.agent.remote_management = config.agent.remote_management;
    }

    /// Tells places what is whose; returns all that is wanted.
    fn stand(&self, config: &Config, places: &mut Places) -> Vec<EndpointConfig> {
        let Standing { wanted, remote, withdrawn } = self.standing(&config.endpoints, config.agent.remote_management);
        places.remote = remote;
        places.withdrawn.extend(withdrawn);
        wanted
    }

    fn standing(&self, local: &[EndpointConfig], allowed: RemoteManagement) -> Standing {
        let mut standing = Standing { wanted: local.to_vec(), remote: BTreeSet::new(), withdrawn: BTreeSet::new() };
        let Some(remote) = &self.remote else { return standing };
        if withheld(allowed.configuration, self.guard.policy().as_deref()).is_some() {
            standing.withdrawn = remote.names();
            return standing;
        }
        let Some(document) = &remote.document else { return standing };
        let (taken, left_out) = beside(&document.sent, local);
        if !left_out.is_empty() {
            let names: Vec<&str> = left_out.iter().map(|endpoint| endpoint.name.as_str()).collect();
            tracing::error!(
                names = names.join(", "),
                "endpoints that the vendor has sent are left out: the configuration has them"
            );
        }
        for endpoint in taken {
            standing.remote.insert(endpoint.name.clone());
            standing.wanted.push(endpoint.clone());
        }
        standing
    }

    /// Shows what the vendor has sent, and whether it is in force.
    pub(super) fn show_remote(&self) {
        let Some(remote) = &self.remote else { return };
        let Config { agent, endpoints: local, .. } = &self.config;
        let shown = match &remote.document {
            None if remote.problem.is_empty() => None,
            None => Some(RemoteState { problem: remote.problem.clone(), ..RemoteState::default() }),
            Some(Document { kept, sent }) => {
                let held = withheld(agent.remote_management.configuration, self.guard.policy().as_deref());
                let (_, left_out) = beside(sent, local);
                Some(RemoteState {
                    endpoints: sent.len(),
                    print: kept.print.clone(),
                    said: kept.said.clone(),
                    taken: kept.taken,
                    withheld: held.unwrap_or_default().to_owned(),
                    left_out: left_out.into_iter().map(|endpoint| endpoint.name.clone()).collect(),
                    problem: String::new(),
                })
            }
        };
        self.status.change(|board| board.remote = shown);
    }
}

impl No {
    /// The agent may, and cannot.
    const fn unsupported(detail: String) -> Self {
        let told = String::new();
        Self { code: Code::UNSUPPORTED, told, fault: Fault::CommandUnsupported, detail }
    }

    /// There is no place for it.
    fn unkept(detail: String) -> Self {
        Self { told: "this agent cannot keep it".to_owned(), ..Self::unsupported(detail) }
    }

    fn busy(told: &str) -> Self {
        Self { code: Code::BUSY, detail: told.to_owned(), told: told.to_owned(), fault: Fault::CommandUnsupported }
    }

    /// The customer has taken the word back that it was sent upon.
    fn forbidden() -> Self {
        let told = "the customer's policy does not allow it".to_owned();
        let detail = "it was allowed no more when it had been written down".to_owned();
        Self { code: Code::FORBIDDEN, told, fault: Fault::PolicyRefused, detail }
    }
}

/// Documents that come sooner after one another are not looked at.
const PACE: Duration = Duration::from_secs(1);
/// More faults of a document are not told at once.
const MAX_FAULTS: usize = 5;
