//! Fetches a list by plain HTTP, by the way that sessions take: what is fetched is signed, and that is what counts. One request a
//! connection, bounded in every way.

use core::net::{IpAddr, Ipv4Addr};
use std::{io, time::SystemTime};

use adit_tokio::{Forward, connect, resolve};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{
    MAX_LIST,
    answer::{MAX_HEAD, body},
    times::date_of,
};
use crate::{
    config::{ListUrl, is_forbidden},
    route::Route,
};

/// What a URL led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fetched {
    pub(super) list: Result<Vec<u8>, String>,
    /// Which time the answer names, in seconds since 1970, and when it was asked for and heard.
    pub(super) dated: Option<(i64, (SystemTime, SystemTime))>,
}

impl ListUrl {
    /// Fetches it. `names_itself` is a certificate's own word for where to go: that is public, or one of `hosts`.
    pub(super) async fn get(&self, names_itself: bool, hosts: &[String], route: &Route) -> Result<Fetched, String> {
        let is_ours = hosts.iter().any(|host| host.eq_ignore_ascii_case(&self.host));
        let may = |ip: &IpAddr| {
            let ip = ip.to_canonical();
            !names_itself || !is_forbidden(ip) && (is_ours || is_public(ip))
        };
        let nowhere =
            || format!("{} has no address that a certificate may send this agent to; set agent.crl_url", self.host);
        if route.proxy(&self.host, self.port).is_some() {
            // What the name is for the proxy nobody here knows. What it is here must be good, if it is anything.
            let here = if names_itself && !is_ours || self.host.parse::<IpAddr>().is_ok() {
                resolve(&self.host, &route.connect).await.unwrap_or_default()
            } else {
                Vec::new()
            };
            if !here.iter().all(may) {
                return Err(nowhere());
            }
            let (io, forward) = route.reach_http(&self.host, self.port).await?;
            return self.ask(io, forward.as_ref(), route).await;
        }
        let found = resolve(&self.host, &route.connect).await.map_err(|error| error.to_string())?;
        let mut last = nowhere();
        for address in found.iter().filter(|ip| may(ip)).take(MAX_ADDRESSES) {
            match connect(&address.to_string(), self.port, &route.connect).await {
                Ok(socket) => return self.ask(socket, None, route).await,
                Err(error) => last = route.told(&error),
            }
        }
        Err(last)
    }

    /// Asks the server, or the proxy that passes it on: the whole URL then.
    async fn ask(
        &self,
        mut io: impl AsyncRead + AsyncWrite + Unpin,
        forward: Option<&Forward>,
        route: &Route,
    ) -> Result<Fetched, String> {
        let failed = |error: io::Error| error.to_string();
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let host = if self.port == 80 { host } else { format!("{host}:{}", self.port) };
        let origin = forward.map(|_| format!("http://{host}")).unwrap_or_default();
        // HTTP/1.0: the answer ends with the connection, and comes in one piece. A copy on the way may be older than one in force.
        let mut request = format!(
            "GET {origin}{} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: adit/{}\r\nAccept: application/pkix-crl\r\n\
             Cache-Control: no-cache\r\nConnection: close\r\n",
            self.target,
            env!("CARGO_PKG_VERSION"),
        )
        .into_bytes();
        if let Some(forward) = forward {
            forward.authorize(&mut request);
        }
        request.extend_from_slice(b"\r\n");
        let asked = SystemTime::now();
        let written = io.write_all(&request).await;
        request.fill(0); // a password may be in it
        written.map_err(failed)?;
        io.flush().await.map_err(failed)?;
        let mut octets = Vec::new();
        let mut io = io.take((MAX_HEAD + MAX_LIST + 1) as u64);
        io.read_buf(&mut octets).await.map_err(failed)?;
        let heard = SystemTime::now(); // the list may take its time
        io.read_to_end(&mut octets).await.map_err(failed)?;
        if let Some(refusal) = forward.and_then(|forward| forward.refusal(&octets)) {
            return Err(route.told(&refusal));
        }
        let dated = date_of(&octets).map(|named| (named, (asked, heard)));
        Ok(Fetched { list: body(&octets).map(<[u8]>::to_vec), dated })
    }
}

/// Returns whether an address is not one of a network behind a door.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            let is_here = v4.is_loopback() || a == 0 || v4 == Ipv4Addr::BROADCAST;
            !(is_here || is_shared || v4.is_private() || v4.is_link_local() || v4.is_multicast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.is_multicast())
        }
    }
}

