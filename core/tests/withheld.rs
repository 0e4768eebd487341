//! What an agent says of endpoints that it does not ask for.
#![cfg(feature = "testing")]

mod common;

use adit_core::{
    BindError, Cause, Code, Config, Event, Violation, Withheld,
    frame::{Encoded, Kind},
    side,
    testing::{Lone, Options, Pair},
};
use common::*;

/// BIND-021
#[test]
fn what_is_withheld_is_told_with_its_reason_until_it_is_taken_back() {
    let mut pair = Pair::established(Options::default());
    let certificate = Withheld { code: Code::CERTIFICATE, text: "none".into(), ..withheld("https://a.example") };

    for said in [withheld("https://a.example"), certificate, Withheld::taken_back("https://a.example")] {
        assert_eq!(pair.agent.session().withhold(&said), Ok(()));
        pair.settle();
        assert_eq!(pair.network.take_events(), [Event::Withheld(said)]);
    }

    assert_eq!(pair.agent.session().withhold(&Withheld::taken_back("https://a.example")), Ok(()));
    pair.settle();
    assert_eq!(
        (pair.network.take_events(), pair.agent.take_events()),
        (vec![], vec![]),
        "it is not withheld, nor answered"
    );
}

/// BIND-021
#[test]
fn a_bind_takes_back_that_its_url_is_withheld_and_no_other() {
    let mut pair = Pair::established(Options::default());
    for url in ["tcp://:1", "tcp://:2"] {
        pair.agent.session().withhold(&withheld(url)).unwrap();
    }
    pair.settle();
    assert_eq!(pair.network.take_events().len(), 2);

    pair.agent.session().bind(&bind(1)).unwrap();
    pair.settle();

    let events = pair.network.take_events();
    let [Event::Withheld(news), Event::Bind(request)] = &*events else { panic!("{events:?}") };
    assert_eq!((news, request.bind()), (&Withheld::taken_back("tcp://:1"), &bind(1)));
    pair.agent.session().withhold(&Withheld::taken_back("tcp://:1")).unwrap();
    pair.agent.session().withhold(&Withheld::taken_back("tcp://:2")).unwrap();
    pair.settle();
    assert_eq!(pair.network.take_events(), [Event::Withheld(Withheld::taken_back("tcp://:2"))]);
}

/// BIND-021
#[test]
fn what_is_withheld_touches_no_bind() {
    let mut lone = Lone::established_network(Config::network());
    lone.hear_frames(&[Encoded::message(Kind::Bind, &bind(1))]);
    let Some(Event::Bind(request)) = lone.events().pop() else { panic!("no bind") };
    lone.session().bound(request, "tcp://:1");
    assert_eq!(counted(&lone.say()), [Kind::Bound]);

    lone.hear_frames(&[say(&withheld("tcp://:1"))]);

    assert_eq!(lone.events(), [Event::Withheld(withheld("tcp://:1"))]);
    assert_eq!((counted(&lone.say()), lone.cause()), (vec![], None), "nothing is answered");
    let refusal = adit_core::Refusal { code: Code::IN_USE, retry_after: None, text: String::new() };
    assert!(lone.session().unbound(adit_core::BindId(1), refusal), "it is in force");
}

/// BIND-022
#[test]
fn what_is_withheld_survives_a_resume_and_is_told_once() {
    let mut pair = Pair::established(Options::default());
    pair.agent.session().withhold(&withheld("tcp://:1")).unwrap();
    pair.settle();
    pair.network.take_events();
    pair.cut();
    pair.agent.session().withhold(&withheld("tcp://:2")).unwrap();
    pair.agent.session().withhold(&Withheld::taken_back("tcp://:1")).unwrap();

    pair.resume();
    pair.settle();

    let mut told = pair.network.take_events();
    told.retain(|event| matches!(event, Event::Withheld(_)));
    let expected = [withheld("tcp://:2"), Withheld::taken_back("tcp://:1")].map(Event::Withheld);
    assert_eq!(told, expected);
}

