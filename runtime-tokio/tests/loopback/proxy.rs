//! An uplink through a proxy, which is one of a few lines; the agent's end-to-end tests meet real ones.

use core::net::SocketAddr;
use std::{
    io::{Read as _, Write as _, copy},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use super::uplink::{Network, find, wish, within};
use crate::rt::{
    adit::{Bypass, ConnectError, DialError, Proxy, ProxyError, Step, StepTaken, Uplink, UplinkEvent, probe},
    race, run,
};

/// A proxy in threads of its own: it hears one message, says `answer`, and leads to `network`, whatever it was asked for.
struct Server {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Server {
    fn start(network: SocketAddr, talk: &'static [&'static [u8]]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, open) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (record, keep) = (Arc::clone(&heard), Arc::clone(&open));
        thread::spawn(move || {
            for near in listener.incoming() {
                let mut near = near.unwrap();
                for say in talk {
                    let mut buffer = [0; 1_024];
                    let count = near.read(&mut buffer).unwrap(); // a request is one segment on loopback
                    record.lock().unwrap().push(buffer[..count].to_vec());
                    near.write_all(say).unwrap();
                }
                let far = TcpStream::connect(network).unwrap();
                keep.lock().unwrap().push(near.try_clone().unwrap());
                let (mut a, mut b) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = copy(&mut a, &mut b); // it was cut
                    let _ = b.shutdown(Shutdown::Both);
                });
                let (mut a, mut b) = (far, near);
                thread::spawn(move || {
                    let _ = copy(&mut a, &mut b); // it was cut
                    let _ = b.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, heard, open }
    }

    fn proxy(&self, scheme: &str) -> Proxy {
        Proxy::parse(&format!("{scheme}{}", self.address)).unwrap()
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().iter().map(|octets| String::from_utf8_lossy(octets).into_owned()).collect()
    }
}

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

fn words(steps: &[StepTaken]) -> Vec<&'static str> {
    steps.iter().map(|taken| taken.step.word()).collect()
}

#[test]
fn a_session_goes_through_the_proxy_with_a_name_that_only_it_knows_and_so_does_the_next() {
    run(async {
        let mut network = Network::new();
        let server = Server::start(network.address, &[ESTABLISHED]);
        let mut options = network.options();
        options.targets[0].host = "node.only-the-proxy-knows.invalid".into();
        options.connect.proxy = Some(server.proxy("http://user:pass@"));
        let (uplink, mut events) = Uplink::start(options);
        let endpoint = uplink.bind(wish("https://one.example"));
        let mut session = network.session().await;
        session.bound(&[&endpoint]).await;

        let connected = find(&mut events, |event| matches!(event, UplinkEvent::Connected { .. })).await;

        let UplinkEvent::Connected { remote, steps, .. } = connected else { panic!("{connected:?}") };
        assert_eq!((remote, words(&steps)), (server.address, vec!["tcp", "proxy", "tls", "session"]));
        let request = server.heard().remove(0);
        let name = format!("node.only-the-proxy-knows.invalid:{}", network.address.port());
        assert!(request.starts_with(&format!("CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n")), "{request}");
        assert!(request.contains("Proxy-Authorization: Basic dXNlcjpwYXNz\r\n"), "{request}");

        server.open.lock().unwrap()[0].shutdown(Shutdown::Both).unwrap();
        network.session().await;

        assert_eq!(server.heard().len(), 2);
    });
}

#[test]
fn socks_leads_there_as_well() {
    run(async {
        let mut network = Network::new();
        let server = Server::start(network.address, &[b"\x05\x00", b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"]);
        let mut options = network.options();
        options.targets[0].host = "node.invalid".into();
        options.connect.proxy = Some(server.proxy("socks5://"));
        let (_uplink, mut events) = Uplink::start(options);

        network.session().await;

        find(&mut events, |event| matches!(event, UplinkEvent::Connected { .. })).await;
        assert!(server.heard()[1].contains("node.invalid"));
    });
}

#[test]
fn a_refusal_is_told_with_the_proxy_and_without_its_credentials() {
    run(async {
        let network = Network::new();
        let server = Server::start(network.address, &[b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n"]);
        let mut options = network.options();
        options.connect.proxy = Some(server.proxy("http://user:s3cret@"));
        let (_uplink, mut events) = Uplink::start(options);

        let failed = find(&mut events, |event| matches!(event, UplinkEvent::DialFailed { .. })).await;

        let UplinkEvent::DialFailed { error: DialError::Connect(error), steps, .. } = &failed else {
            panic!("{failed:?}")
        };
        let (proxy, offered) = (format!("http://{}", server.address), "Basic".to_owned());
        assert_eq!(*error, ConnectError::Proxy { proxy, error: ProxyError::CredentialsRefused { offered } });
        assert_eq!(steps.last().map(|taken| taken.step), Some(Step::Proxy));
        assert!(!format!("{failed:?} {error}").contains("s3cret"));
    });
}

#[test]
fn what_is_excepted_is_reached_without_the_proxy_and_a_look_shows_no_token() {
    run(async {
        let mut network = Network::new();
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (options, address) = (network.options(), network.address);
        let (target, mut connect) = (&options.targets[0], options.connect.clone());
        let mut proxy = Proxy::parse(&format!("http://{nobody}")).unwrap();
        proxy.bypass = Bypass::parse("127.0.0.0/8");
        connect.proxy = Some(proxy.clone());
        let tls = || (Arc::clone(&options.tls), options.server_name.clone());

        let looked = async { Some(probe(target, &connect, tls(), core::time::Duration::from_secs(20)).await) };
        let served = async {
            network.session().await;
            None
        };
        let found = within(Box::pin(race(looked, served)));
        let found = found.await.expect("nobody asks for a session");
        assert!(found.error.is_none(), "{found:?}");
        assert_eq!((words(&found.steps), found.remote), (vec!["tcp", "tls", "protocol"], Some(address)));
        assert_eq!(found.certificates.len(), 1);

        proxy.bypass = Bypass::default();
        connect.proxy = Some(proxy);
        let found = within(probe(target, &connect, tls(), core::time::Duration::from_secs(20))).await;
        let unreachable = ProxyError::Unreachable(Box::new(ConnectError::Refused { address: nobody }));
        let Some(DialError::Connect(error)) = found.error else { panic!("{found:?}") };
        assert_eq!(error, ConnectError::Proxy { proxy: format!("http://{nobody}"), error: unreachable });
    });
}
