//! What a runtime promises, over loopback: the same files for every runtime.
#![expect(clippy::unwrap_used, reason = "the helpers of tests are part of them")]

mod rt;

#[path = "loopback/connect.rs"]
mod connect;
#[path = "loopback/dns.rs"]
mod dns;
#[path = "loopback/listen.rs"]
mod listen;
#[path = "loopback/probe.rs"]
mod probe;
#[path = "loopback/proxy.rs"]
mod proxy;
#[path = "loopback/resume.rs"]
mod resume;
#[path = "loopback/streams.rs"]
mod streams;
#[path = "loopback/tls.rs"]
mod tls;
#[path = "loopback/uplink.rs"]
mod uplink;
