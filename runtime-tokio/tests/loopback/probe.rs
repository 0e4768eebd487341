//! A look at whoever agrees on TLS and on the name of the protocol: only a network of it passes for one.

use core::time::Duration;
use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

use adit_core::{
    Cause, Code, Hello, Message as _, Refusal,
    frame::{Encoded, HEADER, Kind},
};
use rustls::{ServerConnection, StreamOwned};

use super::{tls::configs, uplink::within};
use crate::rt::{
    adit::{ConnectOptions, DialError, Probe, SetupError, StepResult, Target, probe},
    run,
};

/// What the other end does with what it hears.
#[derive(Clone, Debug)]
enum Answer {
    Octets(Vec<u8>),
    /// What was heard.
    Echo,
    Leave,
    Nothing,
}

/// Looks at a server that speaks TLS 1.3 and `adit/1`; returns what was found, and the HELLO.
async fn look(answer: Answer, limit: Duration) -> (Probe, Option<Hello>) {
    let (client, server) = configs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut tls = StreamOwned::new(ServerConnection::new(server).unwrap(), socket);
        let mut heard = vec![0; 4_096];
        let count = tls.read(&mut heard).unwrap_or_default(); // one record
        heard.truncate(count);
        let _ = match answer {
            Answer::Octets(octets) => tls.write_all(&octets).and_then(|()| tls.flush()),
            Answer::Echo => tls.write_all(&heard).and_then(|()| tls.flush()),
            Answer::Leave => {
                tls.conn.send_close_notify();
                tls.flush()
            }
            Answer::Nothing => tls.read(&mut [0]).map(drop),
        };
        heard.get(HEADER..).and_then(|payload| Hello::decode(payload).ok())
    });
    let target = Target { host: "127.0.0.1".into(), port };
    let tls = (client, Some("localhost".try_into().unwrap()));
    let found = within(probe(&target, &ConnectOptions::default(), tls, limit)).await;
    (found, heard.join().unwrap())
}

fn refusal(text: &str) -> Answer {
    let refusal = Refusal { code: Code::VERSION, retry_after: None, text: text.into() };
    let mut octets = Vec::new();
    Encoded::message(Kind::Refuse, &refusal).write(&mut octets);
    Answer::Octets(octets)
}

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_network_is_one_that_says_it_speaks_this_version_and_is_told_nothing() {
    run(async {
        let (found, hello) = look(refusal("this network speaks version 1"), LIMIT).await;

        assert!(found.error.is_none(), "{found:?}");
        let last = found.steps.last().unwrap();
        assert_eq!(last.step.word(), "protocol");
        assert_eq!(last.result, StepResult::Done("it speaks version 1".into()));
        let hello = hello.unwrap();
        assert!(hello.versions.is_empty() && hello.token.expose().is_empty() && hello.software.is_empty(), "PRE-012");
        assert_eq!((hello.agent.0, hello.incarnation, &*hello.metadata), ([0; 16], 0, ""));
    });
}

#[test]
fn a_server_that_agrees_on_tls_and_adit_1_and_is_no_network_is_told_from_one() {
    run(async {
        let cases = [
            (Answer::Octets(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec()), true),
            (Answer::Octets(b"\0\0\0\x06\0\0\0\0".to_vec()), true),
            (Answer::Echo, true),
            (Answer::Leave, false),
        ];
        for (answer, speaks) in cases {
            let (found, _) = look(answer.clone(), LIMIT).await;

            let Some(DialError::Setup(SetupError::Closed(cause))) = &found.error else {
                panic!("{answer:?} {found:?}")
            };
            let fits = if speaks { matches!(cause, Cause::Violation(_)) } else { matches!(cause, Cause::Eof { .. }) };
            assert!(fits, "{answer:?}: {cause:?}");
            let last = found.steps.last().unwrap();
            assert_eq!((last.step.word(), &last.result), ("protocol", &StepResult::Failed));
        }
        let (found, _) = look(refusal("this network speaks version 2"), LIMIT).await;
        let Some(DialError::Setup(SetupError::Closed(Cause::Refused(refusal)))) = found.error else { panic!() };
        assert_eq!(refusal.code, Code::VERSION);
    });
}

#[test]
fn who_answers_nothing_is_left_in_time() {
    run(async {
        let (found, _) = look(Answer::Nothing, Duration::from_secs(2)).await;

        let Some(DialError::Setup(SetupError::Closed(cause))) = found.error else { panic!("{found:?}") };
        assert_eq!(cause, Cause::HandshakeTimeout);
    });
}
