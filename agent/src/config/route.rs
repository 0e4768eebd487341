//! How the network is reached: `dns_resolver_ips`, `proxy_url`, and the variables that programs share for proxies.

use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;

use adit_tokio::{Bypass, Proxy};

use super::{
    ProxyConfig, ProxyRoots,
    section::{Overrides, Section},
};

/// Reads the DNS servers: addresses, with a port or without.
pub(super) fn resolvers(section: &mut Section<'_, '_>) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for scalar in section.scalars(RESOLVERS) {
        match server(&scalar.text) {
            Some(server) if servers.len() < MAX_SERVERS => servers.push(server),
            Some(_) => {
                section.reject(RESOLVERS, &scalar, "more than 8 servers", "Keep those that are nearest");
            }
            None => {
                let problem = format!("`{}` is not an address", scalar.text.escape_debug());
                section.reject(RESOLVERS, &scalar, &problem, "Write 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53");
            }
        }
    }
    servers
}

fn server(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    address.or_else(|_| text.parse()).ok().filter(|server| server.port() != 0 && !server.ip().is_unspecified())
}

/// Reads the proxy: that of `proxy_url`, or without it the one of the variables that programs share. `NO_PROXY` holds for both.
///
/// A URL may hold a password: no fault repeats it.
pub(super) fn proxy(section: &mut Section<'_, '_>) -> Option<ProxyConfig> {
    let roots = section.scalar("proxy_cas").filter(|scalar| scalar.text != "host");
    let roots = roots.map_or(ProxyRoots::Host, |scalar| ProxyRoots::File(section.file_of("proxy_cas", &scalar)));
    let scalar = section.scalar("proxy_url");
    let shared = section.shared();
    let no_proxy = ["NO_PROXY", "no_proxy"].iter().find_map(|name| shared.get(*name)).map_or("", String::as_str);
    let bypass = Bypass::parse(no_proxy);
    let (source, read, bypass) = match &scalar {
        Some(scalar) if matches!(scalar.text.as_str(), "none" | "direct") => return None,
        Some(scalar) => ("agent.proxy_url", Proxy::parse(&scalar.text), bypass),
        None => {
            let (name, url) = SHARED.iter().find_map(|name| Some((*name, shared.get(*name)?)))?;
            // As others who read them do: what is on this machine needs no proxy that was named for all programs.
            (name, Proxy::parse(url), bypass.and_loopback())
        }
    };
    let mut proxy = match (read, &scalar) {
        (Ok(proxy), _) => proxy,
        (Err(error), Some(scalar)) => {
            let remedy = "Write http://proxy.example.com:3128, https://… or socks5://…, user:password@ before the host";
            section.reject("proxy_url", scalar, &format!("not a proxy's URL: {error}"), remedy);
            return None;
        }
        (Err(error), None) => {
            let remedy = "Correct the variable, or set agent.proxy_url: none";
            section.reject_source(source, &format!("not a proxy's URL: {error}"), remedy);
            return None;
        }
    };
    proxy.bypass = bypass;
    Some(ProxyConfig { proxy, roots, source })
}

/// Returns what the process's environment says to all programs about proxies.
pub(super) fn shared_variables() -> BTreeMap<String, String> {
    let names = SHARED.iter().chain(&["NO_PROXY", "no_proxy"]);
    let set = names.filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    set.filter(|(_, value)| !value.trim().is_empty()).collect()
}

impl Overrides {
    /// Sets a variable that programs share for proxies, such as `HTTPS_PROXY`.
    #[cfg(test)]
    pub(crate) fn share(&mut self, name: &str, value: &str) {
        self.shared.insert(name.to_owned(), value.to_owned());
    }
}

