use core::task::{Context, Poll, Waker};
use std::path::Path;

use super::*;
use crate::{config::Address, policy::Protocol};

/// A policy of one rule with these lines, and what is said of the whole.
fn policy(whole: &str, rule: &str) -> Policy {
    let text = format!(
        "version: 1\n{whole}\nallow:\n  - name: db\n    endpoints: ['tcp://:5432']\n    hosts: [db.corp, localhost]\n    \
         addresses: [10.0.0.0/8]\n    ports: [5432]\n    protocols: [tcp]\n{rule}\n"
    );
    Policy::parse(Path::new("policy.yml"), &text).unwrap()
}

fn target() -> Arc<Target> {
    target_of("tcp://:5432", "db.corp")
}

fn target_of(endpoint: &str, host: &str) -> Arc<Target> {
    let upstream = Address::Tcp { host: host.into(), port: 5432 };
    Arc::new(Target { endpoint: endpoint.into(), upstream, protocol: Protocol::Tcp })
}

const fn at(wall: i64) -> Now {
    Now { wall, latest: wall, passed: Duration::from_secs(1_000) }
}

/// A state under a policy in which `count` connections are open, and what tells each of its end.
fn state(policy: Policy, count: usize) -> (State, Vec<(u64, Arc<Signal>)>) {
    let mut state = State::default();
    state.set(policy, "one".into(), at(0));
    let open = (0..count).map(|_| state.admit(target(), at(0)).unwrap()).collect();
    (state, open)
}

fn reason(signal: &Signal) -> Option<Reason> {
    match signal.poll(&Context::from_waker(Waker::noop())) {
        Poll::Ready(refusal) => Some(refusal.reason),
        Poll::Pending => None,
    }
}

fn refused<T>(result: Result<T, Refusal>) -> Option<Reason> {
    result.err().map(|refusal| refusal.reason)
}

#[test]
fn without_a_policy_everything_is_carried_and_frozen_nothing() {
    let mut state = State::default();
    let (_, signal) = state.admit(target(), at(0)).unwrap();
    state.frozen = Some("why".into());

    assert_eq!(state.judge_again(at(0)), 1);
    assert_eq!(reason(&signal), Some(Reason::Frozen));
    assert_eq!(refused(state.admit(target(), at(0))), Some(Reason::Frozen));
}

#[test]
fn a_policy_that_comes_ends_what_it_does_not_allow_and_nothing_else() {
    let mut state = State::default();
    let (_, kept) = state.admit(target(), at(0)).unwrap();
    let (_, other) = state.admit(target_of("tcp://:5433", "db.corp"), at(0)).unwrap();

    assert_eq!(state.set(policy("", ""), "one".into(), at(0)), 1);

    assert_eq!((reason(&kept), reason(&other)), (None, Some(Reason::Endpoint)));
}

#[test]
fn the_address_that_is_dialed_is_judged_and_another_may_still_do() {
    let (mut state, open) = state(policy("", "    max_connections: 1"), 1);
    let number = open[0].0;
    let mut settle = |address: &str| refused(state.settle(number, address.parse().unwrap(), at(0)));

    assert_eq!(settle("192.0.2.1"), Some(Reason::Address));
    assert_eq!(settle("::ffff:11.0.0.1"), Some(Reason::Address));
    assert_eq!(settle("10.1.2.3"), None);
    assert_eq!(refused(state.admit(target(), at(0))), Some(Reason::Connections), "it counts once");
    state.leave(number);
    assert!(state.admit(target(), at(0)).is_ok());
}

#[test]
fn the_address_is_judged_again_when_the_policy_changes() {
    let (mut state, open) = state(policy("", ""), 1);
    state.settle(open[0].0, "10.1.2.3".parse().unwrap(), at(0)).unwrap();
    let mut tighter = policy("", "");
    tighter.rules[0].addresses.clear();

    assert_eq!(state.set(tighter, "two".into(), at(0)), 1);
    assert_eq!(reason(&open[0].1), Some(Reason::Address));
}

#[test]
fn beyond_a_limit_that_was_lowered_the_newest_end() {
    let (mut state, open) = state(policy("", "    max_connections: 4"), 4);
    assert_eq!(refused(state.admit(target(), at(0))), Some(Reason::Connections));

    assert_eq!(state.set(policy("", "    max_connections: 2"), "two".into(), at(0)), 2);

    let ended: Vec<_> = open.iter().map(|(_, signal)| reason(signal)).collect();
    assert_eq!(ended, [None, None, Some(Reason::Connections), Some(Reason::Connections)]);
    state.leave(open[3].0); // it was counted out already
    assert_eq!(refused(state.admit(target(), at(0))), Some(Reason::Connections));
    state.leave(open[0].0);
    assert!(state.admit(target(), at(0)).is_ok());
}

