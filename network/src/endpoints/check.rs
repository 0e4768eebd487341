//! What `config check` finds in endpoints and their policies that is well formed and still cannot work.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use adit_policy::{actions::Action, document::Rule, engine::Policy, environment::Phase};

use super::{Draft, Item};
use crate::{
    config::{Config, EndpointConfig, EndpointKind, EndpointUrl},
    policy::PolicyFault,
    router::{Internal, Key, Scheme},
    store::{Acl, Object},
    tls::Place,
};

/// What the database knows.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Each account by its name.
    pub accounts: HashMap<String, i64>,
    /// What was bound within the last 30 days.
    pub endpoints: HashSet<Key>,
    /// What the tokens of an account may bind.
    pub rules: HashMap<i64, Vec<Acl>>,
}

impl Known {
    /// Returns whether the account has had the endpoint, or an agent of it may bind it.
    fn may_have(&self, account: &str, internal: &Internal) -> bool {
        let Some(account) = self.accounts.get(account) else { return false };
        let key = Key::Internal(*account, internal.clone());
        let allowed =
            || self.rules.get(account).is_some_and(|acls| acls.iter().any(|acl| acl.allows(Object::from(&key))));
        self.endpoints.contains(&key) || allowed()
    }
}

impl Draft {
    /// Returns what cannot work, as far as it can be told from the configuration and, if there is one, the database.
    pub fn check(&self, known: Option<&Known>) -> Vec<PolicyFault> {
        let mut faults = Vec::new();
        for Item { endpoint, policy } in &self.items {
            let Some(read) = policy else { continue };
            let fault = |key: String, problem: String, remedy: &str| PolicyFault {
                key,
                ..PolicyFault::whole(&read.file, format!("{}: {problem}", endpoint.url), remedy)
            };
            if endpoint.kind == EndpointKind::Cloud && !answers(endpoint, &read.policy) {
                let remedy = "End it with a rule that always answers, for example forward-internal";
                faults.push(fault(String::new(), "no rule of the policy answers or forwards".to_owned(), remedy));
            }
            for (place, url) in forwards(&read.policy) {
                let Some(target) = Internal::parse(url) else {
                    let problem = format!("`{url}` cannot be an endpoint");
                    faults.push(fault(place, problem, "Write a name below internal, and a port with tcp alone"));
                    continue;
                };
                if target.is_http() != is_http(endpoint) {
                    let problem = format!("{target} carries something else");
                    let remedy = "Forward http and https to http and https, tls and tcp to tls and tcp";
                    faults.push(fault(place, problem, remedy));
                } else if read.policy.tls().next().is_some() && matches!(target, Internal::Name(Scheme::Tls, _)) {
                    let problem = format!("{target} carries TLS of callers, which ends here");
                    faults.push(fault(place, problem, "Forward to tcp://NAME.internal:PORT, or remove terminate-tls"));
                } else if !self.sets(&endpoint.account, &target)
                    && known.is_some_and(|known| !known.may_have(&endpoint.account, &target))
                {
                    let problem = format!("the account {} has no {target}, and no token to bind it", endpoint.account);
                    faults.push(fault(
                        place,
                        problem,
                        "Correct the url or the account, or create a token that allows it",
                    ));
                }
            }
        }
        faults
    }

    fn sets(&self, account: &str, target: &Internal) -> bool {
        let is = |endpoint: &EndpointConfig| {
            endpoint.account == account && endpoint.url == EndpointUrl::Internal(target.clone())
        };
        self.items.iter().any(|item| is(&item.endpoint) && item.endpoint.kind == EndpointKind::Cloud)
    }
}

