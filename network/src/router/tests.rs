use proptest::prelude::*;

use super::*;

/// BIND-019
#[test]
fn where_tls_ends_is_not_changed_while_an_endpoint_is_bound() {
    let (tls, https) = ("tls://a.com", "https://a.com");
    let mut table = Table::new(&[]);
    (1..=3).for_each(|number| table.begin(number, number, 1));
    table.begin_lane(4, 1, 1, 1, 1); // a sibling of 1

    assert_eq!(table.bind_with(1, tls, true, TlsEnd::Agent), Ok(vec![]));
    assert_eq!(table.bind_with(2, tls, true, TlsEnd::Upstream), Err(BindError::InUse), "another end in one pool");
    assert_eq!(table.bind_with(2, tls, true, TlsEnd::Agent), Ok(vec![]));
    assert_eq!(table.bind_with(3, tls, true, TlsEnd::Unsaid), Ok(vec![]), "an agent that does not know of it");
    for number in 1..=4 {
        assert_eq!(table.bind_with(number, https, true, TlsEnd::Network), Err(BindError::InUse), "{number}");
    }
    assert_eq!(table.bind_with(1, "https://b.a.com", true, TlsEnd::Network), Ok(vec![]), "another name");
    assert_eq!(table.bind_with(1, "http://a.com", true, TlsEnd::Unsaid), Ok(vec![]), "no TLS");

    (1..=4).for_each(|number| drop(table.router.session_ended(session(number))));
    table.begin(5, 5, 1);
    assert_eq!(table.bind_with(5, https, false, TlsEnd::Network), Ok(vec![]), "nobody is left");
    table.begin(6, 5, 1);
    assert!(table.bind_with(6, tls, false, TlsEnd::Upstream).is_ok(), "the agent began anew with another wish");
}

#[test]
fn a_second_agent_is_refused_unless_both_ask_for_pooling() {
    for (first, second, allowed) in
        [(false, false, false), (true, false, false), (false, true, false), (true, true, true)]
    {
        let mut table = Table::new(&[(1, 1, 1), (2, 2, 1)]);

        assert!(table.bind(1, "https://a.com", first).is_ok());
        let result = table.bind(2, "https://a.com", second);

        assert_eq!(result.is_ok(), allowed, "{first} {second}");
        assert!(allowed || result == Err(BindError::InUse));
    }
}

#[test]
fn another_account_cannot_join_a_pool() {
    let mut table = Table::new(&[(1, 1, 1), (2, 2, 2)]);

    table.bind(1, "https://a.com", true).unwrap();

    assert_eq!(table.bind(2, "https://a.com", true), Err(BindError::InUse));
}

#[test]
fn the_name_of_an_agent_counts_inside_its_account_only() {
    let mut table = Table::new(&[(1, 7, 1), (2, 7, 2)]);
    table.bind(1, "https://a.com", false).unwrap();

    assert_eq!(table.bind(2, "https://a.com", false), Err(BindError::InUse));
    assert_eq!(table.chosen("https://a.com", &[]), Some(1));
}

#[test]
fn a_cloud_endpoint_is_found_and_nobody_may_bind_it() {
    let mut table = Table::new(&[(1, 1, 1)]);

    table.configure(&[
        ("https://a.com", 1, true),
        ("https://*.wild.com", 1, true),
        ("1/https://crm.internal", 1, true),
    ]);

    let name = |text| EndpointName::parse(text).unwrap();
    let found = |text| table.router.find_name(Scheme::Https, &name(text));
    assert_eq!(found("a.com"), Found::Live(Arc::new(key("https://a.com"))));
    assert_eq!(found("x.wild.com"), Found::Live(Arc::new(key("https://*.wild.com"))));
    for url in ["https://a.com", "https://*.wild.com", "1/https://crm.internal"] {
        assert_eq!(table.bind(1, url, true), Err(BindError::InUse), "{url}");
    }
    assert_eq!(table.bind(1, "https://x.wild.com", false), Ok(Vec::new()), "more specific, and of the account");
    assert_eq!(table.bind(1, "http://a.com", false), Ok(Vec::new()));

    table.configure(&[]);
    assert_eq!(table.router.find_name(Scheme::Https, &name("y.wild.com")), Found::Unknown);
    assert_eq!(table.bind(1, "https://a.com", false), Ok(Vec::new()));
}

