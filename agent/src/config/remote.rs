//! A document of endpoints that the vendor sends by a command: what it may say, and what only the customer says.

use super::{
    ConfigFault, EndpointConfig, Overrides,
    read::{self, Author},
    section::{Context, Section},
    yaml::{self, Node, Value},
};

/// An endpoint of a document, and where it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) endpoint: EndpointConfig,
    /// As faults say it: `line 3, column 5: endpoints[0]`.
    pub(crate) place: String,
}

/// Reads a document. It names no file of this machine, switches no check off, and says nothing of the agent itself.
///
/// # Errors
/// Every fault, in the order of lines. There is no document that is valid in part.
pub(crate) fn document(text: &str) -> Result<Vec<Sent>, Vec<ConfigFault>> {
    let overrides = Overrides::default();
    let context = Context::new(&[], &overrides);
    let tree = yaml::parse_plain(text, MAX_NODES).map_err(|(place, problem)| {
        let mut fault = super::fault(std::path::Path::new(""), Some(place), &problem, "Correct the YAML there");
        fault.file = None;
        vec![fault]
    })?;
    let says_endpoints = says_endpoints(&tree);
    let mut root = Section::new(&context, String::new(), Some(tree));
    match root.scalar("version") {
        Some(version) if version.text != "1" => {
            let problem = format!("version `{}` is not known", version.text.escape_debug());
            root.reject("version", &version, &problem, "Write `version: 1`");
        }
        Some(_) => {}
        None => root.missing("version", "a document needs its version", "Write `version: 1`"),
    }
    root.bar("agent", "a document says nothing of the agent itself", "Remove it: the customer's own file says that");
    if !says_endpoints {
        root.missing(
            "endpoints",
            "nothing says which there are to be",
            "Write `endpoints: []` to take all of them back",
        );
    }
    let (mut sent, mut before) = (Vec::new(), Vec::new());
    for section in root.sections("endpoints") {
        if before.len() == MAX_ENDPOINTS {
            section.missing("", "there are too many endpoints", &format!("Send at most {MAX_ENDPOINTS}"));
            break;
        }
        let place = section.told();
        if let Some(endpoint) = read::endpoint(section, &before, Author::Vendor) {
            before.push(endpoint.clone());
            sent.push(Sent { endpoint, place });
        }
    }
    root.finish();
    let faults = context.finish();
    if faults.is_empty() { Ok(sent) } else { Err(faults) }
}

/// Tells a fault of a document: where, what, and what to do.
pub(crate) fn told(fault: &ConfigFault) -> String {
    let at = match (fault.line, fault.column) {
        (Some(line), Some(column)) => format!("line {line}, column {column}: "),
        _ => String::new(),
    };
    let key = if fault.key.is_empty() { String::new() } else { format!("{}: ", fault.key) };
    format!("{at}{key}{}. {}", fault.problem, fault.remedy)
}

/// Returns whether the key stands there with something behind it: an empty one may be a list that was commented out.
fn says_endpoints(tree: &Node) -> bool {
    let Value::Map(entries) = &tree.value else { return false };
    entries.iter().any(|(key, _, node)| key == "endpoints" && node.value != Value::Null)
}

