//! What the network is told of endpoints that are not asked for.

use super::*;

/// BIND-022
#[test]
fn what_is_withheld_is_said_once_in_every_session() {
    let mut uplink = uplink();
    uplink.withhold(withheld("tcp://:1", Code::DISALLOWED), at(0));
    assert_eq!(said(&mut uplink), []);

    uplink.handle_established(1, at(0));
    uplink.withhold(withheld("tcp://:1", Code::DISALLOWED), at(0));
    uplink.withhold(withheld("tcp://:2", Code::CERTIFICATE), at(0));
    assert_eq!(
        said(&mut uplink),
        [(1, withheld("tcp://:1", Code::DISALLOWED)), (1, withheld("tcp://:2", Code::CERTIFICATE))]
    );
    uplink.withhold(withheld("tcp://:1", Code::CONFIGURATION), at(1));
    assert_eq!(said(&mut uplink), [(1, withheld("tcp://:1", Code::CONFIGURATION))]);

    uplink.handle_closed(1, Retry::Now, at(2));
    uplink.handle_timeout(at(3));
    uplink.handle_established(2, at(3));
    assert_eq!(
        said(&mut uplink),
        [(2, withheld("tcp://:1", Code::CONFIGURATION)), (2, withheld("tcp://:2", Code::CERTIFICATE))]
    );
}

/// BIND-022: a session that goes on knows what it was told.
#[test]
fn a_session_that_goes_on_is_told_nothing_again() {
    let mut uplink = uplink();
    uplink.withhold(withheld("tcp://:1", Code::DISALLOWED), at(0));
    uplink.handle_established(1, at(0));
    uplink.handle_offer(1, true);
    assert_eq!(said(&mut uplink).len(), 1);

    assert!(uplink.handle_suspended(1, Retry::Now, at(1)));
    uplink.withhold(withheld("tcp://:2", Code::DISALLOWED), at(1));
    assert_eq!(
        said(&mut uplink),
        [(1, withheld("tcp://:2", Code::DISALLOWED))],
        "the session keeps it for its next link"
    );
    uplink.handle_timeout(at(2));
    uplink.handle_resumed(2, at(2));

    assert_eq!((uplink.current(), said(&mut uplink)), (Some(1), vec![]));
}

/// BIND-021
#[test]
fn what_is_asked_for_is_withheld_no_more() {
    let mut uplink = uplink();
    uplink.handle_established(1, at(0));
    uplink.withhold(withheld("tcp://:1", Code::DISALLOWED), at(0));
    uplink.withhold(withheld("tcp://:2", Code::DISALLOWED), at(0));
    actions(&mut uplink);

    let id = uplink.bind(wish("tcp://:1"), at(1));
    let done = actions(&mut uplink);
    let [Action::Withhold { withheld, .. }, Action::Bind { bind, .. }] = &*done else { panic!("{done:?}") };
    assert_eq!((withheld, bind.id), (&Withheld::taken_back("tcp://:1"), id));
    uplink.withhold(Withheld::taken_back("tcp://:2"), at(1));
    uplink.withhold(Withheld::taken_back("tcp://:2"), at(1));
    assert_eq!(said(&mut uplink), [(1, Withheld::taken_back("tcp://:2"))]);

    uplink.handle_closed(1, Retry::Now, at(2));
    uplink.handle_timeout(at(3));
    uplink.handle_established(2, at(3));
    assert_eq!(said(&mut uplink), []);
}

fn said(uplink: &mut Uplink) -> Vec<(u64, Withheld)> {
    let said = actions(uplink).into_iter().filter_map(|action| {
        let Action::Withhold { attempt, withheld } = action else { return None };
        Some((attempt, withheld))
    });
    said.collect()
}

fn withheld(url: &str, code: Code) -> Withheld {
    Withheld { code, ..Withheld::taken_back(url) }
}
