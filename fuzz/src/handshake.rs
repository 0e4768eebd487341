//! A link from its first octet: what the peer says of itself is anything, and so is the application's answer.

use adit_core::{
    Cause, Code, Config, Duration, Event, Hello, Inquiry, Limits, Link, Loss, Refusal, ResumeOffer, Secret, SessionId,
    Side, VERSION, Violation, Welcome,
    frame::Kind,
    side::{Agent, Network},
    testing::{Lone, a_welcome, encoded, raw},
};

use crate::{
    Choices,
    messages::{self, Maker, damage},
};

/// The handshake of either side, with and without a session to resume.
pub fn handshake(octets: &[u8]) {
    inquire(octets);
    let mut choices = Choices::new(octets);
    match choices.number::<u8>() % 4 {
        0 => run::<Network>(Lone::network(Config::network()), None, &mut choices),
        1 => run::<Network>(
            Lone::network(Config::network()),
            Some(Lone::resumable_network(Config::network())),
            &mut choices,
        ),
        2 => run::<Agent>(Lone::agent(Config::agent()), None, &mut choices),
        _ => run::<Agent>(returning_agent(), None, &mut choices),
    }
}

/// A question is answered the same in whatever pieces the answer comes, and a network of this version is one that says so.
fn inquire(octets: &[u8]) {
    let (mut whole, mut pieces) = (Inquiry::new(), Inquiry::new());
    whole.handle_input(octets);
    for octet in octets {
        pieces.handle_input(core::slice::from_ref(octet));
    }
    assert_eq!(whole.answer(), pieces.answer());
    if let Some(Ok(versions)) = whole.answer() {
        assert!(versions.contains(&VERSION) && versions.len() <= 16, "PRE-012: {versions:?}");
    }
}

