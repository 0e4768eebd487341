//! TLS of callers that ends at a running agent.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use core::time::Duration;
use std::{fs, io, path::PathBuf, sync::Arc};

use adit_tokio::Stream;
use proxy_header::{ParseConfig, ProxyHeader};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use support::{Authority, Network, PATIENCE, Rules, Running, Seen, folder, provider, write_config, write_private};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const URL: &str = "https://crm.example";

struct Site {
    folder: PathBuf,
    network: Network,
    upstream: TcpListener,
    /// Who issued the certificate that callers see.
    ca: Authority,
    /// Who issues the certificates of callers.
    clients: Arc<Authority>,
    _agent: Running,
}

impl Site {
    /// `upstream` and `tls` are keys of those sections.
    async fn new(url: &str, upstream: &str, tls: &str) -> Self {
        Self::with_clients(url, upstream, tls, Arc::new(Authority::new("Callers"))).await
    }

    async fn with_clients(url: &str, upstream: &str, tls: &str, clients: Arc<Authority>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (folder, ca) = (folder(), Authority::new("Acme CA"));
        put(&folder, &ca);
        fs::write(folder.join("callers.pem"), clients.pem()).unwrap();
        let mut network = Network::start(Rules::default()).await;
        let port = listener.local_addr().unwrap().port();
        let endpoint = format!(
            "  - name: crm\n    url: {url}\n    upstream: {{ url: 'http://127.0.0.1:{port}'{upstream} }}\n    agent_tls_termination: {{ {tls} }}\n"
        );
        let file = write_config(&folder, &network, "", &endpoint);
        let agent = Running::start(&file);
        network.wait_for(&Seen::Bound(url.into())).await;
        Self { folder, network, upstream: listener, ca, clients, _agent: agent }
    }

    fn client(&self, shown: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>, alpn: &[&str]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.pem().as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match shown {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    async fn call(&self, url: &str, client: &TlsConnector) -> io::Result<TlsStream<Stream>> {
        let name = ServerName::try_from("crm.example").unwrap();
        timeout(PATIENCE, client.connect(name, self.network.open(url))).await.unwrap()
    }

    async fn accept(&self) -> TcpStream {
        timeout(PATIENCE, self.upstream.accept()).await.unwrap().unwrap().0
    }

    /// A caller and its connection to the upstream.
    async fn connected(&self) -> (TlsStream<Stream>, TcpStream) {
        let client = self.client(None, &["http/1.1"]);
        let (tls, socket) = tokio::join!(self.call(URL, &client), self.accept());
        (tls.unwrap(), socket)
    }
}

/// Puts a certificate for the endpoint beside the configuration.
fn put(folder: &std::path::Path, ca: &Authority) {
    let (certificate, key) = ca.issue(&["crm.example"], |_| {});
    let pem = |kind: &str, der: &[u8]| {
        let body = base64(der);
        format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n")
    };
    write_private(&folder.join("crm.key"), &pem("PRIVATE KEY", key.secret_der()));
    write_private(&folder.join("crm.pem"), &pem("CERTIFICATE", &certificate));
}

fn base64(octets: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in octets.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - three.len()));
        for at in 0..4 {
            let letter = char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]);
            text.push(if at > three.len() { '=' } else { letter });
        }
    }
    text
}

