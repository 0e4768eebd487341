//! Streams, binds and commands that an application uses without a plan: nothing is promised but that nothing else is harmed.

use core::{
    pin::pin,
    task::{Context, Waker},
};
use std::io::IoSlice;

use adit_core::{
    BindId, Cause, Code, Command, CommandResult, Event, Open, Refusal, Unbind,
    driver::{Handle, StreamHandle},
    side::{Agent, Network},
};

use crate::Choices;

/// What has no plan.
#[derive(Default)]
pub(super) struct Wild {
    pub(super) streams: Vec<StreamHandle>,
    answers: u8,
}

impl Wild {
    /// Returns whether the peer opened the stream without a plan.
    pub(super) fn is_wild(handle: &StreamHandle) -> bool {
        handle.take_open().is_some_and(|open| open.endpoint == NAME)
    }

    pub(super) fn act(
        &mut self,
        agent: &Handle<Agent>,
        network: &Handle<Network>,
        most: usize,
        choices: &mut Choices<'_>,
    ) {
        let cx = &Context::from_waker(Waker::noop());
        let what = choices.number::<u8>() % 20;
        let code = Code(choices.number());
        if what < 4 {
            let bind = choices.maybe(|choices| BindId(u32::from(choices.number::<u8>() % 4)));
            let open = Open { endpoint: NAME.into(), bind, ..Open::default() };
            let opened = if what < 2 { agent.open(open) } else { network.open(open) };
            if let Ok(handle) = opened.map_err(|error| error.to_string()) {
                self.streams.push(handle);
            }
            return;
        }
        let id = BindId(u32::from(choices.number::<u8>() % 4));
        match what {
            4 if choices.coin() => _ = agent.withhold(&crate::model::a_hint(choices)),
            4 => _ = agent.bind(&crate::model::a_bind(id)),
            5 => agent.unbind(&Unbind::new(id).cutting(choices.coin())),
            6 => _ = network.unbound(id, a_refusal()),
            7 => {
                _ = network.command(Command::Restart, "now");
                _ = network.tell_revocations(&"lists".into());
            }
            8 => assert!(agent.live_streams() <= 400 && !agent.is_ending() && agent.cause().is_none()),
            _ => {}
        }
        let place = choices.below(self.streams.len());
        let Some(stream) = self.streams.get_mut(place) else { return };
        let octets = vec![7; choices.size(most)];
        match what {
            9 => _ = stream.poll_read(1 + choices.size(9_000), cx),
            10 => _ = stream.poll_write(&mut octets.into(), cx),
            11 => _ = stream.poll_copy(&[IoSlice::new(&octets), IoSlice::new(&[1, 2, 3])], cx),
            12 => _ = stream.poll_accepted(cx),
            13 => _ = stream.finish(),
            14 => stream.reset(code),
            15 => stream.reset_unfinished(code),
            16 => stream.stop(code),
            17 => stream.accept(),
            18 => stream.release(),
            19 => drop(self.streams.swap_remove(place)),
            _ => {}
        }
    }

    pub(super) fn on_agent_event(&self, event: Event, agent: &Handle<Agent>) {
        assert!(!matches!(event, Event::Closed(_)), "{event:?}");
        if let Event::Command(request) = event {
            let result = CommandResult { id: request.id, code: Code::FORBIDDEN, text: String::new() };
            assert_eq!(agent.answer(&result), Ok(()));
        }
    }

    pub(super) fn on_network_event(&mut self, event: Event, network: &Handle<Network>) {
        assert!(!matches!(event, Event::Closed(_)), "{event:?}");
        if let Event::Bind(request) = event {
            self.answers = self.answers.wrapping_add(1);
            if self.answers.is_multiple_of(3) {
                network.reject(request, a_refusal());
            } else {
                network.bound(request, "tcp://:1");
            }
        }
    }

    /// Ends the session in one of the ways there are, or leaves that to the last handle.
    pub(super) fn part(&self, agent: &Handle<Agent>, network: &Handle<Network>, choices: &mut Choices<'_>) {
        let cx = &mut Context::from_waker(Waker::noop());
        let code = Code(choices.number());
        match choices.number::<u8>() % 6 {
            0 => agent.close(code, "bye"),
            1 => network.close(code, "bye"),
            2 => agent.drain(code, None, "soon"),
            3 => network.drain(code, None, "soon"),
            _ => return,
        }
        for closed in [pin!(agent.closed()).poll(cx), pin!(network.closed()).poll(cx)] {
            assert!(closed.is_pending() || closed == core::task::Poll::Ready(Cause::Local(code)), "{closed:?}");
        }
        assert!(pin!(agent.gone()).poll(cx).is_pending());
        assert!(agent.rtt().is_some() && pin!(agent.established()).poll(cx).is_ready());
    }
}

fn a_refusal() -> Refusal {
    Refusal { code: Code::BUSY, retry_after: None, text: String::new() }
}

const NAME: &str = "wild";