/// More endpoints are not taken.
const MAX_ENDPOINTS: usize = 64;
/// More values and keys are not read: 64 endpoints with all that can be said of one have fewer.
const MAX_NODES: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Address, Kind};

    fn faults(text: &str) -> Vec<String> {
        document(text).unwrap_err().iter().map(told).collect()
    }

    fn with(keys: &str) -> String {
        format!("version: 1\nendpoints:\n  - name: crm\n    url: https://crm.example.com\n{keys}")
    }

    #[test]
    fn a_document_says_endpoints_and_where_they_lead() {
        let text = with(
            "    pooling_enabled: true\n    metadata: m\n    description: d\n    upstream:\n      url: https://crm.corp:8443\n      \
             protocol: http2\n      proxy_protocol: 2\n      connect_timeout: 2s\n  - { name: db, url: 'tcp://:5432', upstream: { url: 'unix:/run/db.sock' } }\n",
        );

        let sent = document(&text).unwrap();

        let endpoints: Vec<_> = sent.iter().map(|sent| (&*sent.endpoint.name, sent.endpoint.kind)).collect();
        assert_eq!(endpoints, [("crm", Kind::Http), ("db", Kind::Tcp)]);
        assert_eq!(sent[1].endpoint.upstream.address, Address::Unix("/run/db.sock".into()));
        assert_eq!(sent[0].place, "line 3, column 5: endpoints[0]");
        assert_eq!(document("version: 1\nendpoints: []\n"), Ok(Vec::new()));
    }

    #[test]
    fn what_only_the_customer_says_is_refused_with_its_key_line_and_column() {
        let crm = "    upstream: { url: 'http://crm.corp:80' }\n";
        let inside = |keys: &str| with(&format!("    upstream:\n      url: https://crm.corp\n      {keys}\n"));
        for (text, told) in [
            (format!("agent: {{ authtoken: x }}\n{}", with(crm)), "line 1, column 1: agent: a document says nothing"),
            (format!("agent:\n  connect_url: evil:1\n{}", with(crm)), "line 1, column 1: agent: "),
            (inside("ca: /etc/shadow"), "line 7, column 7: endpoints[0].upstream.ca: only the customer"),
            (inside("insecure: true"), "line 7, column 7: endpoints[0].upstream.insecure: only the customer"),
            (inside("insecure: false"), "line 7, column 7: endpoints[0].upstream.insecure: only the customer"),
            (
                with(&format!("{crm}    agent_tls_termination: {{ server_private_key: /etc/ssl/k.pem }}\n")),
                "line 6, column 5: endpoints[0].agent_tls_termination: only the customer",
            ),
            (
                with(&format!("{crm}    agent_tls_termination:\n")),
                "line 6, column 5: endpoints[0].agent_tls_termination",
            ),
            (
                with(&format!("{crm}    policy: /etc/adit/policy.yml\n")),
                "line 6, column 5: endpoints[0].policy: unknown key",
            ),
            (format!("{}log: /etc/cron.d/x\n", with(crm)), "line 6, column 1: log: unknown key"),
            ("endpoints: []\n".to_owned(), "version: a document needs its version"),
            ("version: 2\nendpoints: []\n".to_owned(), "line 1, column 10: version: version `2` is not known"),
            ("version: 1\n".to_owned(), "endpoints: nothing says which there are to be"),
            ("version: 1\nendpoints:\n".to_owned(), "endpoints: nothing says which there are to be"),
            (String::new(), "version: a document needs its version"),
            ("version: 1\nendpoints: [\n".to_owned(), "line "),
            (format!("{}{}", with(crm), &with(crm)[22..]), "there are two endpoints `crm`"),
            (format!("{}{}", with(crm), &with(crm)[22..].replace("crm", "CRM")), "there are two endpoints `CRM`"),
            (
                format!(
                    "{}{}",
                    with(crm),
                    &with(crm)[22..].replace("name: crm", "name: x").replace("crm.ex", "CRM.ex")
                ),
                "line 7, column 10: endpoints[1].url: endpoint `crm` has this URL",
            ),
        ] {
            let faults = faults(&text);
            assert!(faults.iter().any(|fault| fault.contains(told)), "{told}\n{faults:?}\n{text}");
        }
    }

    #[test]
    fn one_endpoint_more_than_may_be_is_too_many() {
        let many = |count: usize| {
            let lines =
                (0..count).map(|n| format!("  - {{ name: e{n}, url: 'tcp://:{}', upstream: {{ url: 80 }} }}\n", n + 1));
            format!("version: 1\nendpoints:\n{}", lines.collect::<String>())
        };

        assert_eq!(document(&many(MAX_ENDPOINTS)).map(|sent| sent.len()), Ok(MAX_ENDPOINTS));
        assert!(faults(&many(MAX_ENDPOINTS + 1))[0].contains("endpoints[64]: there are too many endpoints"));
    }

    /// A few octets of them stand for any number of values.
    #[test]
    fn a_document_is_as_long_as_it_looks() {
        let of_each = ["1", "[a, b]", "{ a: b }"].map(|value| {
            [
                format!("version: 1\nendpoints: []\nx: &x {value}\n"),
                format!("version: 1\nendpoints: []\n? &x {value}\n: 1\n"),
                format!("version: 1\nendpoints: []\nx: !mine {value}\n"),
            ]
        });
        let alone = [
            "x: *x\n".to_owned(),
            "version: 1\nendpoints: []\n<<: { x: 1 }\n".to_owned(),
            "version: 1\nendpoints: []\n!!merge <<: { x: 1 }\n".to_owned(),
            format!("version: 1\nendpoints: []\nx: [{}]\n", "a,".repeat(MAX_NODES)),
        ];
        for text in of_each.into_iter().flatten().chain(alone) {
            let faults = faults(&text);
            assert!(faults.len() == 1 && faults[0].contains("Correct the YAML there"), "{text:.80}\n{faults:?}");
        }
    }

    #[test]
    fn what_is_barred_is_so_however_it_comes() {
        assert!(document(&with("    upstream: { url: 'https://a:1', \"ca\": x }\n")).is_err());
    }
}