#[test]
fn a_rate_is_about_connections_that_come() {
    let (mut state, open) = state(policy("connections_per_second: 2", ""), 2);
    assert_eq!(refused(state.admit(target(), at(0))), Some(Reason::Rate));

    assert_eq!(state.set(policy("connections_per_second: 1", ""), "two".into(), at(0)), 0);
    assert_eq!(reason(&open[0].1), None);
}

#[test]
fn the_last_octet_ends_everything_under_the_rule_and_a_policy_read_again_begins_no_count_anew() {
    let (mut state, open) = state(policy("", "    total_bytes: 1kB"), 2);
    assert!(!state.carried(open[0].0, 999, at(0)));
    assert!(state.carried(open[0].0, 1, at(0)));

    assert_eq!(state.judge_again(at(0)), 2);
    assert_eq!(reason(&open[1].1), Some(Reason::Bytes));
    state.set(policy("", "    total_bytes: 1kB"), "two".into(), at(0));
    assert_eq!(refused(state.admit(target(), at(0))), Some(Reason::Bytes));
    state.set(policy("", "    total_bytes: 2kB"), "three".into(), at(0));
    assert!(state.admit(target(), at(0)).is_ok());
}

#[test]
fn octets_wait_for_the_rate_of_the_rule_and_of_the_whole() {
    for (whole, rule) in [("bytes_per_second: 1kB", ""), ("", "    bytes_per_second: 1kB")] {
        let (mut state, open) = state(policy(whole, rule), 1);
        state.carried(open[0].0, 5_000, at(0));
        assert!(state.ready(open[0].0) > Duration::from_secs(1_004), "{whole}{rule}");
    }
}

#[test]
fn what_expires_ends_at_that_second() {
    for (whole, rule) in [("expires: 1970-01-01T00:01:40Z", ""), ("", "    expires: 1970-01-01T00:01:40Z")] {
        let (mut state, open) = state(policy(whole, rule), 1);

        assert!(state.holds_as_before(at(99)));
        assert!(!state.holds_as_before(at(100)));
        assert_eq!(state.judge_again(at(100)), 1);
        assert_eq!(reason(&open[0].1), Some(Reason::Expired));
        assert!(state.holds_as_before(at(101)));
    }
}

#[test]
fn what_is_open_at_the_end_of_the_hours_ends_and_the_next_hours_open_again() {
    // The first day of 1970 was a Thursday.
    let (mut state, open) = state(policy("hours: [thu 00:00-01:00]", ""), 1);
    assert_eq!(state.judge_again(at(3_599)), 0);
    assert_eq!(state.judge_again(at(3_600)), 1);
    assert_eq!(reason(&open[0].1), Some(Reason::Hours));
    assert_eq!(refused(state.admit(target(), at(3_600))), Some(Reason::Hours));
    assert!(state.admit(target(), at(7 * 86_400)).is_ok());
}

#[test]
fn what_was_carried_before_counts_and_where_it_is_not_known_it_counts_as_used_up() {
    let mut state = State::default();
    state.set(policy("", "    total_bytes: 100"), "one".into(), at(0));
    state.add(&Totals { whole: 60, rules: [("db".to_owned(), 60), ("gone".to_owned(), 9)].into() });
    let (number, _) = state.admit(target(), at(0)).unwrap();
    assert!(!state.carried(number, 39, at(0)) && state.carried(number, 1, at(0)));
    assert_eq!(state.totals(), Totals { whole: 100, rules: [("db".to_owned(), 100)].into() });
    assert_eq!(refused(state.admit(target(), at(0))), Some(Reason::Bytes));

    let mut unknown = State { uncounted: Some("why".into()), ..State::default() };
    unknown.set(policy("", "    total_bytes: 100"), "one".into(), at(0));
    let refusal = unknown.admit(target(), at(0)).unwrap_err();
    assert_eq!(refusal.to_string(), "rule `db`: total_bytes: what was carried before is not known: why");
    unknown.set(policy("", ""), "two".into(), at(0));
    assert!(unknown.admit(target(), at(0)).is_ok(), "nothing is to be counted");
}

/// Two rules for one host; the second has it at an address where it is not.
fn two_rules(limit: &str) -> Policy {
    let rule = |name, addresses, limit| {
        format!(
            "  - name: {name}\n    endpoints: ['tcp://:5432']\n    hosts: [db.corp]\n    addresses: [{addresses}]\n    \
             ports: [5432]\n    protocols: [tcp]\n{limit}\n"
        )
    };
    let (strict, lax) = (rule("strict", "10.0.0.0/8", limit), rule("lax", "192.0.2.0/24", ""));
    Policy::parse(Path::new("policy.yml"), &format!("version: 1\nallow:\n{strict}{lax}")).unwrap()
}