/// In the order in which they count.
const SHARED: &[&str] = &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const RESOLVERS: &str = "dns_resolver_ips";
/// More servers are not asked.
const MAX_SERVERS: usize = 8;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{AgentConfig, Config, ConfigFault, Text};

    fn parse(agent: &str, shared: &[(&str, &str)]) -> Result<AgentConfig, Vec<ConfigFault>> {
        let mut overrides = Overrides::default();
        for (name, value) in shared {
            overrides.share(name, value);
        }
        let text = Text { text: format!("version: 1\nagent:\n{agent}"), mode: Some(0o600) };
        Config::parse(&[PathBuf::from("adit.yml")], &[text], &overrides).map(|config| config.agent)
    }

    fn proxy(agent: &str, shared: &[(&str, &str)]) -> Option<(String, &'static str)> {
        parse(agent, shared).unwrap().proxy.map(|config| (config.proxy.to_string(), config.source))
    }

    #[test]
    fn the_configuration_comes_before_the_variables_and_those_in_their_order() {
        let all = [
            ("HTTPS_PROXY", "http://a:1"),
            ("https_proxy", "http://b:2"),
            ("ALL_PROXY", "socks5://c:3"),
            ("all_proxy", "d:4"),
        ];
        let told = |url: &str, source| Some((url.to_owned(), source));

        assert_eq!(proxy("  proxy_url: socks5h://x:9\n", &all), told("socks5://x:9", "agent.proxy_url"));
        assert_eq!(proxy("", &all), told("http://a:1", "HTTPS_PROXY"));
        assert_eq!(proxy("", &all[1..]), told("http://b:2", "https_proxy"));
        assert_eq!(proxy("", &all[2..]), told("socks5://c:3", "ALL_PROXY"));
        assert_eq!(proxy("", &all[3..]), told("http://d:4", "all_proxy"));
        assert_eq!(proxy("", &[]), None);
        assert_eq!(proxy("  proxy_url: none\n", &all), None);
    }

    #[test]
    fn no_proxy_holds_for_both_and_this_machine_needs_no_proxy_that_all_programs_share() {
        let carries = |agent: &str, shared: &[(&str, &str)], host: &str| {
            parse(agent, shared).unwrap().proxy.unwrap().proxy.carries(host, 443)
        };
        let (named, list) = ("  proxy_url: http://x:9\n", ("no_proxy", "example.com,10.0.0.0/8"));
        let shared = ("HTTPS_PROXY", "http://a:1");

        for (agent, shared) in [(named, &[list][..]), ("", &[shared, list])] {
            assert!(!carries(agent, shared, "node.example.com"));
            assert!(!carries(agent, shared, "10.1.2.3"));
            assert!(carries(agent, shared, "example.org"));
        }
        assert!(carries(named, &[list], "localhost"));
        assert!(!carries("", &[shared], "localhost"));
    }

    #[test]
    fn what_is_wrong_with_a_proxy_is_told_and_its_password_is_not() {
        let faults = parse("  proxy_url: http://u:s3cret@pro xy\n", &[]).unwrap_err();
        let text = faults[0].to_string();
        assert!(
            text.starts_with("adit.yml:3:") && text.contains("agent.proxy_url: not a proxy's URL: the host"),
            "{text}"
        );
        assert!(!format!("{faults:?}").contains("s3cret"), "{faults:?}");

        let faults = parse("", &[("ALL_PROXY", "socks4://u:s3cret@proxy")]).unwrap_err();
        let text = faults[0].to_string();
        assert!(
            text.starts_with("ALL_PROXY: not a proxy's URL: SOCKS 4") && text.contains("proxy_url: none"),
            "{text}"
        );
        assert!(!text.contains("s3cret"), "{text}");

        let config = parse("  proxy_url: http://u:s3cret@proxy\n", &[]).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
    }

    #[test]
    fn servers_are_addresses_with_a_port_or_without() {
        let servers =
            parse("  dns_resolver_ips: [192.0.2.53, '192.0.2.54:5353', '::1', '[::1]', '[2001:db8::53]:54']\n", &[]);
        let expected = ["192.0.2.53:53", "192.0.2.54:5353", "[::1]:53", "[::1]:53", "[2001:db8::53]:54"];
        assert_eq!(servers.unwrap().resolvers, expected.map(|server| server.parse().unwrap()));
        for bad in ["dns.example.com", "0.0.0.0", "1.2.3.4:0", "::"] {
            let text = parse(&format!("  dns_resolver_ips: ['{bad}']\n"), &[]).unwrap_err()[0].to_string();
            assert!(text.contains(&format!("`{bad}` is not an address")), "{text}");
        }
    }
}
