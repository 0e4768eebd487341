//! Who has no business here: what strangers hear, and what is made of them.

use core::time::Duration;

use adit_tokio::proto::{
    Code, Hello, Inquiry, Message as _, Refusal, Secret,
    frame::{Encoded, Kind, RawKind},
};

use crate::{
    resume::hello,
    support::{Network, until},
    wire::{Wire, first},
};

/// AUTH-001: whoever shows something at a name that is another's learns from no octet whether it is good anywhere.
#[tokio::test]
async fn at_a_name_of_the_ingress_strangers_of_every_kind_hear_the_same_octets() {
    let network = Network::start_named("['127.0.0.1', {name: acme.example, accounts: [acme]}]");
    let (id, acme) = network.token_of("acme", &["bind:tcp:0-65535"]);
    let (_, globex) = network.token_of("globex", &["bind:tcp:0-65535"]);
    let (revoked, late) = network.token_of("acme", &[]);
    network.run(&["token", "revoke", &revoked]);
    let (_, unknown) = Network::start("").token_of("acme", &[]);
    let mut wrong = acme.expose().to_vec();
    wrong[40] ^= 1; // its checksum is wrong as well

    let mut heard = Vec::new();
    for shown in [globex.clone(), unknown, Secret::new(wrong), late, Secret::new(*b"x"), Secret::default()] {
        let mut wire = Wire::dial_as(&network, "acme.example").await;
        wire.say(&Encoded::message(Kind::Hello, &first(hello(&shown, 1)))).await;
        heard.push((wire.hear().await.expect("an answer"), wire.hear().await));
    }

    assert_eq!(heard[0].0.0, RawKind::Known(Kind::Refuse));
    let refusal = Refusal::decode(&heard[0].0.1).unwrap();
    assert_eq!((refusal.code, refusal.retry_after), (Code::CREDENTIALS, Some(Duration::from_secs(30))));
    for other in &heard {
        assert_eq!(other, &heard[0], "not one octet differs, and nothing follows");
    }
    let admitted = [("acme.example", &acme), ("127.0.0.1", &acme), ("127.0.0.1", &globex)];
    for (name, token) in admitted {
        let mut wire = Wire::dial_as(&network, name).await;
        wire.say(&Encoded::message(Kind::Hello, &first(hello(token, 1)))).await;
        assert_eq!(wire.hear().await.expect("an answer").0, RawKind::Known(Kind::Welcome), "{name}");
    }
    let told = || network.metric("adit_ingress_errors_total{reason=\"account\"}");
    until("the vendor learns the difference", || told() == 1).await;
    let log = network.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("does not admit their account")).collect();
    assert!(lines.len() == 1 && lines[0].contains("acme.example") && lines[0].contains("globex"), "{log}");
    assert!(!lines[0].contains(&id));
}

/// PRE-012: `adit diagnose` of any number of agents alarms nobody and is nobody's failure.
#[tokio::test]
async fn who_asks_for_the_versions_is_answered_and_counted_as_that_alone() {
    let network = Network::start("");
    for number in 1..=3 {
        let mut wire = Wire::dial(&network).await;
        wire.say(&Inquiry::new().poll_transmit().unwrap()).await;

        let (kind, payload) = wire.hear().await.expect("an answer");
        assert_eq!(kind, RawKind::Known(Kind::Refuse));
        let refusal = Refusal::decode(&payload).unwrap();
        assert_eq!((refusal.code, &*refusal.text), (Code::VERSION, "this network speaks version 1"));
        assert_eq!(wire.hear().await, None);
        let asked = || network.metric("adit_ingress_errors_total{reason=\"asked\"}");
        until("it is counted", || asked() == number).await;
    }
    let page = network.admin("/metrics");
    let counted = page.lines().filter(|line| line.starts_with("adit_refused_total") || line.starts_with("adit_limits"));
    assert!(counted.clone().all(|line| line.ends_with(" 0")), "{:?}", counted.collect::<Vec<_>>());
    assert!(!network.log().contains("was refused"), "{}", network.log());
    // An agent that speaks none of the versions has failed.
    let mut wire = Wire::dial(&network).await;
    wire.say(&Encoded::message(Kind::Hello, &Hello { versions: vec![2], ..first(hello(&Secret::default(), 1)) })).await;
    wire.hear().await.expect("an answer");
    until("it is counted", || network.metric("adit_ingress_errors_total{reason=\"version\"}") == 1).await;
}