#[test]
fn what_is_set_is_known_for_as_long_as_it_is_and_what_was_bound_for_longer() {
    let mut table = Table::new(&[(1, 1, 1)]);
    let found = |table: &Table, text| table.router.find_name(Scheme::Https, &EndpointName::parse(text).unwrap());
    table.configure(&[("https://set.com", 1, false), ("https://both.com", 1, false)]);
    table.bind(1, "https://both.com", false).unwrap();
    table.router.session_ended(session(1));
    for text in ["set.com", "both.com"] {
        assert_eq!(found(&table, text), Found::Idle(Arc::new(key(&format!("https://{text}")))), "nobody is online");
    }

    table.configure(&[]);

    assert_eq!(found(&table, "set.com"), Found::Unknown);
    assert_eq!(found(&table, "both.com"), Found::Idle(Arc::new(key("https://both.com"))));
}

#[test]
fn a_name_of_the_configuration_is_its_accounts_with_any_scheme_and_below_a_wildcard() {
    let configured = || {
        let mut table = Table::new(&[(1, 1, 1), (2, 2, 2)]);
        table.configure(&[
            ("https://a.com", 1, false),
            ("https://*.wild.com", 1, false),
            ("https://x.wild.com", 2, false),
            ("tcp://:5000", 1, false),
        ]);
        table
    };
    let tls = configured().bind(1, "tls://a.com", true);
    assert_eq!((tls, configured().bind(2, "tls://a.com", true)), (Ok(Vec::new()), Err(BindError::InUse)));
    let mut table = configured();

    for url in ["https://a.com", "http://y.wild.com", "https://*.y.wild.com", "https://*.wild.com", "tcp://:5000"] {
        assert_eq!(table.bind(2, url, true), Err(BindError::InUse), "{url}");
        assert_eq!(table.bind(1, url, true), Ok(Vec::new()), "{url}");
    }
    assert_eq!(table.bind(1, "https://x.wild.com", false), Err(BindError::InUse));
    assert_eq!(table.bind(2, "https://x.wild.com", false), Ok(Vec::new()));
    assert_eq!(table.bind(2, "https://*.a.com", false), Ok(Vec::new()), "which is another name");
}

#[test]
fn what_the_configuration_takes_is_taken_from_those_who_have_it() {
    let mut table = Table::new(&[(1, 1, 1), (2, 2, 2)]);
    table.bind(1, "https://a.com", false).unwrap();
    table.bind(2, "https://b.com", false).unwrap();
    table.bind(2, "https://c.com", false).unwrap();

    let taken =
        table.configure(&[("https://a.com", 1, true), ("https://b.com", 1, false), ("https://c.com", 2, false)]);

    let mut sessions: Vec<_> = taken.iter().map(|it| (it.session, it.empty)).collect();
    sessions.sort();
    assert_eq!(sessions, [(session(1), true), (session(2), false)]);
    assert_eq!(table.chosen("https://a.com", &[]), None);
    assert_eq!(table.chosen("https://b.com", &[]), None);
    assert_eq!(table.chosen("https://c.com", &[]), Some(2));
    assert_eq!(
        table.router.find_name(Scheme::Https, &EndpointName::parse("a.com").unwrap()),
        Found::Live(Arc::new(key("https://a.com")))
    );
}

