//! From a name to a socket.

use core::{future::poll_fn, time::Duration};
use std::net::TcpListener;

use adit_core::driver::Transport;

use crate::rt::{
    AsyncReadExt,
    adit::{ConnectError, ConnectOptions, Io, connect},
    bind, dial, nodelay, run, timeout,
};

#[test]
fn a_name_is_resolved_and_the_socket_is_set() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();

        for host in ["localhost", "127.0.0.1"] {
            let stream = connect(host, port, &ConnectOptions::default()).await.expect(host);
            assert!(nodelay(&stream));
        }
    });
}

#[test]
fn an_ipv6_address_may_stand_in_brackets() {
    run(async {
        let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
        let port = listener.local_addr().unwrap().port();

        for host in ["[::1]", "::1"] {
            connect(host, port, &ConnectOptions::default()).await.expect(host);
        }
    });
}

#[test]
fn a_port_without_a_listener_refuses() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);

        let error = connect("127.0.0.1", address.port(), &ConnectOptions::default()).await.unwrap_err();

        assert_eq!(error, ConnectError::Refused { address });
        assert_eq!(error.to_string(), format!("{address} refused the connection"));
    });
}

#[test]
fn a_name_that_does_not_exist_is_said_to_be_that() {
    run(async {
        let error = connect("does-not-exist.invalid", 1, &ConnectOptions::default()).await.unwrap_err();

        assert!(matches!(&error, ConnectError::Resolve { host, .. } if host == "does-not-exist.invalid"), "{error:?}");
    });
}

#[test]
fn a_transport_that_is_closed_ends_for_its_peer_and_still_reads() {
    run(async {
        let listener = bind().await;
        let near = dial(listener.local_addr().unwrap()).await;
        let (mut far, _) = listener.accept().await.unwrap();

        let mut io = Io(near);
        poll_fn(|cx| io.poll_close(cx)).await.unwrap();

        let ended = timeout(Duration::from_secs(20), far.read(&mut [0])).await;
        assert_eq!(ended.expect("in time").unwrap(), 0);
        drop(far);
        assert_eq!(poll_fn(|cx| io.poll_read(cx, &mut [0])).await.unwrap(), 0);
    });
}