/// Returns what makes a policy unusable for its endpoint: rules that would never run restrict nobody.
pub(super) fn unusable(
    file: &Path,
    endpoint: &EndpointConfig,
    policy: &Arc<Policy>,
    config: &Config,
) -> Option<PolicyFault> {
    let whole =
        |problem: String, remedy: &str| Some(PolicyFault::whole(file, format!("{}: {problem}", endpoint.url), remedy));
    let place = Place::of(endpoint);
    let ways = match endpoint.tls.with_policy(Some(policy), place) {
        Ok(ways) => ways,
        Err((problem, remedy)) => return whole(problem.to_owned(), remedy),
    };
    if let EndpointUrl::Public(Key::Name(_, name)) = &endpoint.url
        && (place == Place::Here || ways.is_of_octets())
        && !ways.has_certificate()
        && !config.has_certificate(name)
    {
        let remedy = "List one under certificates, set private_ca or acme, or add server_certificate to terminate-tls";
        return whole("the name has no certificate".to_owned(), remedy);
    }
    let phase = [Phase::HttpRequest, Phase::HttpResponse].into_iter().find(|phase| policy.has(*phase))?;
    if is_http(endpoint) {
        return None;
    }
    whole(format!("rules of {} would never run: it carries no requests", phase.name()), "Move them to on_tcp_connect")
}

fn is_http(endpoint: &EndpointConfig) -> bool {
    match &endpoint.url {
        EndpointUrl::Public(Key::Name(scheme, _)) => *scheme != Scheme::Tls,
        EndpointUrl::Public(Key::Port(_) | Key::Internal(..)) => false,
        EndpointUrl::Internal(internal) => internal.is_http(),
    }
}

/// Returns whether some rule may answer in place of an upstream, or forward.
fn answers(endpoint: &EndpointConfig, policy: &Policy) -> bool {
    let phases: &[Phase] =
        if is_http(endpoint) { &[Phase::TcpConnect, Phase::HttpRequest] } else { &[Phase::TcpConnect] };
    let ends = |action: &Action| {
        matches!(
            action,
            Action::ForwardInternal(_)
                | Action::CustomResponse(_)
                | Action::Redirect(_)
                | Action::Deny(_)
                | Action::CloseConnection(_)
        )
    };
    phases.iter().flat_map(|phase| policy.document().rules(*phase)).flat_map(|rule| &rule.actions).any(ends)
}