/// BIND-017
#[test]
fn two_accounts_have_internal_endpoints_of_one_name_and_no_caller_finds_either() {
    let mut table = Table::new(&[(1, 1, 1), (2, 2, 2)]);
    let crm = EndpointName::parse("crm.internal").unwrap();

    table.bind(1, "1/https://crm.internal", false).unwrap();
    table.bind(2, "2/https://crm.internal", false).unwrap();
    table.bind(1, "1/tcp://crm.internal:5432", false).unwrap();

    assert_eq!(table.chosen("1/https://crm.internal", &[]), Some(1));
    assert_eq!(table.chosen("2/https://crm.internal", &[]), Some(2));
    for scheme in Scheme::ALL {
        assert_eq!(table.router.find_name(scheme, &crm), Found::Unknown);
    }
    assert_eq!(table.router.find_port(5432), Found::Unknown);
    let find = |account, url| table.router.find_internal(account, &Internal::parse(url).unwrap());
    assert_eq!(find(1, "https://crm.internal"), Found::Live(Arc::new(key("1/https://crm.internal"))));
    assert_eq!(find(2, "tcp://crm.internal:5432"), Found::Unknown);
    assert_eq!(find(3, "https://crm.internal"), Found::Unknown);
}

#[test]
fn a_session_cannot_bind_an_endpoint_twice() {
    let mut table = Table::new(&[(1, 7, 1)]);
    table.bind(1, "https://a.com", true).unwrap();

    assert_eq!(table.bind(1, "https://a.com", true), Err(BindError::InUse));
}

#[test]
fn a_new_session_of_the_same_agent_replaces_its_ghost_at_once() {
    let mut table = Table::new(&[(1, 7, 1), (2, 7, 1)]);
    table.bind(1, "https://a.com", false).unwrap();

    let replaced = table.bind(2, "https://a.com", false).unwrap();

    assert_eq!(replaced, [Replaced { session: session(1), bind: BindId(1), empty: true }]);
    assert_eq!(table.chosen("https://a.com", &[]), Some(2), "V41");
}

/// AUTH-008
#[test]
fn sessions_of_one_run_serve_together_and_those_of_another_run_take_over_from_all_of_them() {
    let mut table = Table::new(&[]);
    (1..=3).for_each(|lane| table.begin_lane(lane, 7, 1, 100, lane));
    for lane in [2, 1, 3] {
        assert_eq!(table.bind(lane, "https://a.com", false), Ok(Vec::new()), "a sibling that is older or newer");
    }
    let held: Vec<_> = (0..6).map(|_| table.choose("https://a.com", &[]).unwrap()).collect();
    for lane in 1..=3 {
        assert_eq!(held.iter().filter(|chosen| chosen.handle == lane).count(), 2, "spread over all");
    }

    table.begin_lane(4, 7, 1, 100, 2);
    let replaced = table.bind(4, "https://a.com", false).unwrap();
    assert_eq!(replaced.iter().map(|replaced| replaced.session).collect::<Vec<_>>(), [session(2)], "of the same lane");

    table.begin_lane(5, 7, 1, 101, 0);
    let replaced = table.bind(5, "https://a.com", false).unwrap();
    let sessions: Vec<_> = replaced.iter().map(|replaced| replaced.session).collect();
    assert_eq!(sessions, [session(1), session(3), session(4)], "of the run before");
    assert_eq!(table.bind(3, "https://a.com", false), Err(BindError::Fenced), "late");
    table.check(&[]);
}

/// AUTH-008
#[test]
fn an_agent_with_many_sessions_gets_no_more_than_one_with_few() {
    let mut table = Table::new(&[(9, 9, 1)]);
    table.bind(9, "https://a.com", true).unwrap();
    for lane in 1..=3 {
        table.begin_lane(lane, 7, 1, 100, lane);
        table.bind(lane, "https://a.com", true).unwrap();
    }

    let held: Vec<_> = (0..12).map(|_| table.choose("https://a.com", &[]).unwrap()).collect();

    assert_eq!(held.iter().filter(|chosen| chosen.handle == 9).count(), 6);
    drop(held);
    (1..=3).for_each(|lane| drop(table.router.session_ended(session(lane))));
    table.router.session_ended(session(9));
    assert!(table.router.agents.is_empty(), "nothing is kept of agents that are gone");
}