/// BIND-023, LIM-003
#[test]
fn no_more_is_withheld_than_there_may_be_binds() {
    let mut lone = Lone::established_network(network(|config| (config.binds, config.oddities) = (2, 10)));
    let three = ["tcp://:1", "tcp://:2", "tcp://:3"];

    lone.hear_frames(&three.map(|url| say(&withheld(url))));
    assert_eq!(lone.events(), three[..2].iter().map(|url| Event::Withheld(withheld(url))).collect::<Vec<_>>());
    lone.hear_frames(&vec![say(&withheld(three[2])); 9]);
    assert_eq!((lone.events(), lone.cause()), (vec![], None));
    lone.hear_frames(&[say(&Withheld::taken_back(three[0]))]);
    assert_eq!(lone.events(), [Event::Withheld(Withheld::taken_back(three[0]))]);
    lone.hear_frames(&[say(&withheld(three[2]))]);
    assert_eq!(lone.events(), [Event::Withheld(withheld(three[2]))], "there is room");
    lone.hear_frames(&[say(&withheld(three[0]))]);
    assert_violation(&mut lone, Violation::Oddities);

    let mut lone = Lone::established_agent(agent(|config| config.binds = 2));
    assert_eq!(three.map(|url| lone.session().withhold(&withheld(url))), [Ok(()), Ok(()), Err(BindError::Limit)]);
    assert_eq!(lone.session().withhold(&withheld(three[1])), Ok(()), "it is no other");
    assert_eq!(lone.session().withhold(&Withheld::taken_back(three[1])), Ok(()));
    assert_eq!(lone.session().withhold(&withheld(three[2])), Ok(()));
    assert_eq!(counted(&lone.say()), [Kind::Withheld; 5]);
}

/// BIND-023, LIM-003
#[test]
fn hints_without_purpose_are_oddities() {
    for odd in [Withheld::taken_back("tcp://:1"), withheld("")] {
        let mut lone = Lone::established_network(network(|config| config.oddities = 10));
        lone.hear_frames(&vec![say(&odd); 10]);
        assert_eq!((lone.events(), lone.cause()), (vec![], None), "{odd:?}");

        lone.hear_frames(&[say(&odd)]);

        assert_eq!(lone.cause(), Some(&Cause::Violation(Violation::Oddities)), "{odd:?}");
    }
}

/// BIND-023, LIM-004: what nobody has heard is state and not a queue.
#[test]
fn of_what_comes_before_anybody_looks_the_last_is_told() {
    let mut lone = Lone::established_network(network(|config| config.oddities = 10));
    let other = Withheld { code: Code::FROZEN, ..withheld("tcp://:1") };

    lone.hear_frames(&[&withheld("tcp://:1"), &withheld("tcp://:2"), &other].map(say));
    assert_eq!(told(&mut lone), [other.clone(), withheld("tcp://:2")]);
    lone.hear_frames(&[&Withheld::taken_back("tcp://:1"), &withheld("tcp://:1")].map(say));
    assert_eq!(told(&mut lone), [withheld("tcp://:1")], "it was heard of");
    lone.hear_frames(&[&other, &Withheld::taken_back("tcp://:1"), &Withheld::taken_back("tcp://:1")].map(say));
    assert_eq!(told(&mut lone), [Withheld::taken_back("tcp://:1")]);
    lone.hear_frames(&[&other, &Withheld::taken_back("tcp://:1")].map(say));
    assert_eq!(told(&mut lone), [], "it was not heard of");
    assert_eq!(lone.cause(), None);

    let haste = [say(&withheld("tcp://:3")), say(&Withheld::taken_back("tcp://:3"))];
    (0..5).for_each(|_| lone.hear_frames(&haste));
    assert_eq!(lone.cause(), None);
    lone.hear_frames(&haste);
    assert_violation(&mut lone, Violation::Oddities);
}

#[test]
fn an_agent_that_leaves_says_nothing_more_of_it() {
    let mut lone = Lone::established_agent(Config::agent());
    lone.session().withhold(&withheld("tcp://:1")).unwrap();
    let now = lone.now();
    lone.session().drain(Code::NO_ERROR, None, "", now);

    assert_eq!(lone.session().withhold(&withheld("tcp://:2")), Err(BindError::Ending));

    assert_eq!(counted(&lone.say()), [Kind::Withheld, Kind::GoAway]);
}

fn told(lone: &mut Lone<side::Network>) -> Vec<Withheld> {
    let told = lone.events().into_iter().filter_map(|event| {
        let Event::Withheld(withheld) = event else { return None };
        Some(withheld)
    });
    told.collect()
}

fn say(withheld: &Withheld) -> Encoded {
    Encoded::message(Kind::Withheld, withheld)
}
