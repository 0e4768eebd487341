//! L2: whatever a peer does, a session takes no more memory than its configuration says. Measured, so one test a process.
#![cfg(all(feature = "testing", target_os = "linux"))]

mod common;

use adit_core::{
    Bind, BindId, Config, Open, TlsInfo, UpstreamProtocol,
    frame::{Encoded, Kind},
    testing::Lone,
};
use bytes::Bytes;
use common::{data, stream};

/// LIM-005, SEC-001
#[test]
fn every_attack_at_once_stays_within_the_worst_case() {
    let config = small();
    let mut lone = Lone::established_network(config.clone());
    lone.hear_frames(&[Encoded::streams(1_000)]);
    let before = resident();

    opens_with_long_metadata(&mut lone);
    windows_full_of_single_octets(&mut lone);
    binds_with_long_texts(&mut lone);
    writes_of_single_octets(&mut lone);

    let (taken, allowed) = (resident() - before, config.worst_case_memory());
    assert_eq!(lone.cause(), None);
    assert!(taken <= allowed, "{taken} octets are taken where {allowed} are allowed");
    assert!(taken > allowed / 10, "{taken} octets are so few that nothing was tested");
}

fn opens_with_long_metadata(lone: &mut Lone<adit_core::side::Network>) {
    let text = || "x".repeat(255);
    let tls = TlsInfo { sni: text(), alpn: text(), version: text(), cipher: text() };
    let open = Open { tls: Some(tls), endpoint: "x".repeat(512), ..Open::default() };
    for id in streams() {
        lone.hear_frames(&[Encoded::open(stream(id), &open)]);
    }
}

/// Fills each window, and tries to make it grow.
fn windows_full_of_single_octets(lone: &mut Lone<adit_core::side::Network>) {
    for id in streams() {
        for _ in 0..32 << 10 {
            lone.hear_frames(&[data(id, 1)]);
        }
        lone.hear_frames(&[Encoded::blocked(stream(id), 32 << 10)]);
    }
}

fn binds_with_long_texts(lone: &mut Lone<adit_core::side::Network>) {
    for id in 0..50 {
        let bind = Bind {
            id: BindId(id),
            url: "x".repeat(512),
            pooling: true,
            upstream_protocol: UpstreamProtocol::Http1,
            name: "x".repeat(253),
            description: "x".repeat(1_024),
            metadata: "x".repeat(4_096),
            tls_end: Default::default(),
        };
        lone.hear_frames(&[Encoded::message(Kind::Bind, &bind)]);
    }
}

/// The application sends what it got in the same small pieces, to a peer that gives no credit.
fn writes_of_single_octets(lone: &mut Lone<adit_core::side::Network>) {
    for id in streams() {
        while lone.session().write(stream(id), &mut Bytes::copy_from_slice(b"x")).is_ok() {}
    }
}

fn streams() -> impl Iterator<Item = u32> {
    (1..120).step_by(2)
}

fn small() -> Config {
    let mut config = Config::network();
    (config.streams, config.open_streams) = (60, 4);
    (config.window, config.window_eager, config.window_max, config.pool) = (32 << 10, 32 << 10, 1 << 20, 2 << 20);
    (config.send_stream, config.send_total) = (64 << 10, 2 << 20);
    (config.retain_octets, config.retain_frames) = (64 << 10, 64);
    (config.binds, config.unanswered) = (50, 50);
    config.check().expect("in range");
    config
}

/// The memory of this process that is in use, in octets.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4_096
}