#[test]
fn late_acts_of_a_ghost_change_nothing() {
    let mut table = Table::new(&[(1, 7, 1), (2, 7, 1)]);
    table.bind(1, "https://a.com", false).unwrap();
    table.bind(2, "https://a.com", false).unwrap();

    assert_eq!(table.bind(1, "https://a.com", false), Err(BindError::Fenced), "V97");
    assert_eq!(table.router.unbind(session(1), BindId(1)), None);
    assert_eq!(table.router.session_ended(session(1)), []);
    assert_eq!(table.chosen("https://a.com", &[]), Some(2));
}

#[test]
fn a_draining_session_that_loses_its_binds_is_no_ghost() {
    let mut table = Table::new(&[(1, 7, 1), (2, 7, 1)]);
    table.bind(1, "https://a.com", false).unwrap();
    table.router.session_drains(session(1));

    let replaced = table.bind(2, "https://a.com", false).unwrap();

    assert!(!replaced[0].empty, "its streams finish");
}

#[test]
fn a_draining_session_gets_no_new_connection() {
    let mut table = Table::new(&[(1, 1, 1)]);
    table.bind(1, "https://a.com", true).unwrap();
    let member = table.choose("https://a.com", &[]).unwrap().member;

    let leaving = table.router.session_drains(session(1));

    assert_eq!(leaving, [member]);
    assert_eq!(table.chosen("https://a.com", &[]), None);
}

#[test]
fn while_a_session_waits_for_its_agent_new_connections_go_to_others() {
    let mut table = Table::new(&[(1, 1, 1), (2, 2, 1)]);
    table.bind(1, "https://a.com", true).unwrap();
    let member = table.choose("https://a.com", &[]).unwrap().member;

    assert_eq!(table.router.session_parked(session(1), true), [member]);
    assert_eq!(table.chosen("https://a.com", &[]), None);
    assert!(!table.router.has_other(&key("https://a.com"), &[]) && table.router.has_parked(&key("https://a.com")));
    table.bind(2, "https://a.com", true).unwrap();
    assert_eq!(table.chosen("https://a.com", &[]), Some(2));

    assert_eq!(table.router.session_parked(session(1), false), [member]);
    assert!(!table.router.has_parked(&key("https://a.com")));
    let chosen = [table.choose("https://a.com", &[]), table.choose("https://a.com", &[])];
    assert_eq!(chosen.map(|chosen| chosen.map(|chosen| chosen.handle).unwrap()).iter().sum::<u8>(), 3, "both serve");
}

#[test]
fn the_connections_of_an_account_are_counted_over_its_endpoints() {
    let mut table = Table::new(&[(1, 1, 1), (2, 2, 2)]);
    table.bind(1, "https://a.com", false).unwrap();
    table.bind(1, "https://b.com", false).unwrap();
    table.bind(2, "https://c.com", false).unwrap();
    let open = |table: &Table, url: &str| table.router.open(&key(url));

    let kept = [table.choose("https://a.com", &[]).unwrap(), table.choose("https://b.com", &[]).unwrap()];
    assert_eq!(open(&table, "https://a.com"), (1, 2));
    assert_eq!(open(&table, "https://c.com"), (0, 0), "another account");

    // What is open is counted although its endpoint is gone, and is forgotten with it.
    table.router.session_ended(session(1));
    assert_eq!(open(&table, "https://a.com"), (0, 0));
    drop(kept);
}

