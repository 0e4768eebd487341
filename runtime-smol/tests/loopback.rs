//! What a runtime promises, over loopback: the same files for every runtime.
#![expect(clippy::unwrap_used, reason = "the helpers of tests are part of them")]

mod rt;

#[path = "../../runtime-tokio/tests/loopback/connect.rs"]
mod connect;
#[path = "../../runtime-tokio/tests/loopback/dns.rs"]
mod dns;
#[path = "../../runtime-tokio/tests/loopback/listen.rs"]
mod listen;
#[path = "../../runtime-tokio/tests/loopback/probe.rs"]
mod probe;
#[path = "../../runtime-tokio/tests/loopback/proxy.rs"]
mod proxy;
#[path = "../../runtime-tokio/tests/loopback/resume.rs"]
mod resume;
#[path = "../../runtime-tokio/tests/loopback/streams.rs"]
mod streams;
#[path = "../../runtime-tokio/tests/loopback/tls.rs"]
mod tls;
#[path = "../../runtime-tokio/tests/loopback/uplink.rs"]
mod uplink;