/// Returns where a policy forwards to, as far as it is the same for every request, and where that stands.
fn forwards(policy: &Policy) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    for phase in Phase::ALL {
        for (at, Rule { actions, .. }) in policy.document().rules(phase).iter().enumerate() {
            for (number, action) in actions.iter().enumerate() {
                if let Action::ForwardInternal(forward) = action
                    && let Some(url) = forward.url.constant()
                {
                    found.push((format!("{}[{at}].actions[{number}]", phase.name()), url));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Rule as AclRule;

    #[test]
    fn a_policy_that_cannot_work_is_found() {
        let forward = |url: &str| {
            format!("on_http_request: [{{actions: [{{type: forward-internal, config: {{url: '{url}'}}}}]}}]")
        };
        let known = Known {
            accounts: HashMap::from([("acme".to_owned(), 7)]),
            endpoints: HashSet::from([Key::parse("7/https://was.internal").unwrap()]),
            rules: HashMap::from([(7, vec![Acl::new(vec![AclRule::parse("bind:may.internal").unwrap()])])]),
        };
        for (url, kind, policy, problem) in [
            (
                "https://a.example",
                "cloud",
                "on_http_request: [{actions: [{type: set-vars, config: {vars: [{a: b}]}}]}]",
                "no rule of the policy answers",
            ),
            (
                "https://a.example",
                "agent",
                "on_http_request: [{actions: [{type: set-vars, config: {vars: [{a: b}]}}]}]",
                "",
            ),
            (
                "https://a.example",
                "cloud",
                "on_http_response: [{actions: [{type: custom-response}]}]",
                "no rule of the policy answers",
            ),
            (
                "https://a.example",
                "cloud",
                "on_http_request: [{actions: [{type: redirect, config: {to: 'https://b.example'}}]}]",
                "",
            ),
            ("https://a.example", "cloud", &forward("https://was.internal"), ""),
            ("https://a.example", "cloud", &forward("https://may.internal"), ""),
            ("https://a.example", "cloud", &forward("https://set.internal"), ""),
            (
                "https://a.example",
                "cloud",
                &forward("https://none.internal"),
                "has no https://none.internal, and no token",
            ),
            ("https://a.example", "cloud", &forward("http://was.internal"), "has no http://was.internal"),
            ("https://a.example", "cloud", &forward("https://${req.host}.internal"), ""),
            ("https://a.example", "cloud", &forward("https://may.internal:444"), "cannot be an endpoint"),
        ] {
            let faults = draft(url, kind, policy).map(|draft| draft.check(Some(&known))).unwrap();
            let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
            assert_eq!(told.is_empty(), problem.is_empty(), "{policy}: {told:?}");
            assert!(told.iter().all(|told| told.contains(problem)), "{policy}: {told:?}");
        }
        let unknown = draft("https://a.example", "cloud", &forward("https://none.internal")).unwrap();
        assert_eq!(unknown.check(None), [], "without a database nobody can say");
    }

    #[test]
    fn rules_that_would_never_run_are_refused_when_they_are_read() {
        for (url, policy, problem) in [
            ("tcp://:5000", "on_http_request: [{actions: [{type: deny}]}]", "rules of on_http_request would never run"),
            ("tls://a.example", "on_http_response: [{actions: [{type: custom-response}]}]", "would never run"),
            ("tls://a.example", "on_tcp_connect: [{actions: [{type: terminate-tls}]}]", "does not end here"),
            ("tcp://:5000", "on_tcp_connect: [{actions: [{type: terminate-tls}]}]", "does not end here"),
        ] {
            let faults = draft(url, "agent", policy).unwrap_err();
            assert!(faults[0].to_string().contains(problem), "{policy}: {faults:?}");
        }
        assert!(draft("tcp://:5000", "agent", "on_tcp_connect: [{actions: [{type: deny}]}]").is_ok());
    }

    /// Whose TLS ends at the network without HTTP inside: no agent was promised anything, and all callers are treated alike.
    #[test]
    fn a_cloud_endpoint_may_end_tls_and_carry_what_it_says_to_what_expects_no_tls() {
        let policy = |rule: &str, url: &str| {
            format!(
                "on_tcp_connect: [{{{rule}actions: [{{type: terminate-tls}}]}}, \
                 {{actions: [{{type: forward-internal, config: {{url: '{url}'}}}}]}}]"
            )
        };
        let found = |url: &str, policy: &str| {
            let faults = draft(url, "cloud", policy).map_or_else(|faults| faults, |draft| draft.check(None));
            faults.iter().map(ToString::to_string).collect::<String>()
        };
        let tls = "tls://a.example";

        assert_eq!(found(tls, &policy("", "tcp://db.internal:5432")), "");
        assert!(found(tls, &policy("", "tls://db.internal")).contains("carries TLS of callers, which ends here"));
        let depends =
            found(tls, &policy("expressions: [\"conn.client_ip == '192.0.2.1'\"], ", "tcp://db.internal:5432"));
        assert!(depends.contains("TLS or not for all callers alike"), "{depends}");
        for url in ["tls://a.internal", "tcp://:5000"] {
            assert!(found(url, &policy("", "tcp://db.internal:5432")).contains("does not end here"), "{url}");
        }
        let ends = |policy: &str| draft(tls, "cloud", policy).unwrap().tls().count();
        assert_eq!(ends(&policy("", "tcp://db.internal:5432")), 1);
        assert_eq!(ends("on_tcp_connect: [{actions: [{type: deny}]}]"), 0, "without the action TLS passes through");
    }

    fn draft(url: &str, kind: &str, policy: &str) -> Result<Draft, Vec<PolicyFault>> {
        let files = Files::new(policy);
        Draft::read(&files.config(url, kind), None)
    }

    struct Files(std::path::PathBuf);

    impl Files {
        fn new(policy: &str) -> Self {
            let name = format!("adit-check-{}-{:?}", std::process::id(), std::thread::current().id());
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("p.yml"), policy).unwrap();
            std::fs::write(folder.join("set.yml"), "on_http_request: [{actions: [{type: deny}]}]").unwrap();
            Self(folder)
        }

        fn config(&self, url: &str, kind: &str) -> Config {
            let text = format!(
                "version: 1\nprivate_ca: ca\ningress: {{listen: '127.0.0.1:1'}}\nhttps: {{listen: '127.0.0.1:2'}}\n\
                 tcp: {{address: 127.0.0.1, ports: [5000]}}\n\
                 endpoints:\n- {{url: '{url}', account: acme, type: {kind}, policy: p.yml}}\n\
                 - {{url: 'https://set.internal', account: acme, policy: set.yml}}\n"
            );
            Config::parse(&text, &self.0, Default::default()).unwrap()
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