#[test]
fn the_least_loaded_member_is_chosen_and_those_that_failed_are_not() {
    let mut table = Table::new(&[(1, 1, 1), (2, 2, 1), (3, 3, 1)]);
    for session in 1..=3 {
        table.bind(session, "https://a.com", true).unwrap();
    }

    let leases: Vec<_> = (0..9).map(|_| table.choose("https://a.com", &[]).unwrap()).collect();
    let counts = [1, 2, 3].map(|s| leases.iter().filter(|chosen| chosen.handle == s).count());
    assert_eq!(counts, [3, 3, 3]);

    let of_two: Vec<_> = leases.iter().filter(|chosen| chosen.handle == 2).map(|chosen| chosen.member).collect();
    assert_eq!(table.router.open(&key("https://a.com")), (9, 9));
    drop(leases);
    assert_eq!(table.router.open(&key("https://a.com")), (0, 0));
    assert!((0..5).all(|_| table.chosen("https://a.com", &of_two) != Some(2)));
}

#[test]
fn one_after_the_other_gets_its_turn_however_long_the_others_have_served() {
    let mut table = Table::new(&[(1, 1, 1), (2, 2, 1)]);
    table.bind(1, "https://a.com", true).unwrap();
    (0..50).for_each(|_| drop(table.choose("https://a.com", &[])));
    table.bind(2, "https://a.com", true).unwrap();

    let order: Vec<_> = (0..6).map(|_| table.chosen("https://a.com", &[]).unwrap()).collect();

    assert_eq!(order, [1, 2, 1, 2, 1, 2], "a newcomer is not trampled");
}

#[test]
fn the_nearest_is_preferred_while_it_is_not_busy() {
    let mut table = Table::new(&[(1, 1, 1), (2, 2, 1)]);
    table.bind(1, "https://a.com", true).unwrap();
    table.bind(2, "https://a.com", true).unwrap();
    table.router.measured(session(1), Duration::from_millis(200));
    table.router.measured(session(2), Duration::from_millis(2));

    assert!((0..9).all(|_| table.chosen("https://a.com", &[]) == Some(2)));
    let held: Vec<_> = (0..18).map(|_| table.choose("https://a.com", &[]).unwrap()).collect();
    assert_eq!(held.iter().filter(|chosen| chosen.handle == 1).count(), 2, "an eighth");

    drop(held);
    (0..60).for_each(|_| table.router.measured(session(2), Duration::from_secs(2)));
    assert!((0..9).all(|_| table.chosen("https://a.com", &[]) != Some(2)), "the path has changed");
}

#[test]
fn who_fails_is_turned_away_and_tried_by_one_request_after_a_while() {
    let mut table = Table::new(&[(1, 1, 1), (2, 2, 1)]);
    table.bind(1, "https://a.com", true).unwrap();
    table.bind(2, "https://a.com", true).unwrap();
    let (start, rules) = (Instant::now(), Rules::default());
    let choose = |table: &Table, exclude: &[MemberId], at: Instant| {
        table.router.choose(&key("https://a.com"), exclude, 100, &rules, at).unwrap()
    };
    let chosen = choose(&table, &[], start);
    let failing = chosen.handle;
    for _ in 0..5 {
        chosen.watch.report(Outcome::Failed, &rules, start);
    }
    drop(chosen);

    assert!((0..20).all(|_| choose(&table, &[], start).handle != failing));
    let other = choose(&table, &[], start).member;
    assert_eq!(choose(&table, &[other], start).handle, failing, "better than nobody");
    let seen = table.router.see(&key("https://a.com"), &rules, start);
    assert_eq!(seen.iter().filter(|seen| seen.connected && seen.standing == Standing::Fine).count(), 1);
    assert!(table.router.is_ready(&key("https://a.com"), &rules, start));

    let later = start + rules.away;
    let retry = choose(&table, &[MemberId(u64::MAX)], later);
    assert_ne!(retry.handle, failing, "what has failed once is no trial");
    let trial = choose(&table, &[], later);
    assert_eq!(trial.handle, failing);
    assert!((0..20).all(|_| choose(&table, &[], later).handle != failing), "one is enough");
    drop(trial);
    let trial = choose(&table, &[], later);
    assert_eq!(trial.handle, failing, "the first one told nothing");
    assert_eq!(trial.watch.report(Outcome::Fine, &rules, later), Some(Change::Back));
    drop(trial);
    assert!((0..4).any(|_| choose(&table, &[], later).handle == failing));
}