#[tokio::test]
async fn octets_inside_the_callers_tls_go_both_ways_and_each_direction_ends_by_itself() {
    let site = Site::new(URL, "", "").await;
    let (mut tls, mut socket) = site.connected().await;
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));

    tls.write_all(b"question").await.unwrap();
    tls.shutdown().await.unwrap();
    let mut question = Vec::new();
    socket.read_to_end(&mut question).await.unwrap();
    socket.write_all(b"answer after the end of the question").await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer).await.unwrap(); // an end that TLS does not say is an error

    assert_eq!((&question[..], &answer[..]), (&b"question"[..], &b"answer after the end of the question"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transfer_in_the_callers_tls_arrives_whole_in_both_directions_at_once() {
    let site = Site::new(URL, "", "").await;
    let (tls, socket) = site.connected().await;
    let data: Arc<Vec<u8>> =
        Arc::new((0..8_u32 << 20).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect());

    let (mut tls_in, mut tls_out) = tokio::io::split(tls);
    let (mut socket_in, mut socket_out) = socket.into_split();
    let (up, down) = (Arc::clone(&data), Arc::clone(&data));
    let send_up = tokio::spawn(async move { tls_out.write_all(&up).await.and(tls_out.shutdown().await) });
    let send_down = tokio::spawn(async move { socket_out.write_all(&down).await.and(socket_out.shutdown().await) });
    let got_up = tokio::spawn(async move {
        let mut got = Vec::new();
        socket_in.read_to_end(&mut got).await.map(|_| got)
    });
    let mut got_down = Vec::new();
    timeout(PATIENCE, tls_in.read_to_end(&mut got_down)).await.unwrap().unwrap();

    assert!(got_down == *data && timeout(PATIENCE, got_up).await.unwrap().unwrap().unwrap() == *data);
    send_up.await.unwrap().unwrap();
    send_down.await.unwrap().unwrap();
}

#[tokio::test]
async fn tls_that_ends_without_a_word_is_no_orderly_end_for_the_upstream() {
    let site = Site::new(URL, "", "").await;
    let (mut tls, mut socket) = site.connected().await;
    tls.write_all(b"part").await.unwrap();
    let mut part = [0; 4];
    socket.read_exact(&mut part).await.unwrap();

    // As whoever is on the path could do it: FIN without close_notify.
    tls.get_mut().0.finish().unwrap();

    let error = timeout(PATIENCE, socket.read(&mut part)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_an_upstream_broke_off_is_no_orderly_end_for_the_caller() {
    let site = Site::new(URL, "", "").await;
    let (mut tls, mut socket) = site.connected().await;
    socket.write_all(b"part").await.unwrap();
    let mut part = [0; 4];
    tls.read_exact(&mut part).await.unwrap();

    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);

    assert!(timeout(PATIENCE, tls.read(&mut part)).await.unwrap().is_err());
}

#[tokio::test]
async fn a_caller_agrees_on_what_the_upstream_speaks_or_on_nothing() {
    let http2 = Site::new(URL, ", protocol: http2", "").await;
    let tls = http2.call(URL, &http2.client(None, &["http/1.1", "h2"])).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let error = http2.call(URL, &http2.client(None, &["http/1.1"])).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "an alert says it: {error}");

    let sealed = Site::new("tls://crm.example", "", "min_version: 1.3").await;
    let tls = sealed.call("tls://crm.example", &sealed.client(None, &["http/1.1"])).await.unwrap();
    assert_eq!(tls.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn only_who_shows_a_certificate_of_the_authorities_reaches_the_upstream_and_is_named_to_it() {
    let site = Site::new(URL, ", proxy_protocol: 2", "mutual_tls_certificate_authorities: callers.pem").await;
    let issued = |authority: &Authority| {
        authority.issue(&[], |params| params.distinguished_name.push(rcgen::DnType::CommonName, "ada"))
    };

    for shown in [None, Some(issued(&Authority::new("Others")))] {
        let (mut word, client) = ([0; 1], site.client(shown, &[]));
        // In TLS 1.3 a client hears of it with the first octets that it reads.
        let refused = match site.call(URL, &client).await {
            Ok(mut tls) => timeout(PATIENCE, tls.read(&mut word)).await.unwrap().map(drop),
            Err(error) => Err(error),
        };
        assert!(refused.unwrap_err().to_string().contains("received fatal alert"), "an alert says it");
    }
    let client = site.client(Some(issued(&site.clients)), &[]);
    let mut tls = site.call(URL, &client).await.unwrap();
    tls.write_all(b"GET").await.unwrap();
    // Whoever was refused reached nothing: this is the first connection.
    let mut socket = site.accept().await;
    let mut octets = vec![0; 4_096];
    let mut length = 0;
    let header = loop {
        let count = timeout(PATIENCE, socket.read(&mut octets[length..])).await.unwrap().unwrap();
        assert!(count > 0, "the first connection is that of who was let in");
        length += count;
        if let Ok((header, size)) = ProxyHeader::parse(&octets[..length], ParseConfig::default())
            && length >= size + 3
        {
            assert_eq!(&octets[size..length], b"GET");
            break header.into_owned();
        }
    };
    let ssl = header.ssl().unwrap();
    assert_eq!((ssl.client_cert_conn(), ssl.verify(), ssl.cn()), (true, 0, Some("ada")));
    assert_eq!(header.proxied_address().unwrap().source, "192.0.2.7:50000".parse().unwrap());
    assert_eq!(header.authority(), Some("crm.example"));
}

#[tokio::test]
async fn when_the_authorities_change_who_is_connected_must_show_its_certificate_anew() {
    let site = Site::new(URL, "", "mutual_tls_certificate_authorities: callers.pem").await;
    let client = site.client(Some(site.clients.issue(&[], |_| {})), &[]);
    let (tls, socket) = tokio::join!(site.call(URL, &client), site.accept());
    let (mut tls, mut socket, mut word) = (tls.unwrap(), socket, [0; 1]);

    fs::write(site.folder.join("callers.pem"), Authority::new("Others").pem()).unwrap();

    assert!(timeout(PATIENCE, tls.read(&mut word)).await.unwrap().is_err());
    let error = timeout(PATIENCE, socket.read(&mut word)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let refused = match site.call(URL, &client).await {
        Ok(mut tls) => timeout(PATIENCE, tls.read(&mut word)).await.unwrap().map(drop),
        Err(error) => Err(error),
    };
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_list_that_revokes_a_certificate_cuts_its_connections_and_nobody_else_s() {
    let clients = Arc::new(Authority::new("Callers"));
    let folder = folder();
    let list = |number, serials: &[u64]| {
        fs::write(folder.join("new"), clients.list(number, serials)).unwrap();
        fs::rename(folder.join("new"), folder.join("callers.crl")).unwrap();
    };
    list(1, &[]);
    let crl = folder.join("callers.crl").display().to_string();
    let keys = format!("mutual_tls_certificate_authorities: callers.pem, mutual_tls_crl: {crl}");
    let site = Site::with_clients(URL, "", &keys, Arc::clone(&clients)).await;
    let client = |serial: u64| {
        let shown = clients.issue(&[], |params| params.serial_number = Some(serial.into()));
        site.client(Some(shown), &[])
    };
    let (good, bad, mut word) = (client(5), client(6), [0; 1]);
    let (tls, socket) = tokio::join!(site.call(URL, &good), site.accept());
    let (mut stays, mut stays_up) = (tls.unwrap(), socket);
    let (tls, socket) = tokio::join!(site.call(URL, &bad), site.accept());
    let (mut cut, mut cut_up) = (tls.unwrap(), socket);

    list(2, &[6]);

    assert!(timeout(PATIENCE, cut.read(&mut word)).await.unwrap().is_err());
    let error = timeout(PATIENCE, cut_up.read(&mut word)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "V31");
    let refused = match site.call(URL, &bad).await {
        Ok(mut tls) => timeout(PATIENCE, tls.read(&mut word)).await.unwrap().map(drop),
        Err(error) => Err(error),
    };
    assert!(refused.unwrap_err().to_string().contains("CertificateRevoked"), "an alert says it");
    stays.write_all(b"x").await.unwrap();
    timeout(PATIENCE, stays_up.read_exact(&mut word)).await.unwrap().unwrap();
    stays_up.write_all(b"y").await.unwrap();
    timeout(PATIENCE, stays.read_exact(&mut word)).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_endpoint_without_its_certificate_is_not_asked_for_until_it_is_there() {
    let (folder, ca) = (folder(), Authority::new("Acme CA"));
    let mut network = Network::start(Rules::default()).await;
    let endpoint = format!(
        "  - name: crm\n    url: {URL}\n    upstream: {{ url: 'http://127.0.0.1:1' }}\n    agent_tls_termination:\n"
    );
    let file = write_config(&folder, &network, "", &endpoint);
    let agent = Running::start(&file);
    let Seen::Session(_) = network.next().await else { panic!("a session comes first") };
    let problem = agent.status.board().endpoints[0].problem.clone();
    assert!(problem.contains("ADIT-1010") && problem.contains("crm.pem"), "{problem}");

    put(&folder, &ca);

    assert_eq!(network.next().await, Seen::Bound(URL.into()));
    assert_eq!(agent.status.board().endpoints[0].tls, adit_core::TlsEnd::Agent);
}