/// A side, with what only its peer says and only its application answers.
trait Tested: Side + Sized {
    fn greeting(choices: &mut Choices<'_>) -> Vec<u8>;
    fn answer(lone: &mut Lone<Self>, old: &mut Option<Lone<Self>>, event: Event, choices: &mut Choices<'_>);
}

fn run<S: Tested>(mut lone: Lone<S>, mut old: Option<Lone<S>>, choices: &mut Choices<'_>) {
    let (mut closed, mut heard) = (0, 0);
    let resumes = lone.link.session().is_some();
    for _ in 0..40 {
        if choices.is_over() {
            break;
        }
        let now = lone.now();
        match choices.number::<u8>() % 16 {
            0..=6 => {
                let octets = input::<S>(choices);
                let cut = choices.below(octets.len());
                let (first, second) = octets.split_at(cut);
                lone.hear(first);
                lone.hear(second);
                heard += octets.len();
            }
            7 => {
                let octets = choices.octets(40);
                lone.hear(octets);
                heard += octets.len();
            }
            8 => lone.wait(Duration::from_millis(choices.size(12_000) as u64)),
            9 => lone.link.handle_eof(choices.coin(), now),
            10 => lone.link.handle_loss(Loss::Other, now),
            11 => lone.link.close(Code(choices.number()), "no", now),
            _ => {
                let octets = S::greeting(choices);
                lone.hear(&octets);
                heard += octets.len();
            }
        }
        for event in lone.events() {
            closed += usize::from(matches!(event, Event::Closed(_)));
            S::answer(&mut lone, &mut old, event, choices);
        }
        closed += lone.events().iter().filter(|event| matches!(event, Event::Closed(_))).count();
        lone.say();
        check(&mut lone, closed, heard, resumes);
    }
    lone.wait(Duration::from_secs(3 * 3_600)); // the longest heartbeat that a peer may ask for
    closed += lone.events().iter().filter(|event| matches!(event, Event::Closed(_))).count();
    assert!(lone.link.is_finished(), "L10: a handshake has its time");
    assert_eq!((closed, lone.link.poll_timeout()), (1, None), "L10");
}

fn check<S: Side>(lone: &mut Lone<S>, closed: usize, heard: usize, resumes: bool) {
    let now = lone.now();
    assert_eq!((lone.say(), lone.events()), (vec![], vec![]), "L8");
    assert!(!lone.link.wants_transmit(), "L6");
    lone.link.handle_timeout(now);
    let next = lone.link.poll_timeout();
    assert!(next.is_none_or(|deadline| deadline.at > now), "L3: {next:?} at {now:?}");
    assert!(closed <= 1, "L10");
    if heard == 0 {
        assert!(resumes || lone.link.session().is_none(), "nobody has asked for a session");
    }
    if lone.link.session().is_none() && S::ROLE == adit_core::Role::Network && lone.cause().is_none() {
        assert!(heard <= 16_384, "PRE-006: {heard} octets");
    }
    if let Some(Cause::Violation(violation)) = lone.cause() {
        assert!(Violation::ALL.contains(violation));
    }
    if let Some(cause) = lone.cause() {
        crate::text::tell(cause);
    }
}

/// A frame that may or may not stand at the beginning of a link.
fn input<S: Tested>(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut octets = match choices.number::<u8>() % 4 {
        0 => {
            let refusal = messages::a_refusal(&mut Maker { choices, beyond: false });
            raw(Kind::Refuse.number(), 0, &encoded(&refusal))
        }
        1 => {
            let kind = choices.one_of(Kind::ALL);
            raw(kind.number(), u32::from(kind.of_stream()), choices.octets(20))
        }
        2 => raw(choices.number(), choices.number::<u8>().into(), &vec![0; choices.size(17_000)]),
        _ => S::greeting(choices),
    };
    if choices.number::<u8>() < 60 {
        damage(&mut octets, choices);
    }
    octets
}

fn workable(choices: &mut Choices<'_>) -> Limits {
    Limits {
        frame: choices.one_of(&[16_376, 8_192, 65_536, 8_191, 65_537]),
        window: choices.one_of(&[0, 1 << 30, 16_384]),
        streams: 100,
    }
}

impl Tested for Network {
    fn greeting(choices: &mut Choices<'_>) -> Vec<u8> {
        let mut hello = messages::a_hello(&mut Maker { choices, beyond: false });
        hello.limits = workable(choices);
        if choices.number::<u8>() < 200 {
            hello.versions.truncate(15);
            hello.versions.push(VERSION);
        }
        if let Some(resume) = hello.resume.as_mut().filter(|_| choices.coin()) {
            (resume.session, resume.secret) = (SessionId([7; 16]), Secret::new([9; 16]));
            resume.received = choices.number::<u8>().into();
        }
        raw(Kind::Hello.number(), 0, &encoded(&hello))
    }

    fn answer(lone: &mut Lone<Self>, old: &mut Option<Lone<Self>>, event: Event, choices: &mut Choices<'_>) {
        let Event::Hello(request) = event else { return };
        assert!(request.hello().versions.contains(&VERSION), "PRE-003");
        let (now, lives) = (lone.now(), lone.cause().is_none());
        let mut welcome = request.welcome(SessionId([3; 16]), "local", "node-1");
        welcome.resume = choices.maybe(an_offer);
        match (choices.number::<u8>() % 4, old) {
            (0, _) => lone.link.refuse(request, a_no(choices), now),
            (1, Some(old)) => {
                let good = request.hello().resume.as_ref().is_some_and(|resume| {
                    (resume.session, resume.received) == (SessionId([7; 16]), 0)
                        && resume.secret == Secret::new([9; 16])
                });
                let had = old.link.session().is_some();
                let resumed = lone.link.resume(request, &mut old.link, welcome, now);
                assert_eq!(resumed.is_ok(), good && had && lives, "RES-007");
                assert_eq!(old.link.session().is_some(), had && resumed.is_err(), "RES-008");
                if let Err(request) = resumed {
                    lone.link.refuse(request, a_no(choices), now);
                }
            }
            (2, _) => drop(request), // the application forgot
            _ => {
                let given = lives && request.hello().resume.is_none();
                lone.link.accept(request, welcome, now);
                assert_eq!(lone.link.session().is_some(), given, "who asks to resume is given no other session");
            }
        }
    }
}

impl Tested for Agent {
    fn greeting(choices: &mut Choices<'_>) -> Vec<u8> {
        let mut welcome = messages::a_welcome(&mut Maker { choices, beyond: false });
        welcome.limits = workable(choices);
        if choices.number::<u8>() < 200 {
            welcome.version = VERSION;
        }
        if choices.coin() {
            (welcome.session, welcome.resumed) = (SessionId([7; 16]), Some(choices.number::<u8>().into()));
        }
        raw(Kind::Welcome.number(), 0, &encoded(&welcome))
    }

    fn answer(_: &mut Lone<Self>, _: &mut Option<Lone<Self>>, _: Event, _: &mut Choices<'_>) {}
}

/// An agent that asks to resume.
fn returning_agent() -> Lone<Agent> {
    let mut old = Lone::agent(Config::agent());
    old.say();
    let offer = ResumeOffer { secret: Secret::new([9; 16]), window: Duration::from_secs(30) };
    let welcome = Welcome { resume: Some(offer), ..a_welcome() };
    old.hear(&raw(Kind::Welcome.number(), 0, &encoded(&welcome)));
    old.events();
    old.say();
    let (now, hello) = (old.now(), adit_core::testing::a_hello());
    let hello = Hello { metadata: String::from("again"), ..hello };
    let link = Link::<Agent>::resume(&mut old.link, Config::agent(), hello, 2, now).expect("it was offered");
    Lone::over(link, now)
}

fn an_offer(choices: &mut Choices<'_>) -> ResumeOffer {
    ResumeOffer { secret: Secret::new([5; 16]), window: Duration::from_millis(choices.number::<u16>().into()) }
}

fn a_no(choices: &mut Choices<'_>) -> Refusal {
    messages::a_refusal(&mut Maker { choices, beyond: false })
}