#[test]
fn a_member_that_leaves_or_drains_is_forgotten_and_not_the_one_that_serves_is_turned_away() {
    let mut table = Table::new(&[(1, 1, 1), (2, 2, 1)]);
    table.bind(1, "https://a.com", true).unwrap();
    table.bind(2, "https://a.com", true).unwrap();
    table.router.session_drains(session(1));
    let chosen = table.choose("https://a.com", &[]).unwrap();

    let (rules, now) = (Rules::default(), Instant::now());
    assert!((0..9).all(|_| chosen.watch.report(Outcome::Failed, &rules, now).is_none()), "it is the last one");
    assert!(table.router.is_ready(&key("https://a.com"), &rules, now));
    table.router.session_parked(session(2), true);
    assert!(!table.router.is_ready(&key("https://a.com"), &rules, now));
    table.router.session_parked(session(2), false);
    assert_eq!(table.chosen("https://a.com", &[]), Some(2));
}

#[test]
fn a_member_with_too_much_outstanding_or_waiting_is_passed_over() {
    let mut table = Table::new(&[(1, 1, 1), (2, 2, 1)]);
    table.bind(1, "https://a.com", true).unwrap();
    table.bind(2, "https://a.com", true).unwrap();
    let key = key("https://a.com");
    let rules = Rules { outstanding: 3, pending: 2, ..Rules::default() };
    let choose = || table.router.choose(&key, &[], 100, &rules, Instant::now());

    let mut held: Vec<_> = (0..9).filter_map(|_| choose()).collect();
    assert_eq!(held.len(), 6);
    assert_eq!(table.router.why_full(&key, &[], 100, &rules), Some(Full::Outstanding));
    held.truncate(2);
    let waiting: Vec<_> = held.iter().flat_map(|chosen| [chosen.watch.pending(), chosen.watch.pending()]).collect();
    assert!(choose().is_none());
    assert_eq!(table.router.why_full(&key, &[], 100, &rules), Some(Full::Pending));
    drop(waiting);
    assert!(choose().is_some());
    assert_eq!(table.router.why_full(&key, &[], 1, &rules), Some(Full::Session));
}

#[test]
fn a_full_session_is_not_chosen() {
    let mut table = Table::new(&[(1, 1, 1)]);
    table.bind(1, "https://a.com", false).unwrap();
    table.bind(1, "https://b.com", false).unwrap();

    let held = [table.choose("https://a.com", &[]), table.choose("https://b.com", &[])];

    assert!(held.iter().all(Option::is_some));
    assert!(table.choose_within("https://a.com", 2).is_none());
    assert!(table.choose_within("https://a.com", 3).is_some());
}

#[test]
fn an_exact_name_beats_the_wildcard_and_the_wildcard_covers_the_rest() {
    let mut table = Table::new(&[(1, 1, 1), (2, 2, 1)]);
    table.bind(1, "https://*.a.com", false).unwrap();
    table.bind(2, "https://x.a.com", false).unwrap();

    let found = |name: &str| match table.router.find_name(Scheme::Https, &EndpointName::parse(name).unwrap()) {
        Found::Live(key) => key.to_string(),
        Found::Idle(_) | Found::Unknown => "none".to_owned(),
    };

    assert_eq!(found("x.a.com"), "https://x.a.com");
    assert_eq!(found("y.a.com"), "https://*.a.com");
    assert_eq!(found("a.com"), "none");
}

#[test]
fn a_name_inside_another_accounts_wildcard_is_not_given_away() {
    let mut table = Table::new(&[(1, 1, 1), (2, 2, 2)]);
    table.bind(1, "https://*.a.com", false).unwrap();

    for url in ["https://x.a.com", "http://x.a.com", "tls://x.y.a.com", "https://*.b.a.com"] {
        assert_eq!(table.bind(2, url, true), Err(BindError::InUse), "V77 {url}");
    }
    assert!(table.bind(2, "https://a.com", false).is_ok());
}