const MAX_ADDRESSES: usize = 8;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{net::TcpListener, sync::mpsc};

    use super::*;

    fn route(agent: &str) -> Route {
        let config = crate::testing::config(&format!("version: 1\nagent:\n  connect_url: node.example.com\n{agent}"));
        Route::new(&config.agent, &Arc::new(rustls::crypto::aws_lc_rs::default_provider())).unwrap()
    }

    /// Answers each request with `answer` and tells what was asked.
    async fn server(answer: &'static str) -> (u16, mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (told, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n")
                    && socket.read_buf(&mut request).await.is_ok_and(|count| count > 0)
                {}
                told.send(String::from_utf8(request).unwrap()).unwrap();
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (port, asked)
    }

    fn url(host: &str, port: u16) -> ListUrl {
        ListUrl { host: host.to_owned(), port, target: "/list".to_owned() }
    }

    const LIST: &str = "HTTP/1.0 200 OK\r\n\r\nlist";

    #[tokio::test]
    async fn what_is_inside_is_asked_by_the_customer_s_word_or_where_the_network_is_and_not_by_a_certificate_s() {
        let (port, _asked) = server(LIST).await;
        let (url, direct) = (url("127.0.0.1", port), route(""));

        let refused = url.get(true, &["192.0.2.1".to_owned()], &direct).await.unwrap_err();
        assert!(refused.contains("no address that a certificate may send this agent to"), "{refused}");
        assert_eq!(url.get(true, &["127.0.0.1".to_owned()], &direct).await.unwrap().list.as_deref(), Ok(&b"list"[..]));
        assert_eq!(url.get(false, &[], &direct).await.unwrap().list.as_deref(), Ok(&b"list"[..]));
    }

    #[tokio::test]
    async fn a_proxy_for_http_gets_the_whole_request_and_who_asks() {
        let (port, mut asked) = server(LIST).await;
        let proxied = route(&format!("  proxy_url: http://u:s3cret@127.0.0.1:{port}\n"));

        assert_eq!(url("crl.invalid", 80).get(false, &[], &proxied).await.unwrap().list.as_deref(), Ok(&b"list"[..]));
        let request = asked.recv().await.unwrap();
        assert!(request.starts_with("GET http://crl.invalid/list HTTP/1.0\r\nHost: crl.invalid\r\n"), "{request}");
        assert!(request.contains("\r\nProxy-Authorization: Basic dTpzM2NyZXQ=\r\n"), "{request}");
        url("::1", 81).get(false, &[], &proxied).await.unwrap();
        assert!(asked.recv().await.unwrap().starts_with("GET http://[::1]:81/list HTTP/1.0\r\nHost: [::1]:81\r\n"));
    }

    #[tokio::test]
    async fn a_proxy_s_refusal_is_told_by_its_code_and_without_credentials() {
        let (port, _asked) = server("HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n").await;
        let problem = |login: &str| {
            let proxied = route(&format!("  proxy_url: http://{login}127.0.0.1:{port}\n"));
            async move { url("crl.invalid", 80).get(false, &[], &proxied).await.unwrap_err() }
        };

        let wanted = problem("").await;
        assert_eq!(wanted, "ADIT-1132: proxy wants credentials: it wants a user and a password; it offers Basic");
        let refused = problem("u:s3cret@").await;
        assert!(refused.starts_with("ADIT-1133: ") && !refused.contains("s3cret"), "{refused}");
    }

    #[tokio::test]
    async fn a_certificate_sends_no_proxy_inside_either() {
        let (port, mut asked) = server(LIST).await;
        // Nobody answers about names.
        let proxied = route(&format!("  proxy_url: http://127.0.0.1:{port}\n  dns_resolver_ips: 127.0.0.1:9\n"));

        for host in ["10.0.0.1", "localhost", "169.254.169.254", "::1"] {
            let refused = url(host, 80).get(true, &[], &proxied).await.unwrap_err();
            assert!(refused.contains("no address that a certificate may send this agent to"), "{refused}");
        }
        assert!(asked.try_recv().is_err());
        // Nobody here knows it, and the proxy may; and where the network is, that may be inside.
        url("crl.invalid", 80).get(true, &[], &proxied).await.unwrap();
        url("localhost", 80).get(true, &["localhost".to_owned()], &proxied).await.unwrap();
    }

    #[test]
    fn a_certificate_sends_the_agent_to_no_address_behind_a_door() {
        for (address, public) in [
            ("192.0.66.1", true),
            ("2001:4860::1", true),
            ("10.1.2.3", false),
            ("127.0.0.1", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("100.64.0.1", false),
            ("169.254.169.254", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("::1", false),
            ("fd00::1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }
}