#[test]
fn a_connection_that_another_rule_lets_in_meets_the_rate_of_the_rule_of_its_address() {
    let mut state = State::default();
    state.set(two_rules("    connections_per_second: 2"), "one".into(), at(0));
    let mut come = |address: &str| {
        let (number, _) = state.admit(target(), at(0)).unwrap();
        let settled = refused(state.settle(number, address.parse().unwrap(), at(0)));
        let again = refused(state.settle(number, address.parse().unwrap(), at(0)));
        (settled, again)
    };

    assert_eq!([(); 2].map(|()| come("10.0.0.1")), [(None, None); 2]);
    assert_eq!(come("10.0.0.1"), (Some(Reason::Rate), Some(Reason::Rate)));
    assert_eq!(come("192.0.2.1"), (None, None), "the other rule has no rate");
}

#[tokio::test]
async fn whoever_comes_anew_waits_for_what_was_carried_before() {
    let guard = Guard::new();
    let found = Found { policy: policy("", "    bytes_per_second: 1kB"), text: String::new() };
    guard.set(found, "one".into());
    let mut first = guard.admit(target()).unwrap();
    let context = &mut Context::from_waker(Waker::noop());
    assert!(first.poll_ready(context).is_ready());
    first.carried(crate::policy::Way::Up, 5_000);

    let mut second = guard.admit(target()).unwrap();
    assert!(first.poll_ready(context).is_pending());
    assert!(second.poll_ready(context).is_pending(), "of the same rule");
}

#[test]
fn what_is_cut_ends_counts_no_longer_and_takes_nobody_in_and_the_rest_goes_on() {
    let guard = Guard::new();
    let found = Found { policy: policy("", "    max_connections: 3"), text: String::new() };
    guard.set(found, "one".into());
    let (tie, other) = (Arc::<Tie>::default(), Arc::<Tie>::default());
    let first = guard.admit_tied(target(), &tie).unwrap();
    let (second, third) = (guard.admit_tied(target(), &other).unwrap(), guard.admit(target()).unwrap());
    assert_eq!(refused(guard.admit(target())), Some(Reason::Connections));
    let revoked = |ticket: &Ticket| match ticket.poll_revoked(&Context::from_waker(Waker::noop())) {
        Poll::Ready(refusal) => Some(refusal.detail),
        Poll::Pending => None,
    };

    guard.cut(&tie, "taken back");

    assert_eq!([&first, &second, &third].map(revoked), [Some("taken back".to_owned()), None, None]);
    assert_eq!(refused(guard.admit_tied(target(), &tie)), Some(Reason::Endpoint), "the policy would allow it");
    let _fourth = guard.admit_tied(target(), &other).unwrap();
    drop(first);
    assert_eq!(refused(guard.admit(target())), Some(Reason::Connections), "it is counted off once");
}

/// V50
#[test]
fn frozen_or_out_of_the_policy_s_bounds_the_vendor_may_ask_for_nothing_and_nothing_happens_unasked() {
    let configured = RemoteManagement { stop: true, restart: true, update: true, configuration: true };
    let may = |whole: &str| {
        let guard = Guard::new();
        let whole = format!(
            "commands: {{ stop: true, restart: true, update: true, configuration: true }}\nupdates: {{ check: true, install: true }}\n{whole}"
        );
        guard.set(Found { policy: policy(&whole, ""), text: String::new() }, "one".into());
        guard
    };
    let asked = |guard: &Guard| (guard.commands(configured), guard.updates(), guard.rests().is_some());
    let all = (configured, Updates { check: true, install: true }, false);
    let none = (Commands::default().intersect(configured), Updates::default(), true);
    // A window that is not now, whatever the day of the week.
    let day = (Guard::new().now().wall / 86_400 + 3 + 3) % 7;
    let day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][usize::try_from(day).unwrap()];

    let guard = may("");
    assert_eq!(asked(&guard), all);
    guard.freeze(Some("why".into()));
    assert_eq!(asked(&guard), none);
    guard.freeze(None);
    assert_eq!(asked(&guard), all);
    assert_eq!(asked(&may("expires: 2020-01-01T00:00:00Z")), none);
    assert_eq!(asked(&may(&format!("hours: [{day} 00:00-24:00]"))), none);
    assert_eq!(asked(&may("expires: 2999-01-01T00:00:00Z\nhours: [daily 00:00-24:00]")), all);

    let bare = Guard::new();
    assert_eq!(bare.updates(), Updates { check: true, install: false });
    assert_eq!(bare.commands(configured), RemoteManagement { configuration: false, ..configured });
    bare.freeze(Some("why".into()));
    assert_eq!(asked(&bare), none);
}