#[test]
fn an_endpoint_without_members_is_idle_and_one_never_seen_is_unknown() {
    let mut table = Table::new(&[(1, 1, 1)]);
    table.router.remember(key("tcp://:5432"));
    table.bind(1, "tcp://:80", false).unwrap();

    let ended = table.router.session_ended(session(1));

    assert_eq!(ended, [Ended { key: Arc::new(key("tcp://:80")), last: true }]);
    assert_eq!(table.router.find_port(80), Found::Idle(Arc::new(key("tcp://:80"))));
    assert_eq!(table.router.find_port(5432), Found::Idle(Arc::new(key("tcp://:5432"))));
    assert_eq!(table.router.find_port(81), Found::Unknown);
}

#[test]
fn a_recheck_ends_the_binds_that_are_not_allowed_any_more() {
    let mut table = Table::new(&[(1, 1, 1)]);
    table.bind(1, "https://a.com", false).unwrap();
    table.bind(1, "https://b.com", false).unwrap();

    let lost = table.router.recheck(session(1), |candidate| *candidate == key("https://b.com"));

    assert_eq!(lost.len(), 1, "V75");
    assert_eq!(lost[0].0, BindId(1));
    assert_eq!(table.chosen("https://a.com", &[]), None);
    assert_eq!(table.chosen("https://b.com", &[]), Some(1));
}

proptest! {
    #[test]
    fn the_table_keeps_its_promises(acts in prop::collection::vec(act(), 1..80)) {
        let mut table = Table::new(&[]);
        let mut held: Vec<Chosen<u8>> = Vec::new();
        for act in acts {
            match act {
                Act::Begin(session, agent, account) => {
                    table.begin_lane(session, agent, account, u64::from(session / 3), session % 3);
                }
                Act::Bind(session, endpoint, pooling) => { let _ = table.bind(session, endpoint, pooling); }
                Act::Unbind(session_number, bind) => { table.router.unbind(session(session_number), BindId(bind)); }
                Act::End(number) => { table.router.session_ended(session(number)); }
                Act::Drain(number) => { table.router.session_drains(session(number)); }
                Act::Choose(endpoint) => held.extend(table.choose(endpoint, &[])),
                Act::Release => { held.pop(); }
            }
            table.check(&held);
        }
        for number in 0..SESSIONS {
            table.router.session_ended(session(number));
        }
        prop_assert!(table.router.endpoints.is_empty() && table.router.sessions.is_empty());
    }
}

#[derive(Clone, Debug)]
enum Act {
    Begin(u8, u8, i64),
    Bind(u8, &'static str, bool),
    Unbind(u8, u32),
    End(u8),
    Drain(u8),
    Choose(&'static str),
    Release,
}

fn act() -> impl Strategy<Value = Act> {
    let url =
        prop::sample::select(vec!["https://a.com", "https://*.a.com", "https://x.a.com", "http://x.a.com", "tcp://:1"]);
    let (of, agent, account) = (0..SESSIONS, 0..3_u8, 1..3_i64);
    prop_oneof![
        2 => (of.clone(), agent, account).prop_map(|(s, agent, account)| Act::Begin(s, agent, account)),
        6 => (of.clone(), url.clone(), any::<bool>()).prop_map(|(s, url, pooling)| Act::Bind(s, url, pooling)),
        2 => (of.clone(), 0..20_u32).prop_map(|(s, bind)| Act::Unbind(s, bind)),
        1 => of.clone().prop_map(Act::End),
        1 => of.prop_map(Act::Drain),
        4 => url.prop_map(Act::Choose),
        2 => Just(Act::Release),
    ]
}

const SESSIONS: u8 = 5;

/// A table whose members are reached by the number of their session.
struct Table {
    router: Router<u8>,
    bind: u32,
}

impl Table {
    /// Makes a table with sessions of (number, agent, account), in this order.
    fn new(sessions: &[(u8, u8, i64)]) -> Self {
        let mut table = Self { router: Router::default(), bind: 0 };
        for (session, agent, account) in sessions {
            table.begin(*session, *agent, *account);
        }
        table
    }

    fn begin(&mut self, number: u8, agent: u8, account: i64) {
        self.begin_lane(number, agent, account, 1, 0);
    }

    fn begin_lane(&mut self, number: u8, agent: u8, account: i64, incarnation: u64, lane: u8) {
        self.router.session_ended(session(number));
        let origin = Origin { account, agent: AgentId([agent; 16]), incarnation, lane };
        self.router.session_began(session(number), origin);
    }

    fn bind(&mut self, number: u8, url: &str, pooling: bool) -> Result<Vec<Replaced>, BindError> {
        self.bind_with(number, url, pooling, TlsEnd::Unsaid)
    }

    fn bind_with(&mut self, number: u8, url: &str, pooling: bool, tls_end: TlsEnd) -> Result<Vec<Replaced>, BindError> {
        self.bind += 1;
        let wish = BindWish {
            session: session(number),
            bind: BindId(self.bind),
            pooling,
            upstream: UpstreamProtocol::Http1,
            tls_end,
            handle: number,
        };
        self.router.bind(key(url), wish).map(|(_, replaced)| replaced)
    }

    /// Takes in endpoints of (URL, account, whether their policy serves them).
    fn configure(&mut self, endpoints: &[(&str, i64, bool)]) -> Vec<Replaced> {
        let configured =
            |(url, account, cloud): &(&str, i64, bool)| Configured { key: key(url), account: *account, cloud: *cloud };
        self.router.configure(endpoints.iter().map(configured).collect())
    }

    fn choose(&self, url: &str, exclude: &[MemberId]) -> Option<Chosen<u8>> {
        self.router.choose(&key(url), exclude, 1_000, &Rules::default(), Instant::now())
    }

    fn choose_within(&self, url: &str, most: usize) -> Option<Chosen<u8>> {
        self.router.choose(&key(url), &[], most, &Rules::default(), Instant::now())
    }

    fn chosen(&self, url: &str, exclude: &[MemberId]) -> Option<u8> {
        self.choose(url, exclude).map(|chosen| chosen.handle)
    }

    fn check(&self, held: &[Chosen<u8>]) {
        let router = &self.router;
        let mut binds = 0;
        for (key, endpoint) in &router.endpoints {
            assert!(!endpoint.members.is_empty(), "{key} has no member");
            binds += endpoint.members.len();
            for one in &endpoint.members {
                for other in endpoint.members.iter().filter(|other| other.id != one.id) {
                    let shared = one.pooling && other.pooling && !one.origin.is_same_agent(&other.origin);
                    assert!(shared || one.origin.is_sibling(&other.origin), "{key} is shared against a member's will");
                }
            }
            for member in &endpoint.members {
                let record = &router.sessions[&member.session];
                assert_eq!(record.binds.get(&member.bind), Some(key));
                assert_eq!(record.origin.account, endpoint.account);
                let open = held.iter().filter(|chosen| chosen.member == member.id).count();
                assert_eq!(member.load.open(), open);
            }
            let rank = |session: SessionId, more: usize| {
                let record = &router.sessions[&session];
                (record.agent_load.open() - more, record.load.open() - more)
            };
            let accepting = endpoint.members.iter().filter(|member| member.accepting);
            let least = accepting.map(|member| rank(member.session, 0)).min();
            let chosen = router.choose(key, &[], usize::MAX, &Rules::default(), Instant::now());
            assert_eq!(chosen.map(|chosen| rank(session(chosen.handle), 1)), least);
        }
        assert_eq!(binds, router.sessions.values().map(|record| record.binds.len()).sum::<usize>());
    }
}

fn session(number: u8) -> SessionId {
    SessionId([number; 16])
}

fn key(url: &str) -> Key {
    Key::parse(url).unwrap()
}
