//! The endpoints that an uplink wishes for: what a lane is given the others ask for, so that all serve the same (BIND-012).

use alloc::{borrow::ToOwned, collections::BTreeMap, string::String};
use core::ops::Range;

use adit_core::{Bind, BindId, Code, Instant, Unbind, Withheld};

use super::lanes::State;
use crate::{Stream, queue::Sender};

/// An endpoint, and where its streams go.
pub(super) struct Place {
    pub(super) bind: Bind,
    pub(super) streams: Sender<Stream>,
    pub(super) url: Option<String>,
    /// What the network chose where `bind` leaves something open. Only the first lane asks so; the others ask for this.
    pub(super) chosen: Option<String>,
    /// Its number in each lane that asks for it.
    pub(super) numbers: BTreeMap<u8, BindId>,
}

impl<R> State<R> {
    /// Makes a place for an endpoint, and asks for it.
    pub(super) fn place(&mut self, bind: Bind, streams: Sender<Stream>, now: Instant) -> BindId {
        let id = loop {
            self.last_place = self.last_place.wrapping_add(1);
            if !self.places.contains_key(&BindId(self.last_place)) {
                break BindId(self.last_place);
            }
        };
        if self.over {
            return id;
        }
        let open = bind.leaves_open();
        self.places.insert(id, Place { bind, streams, url: None, chosen: None, numbers: BTreeMap::new() });
        let asking = if open { 1 } else { self.lanes.len() };
        self.ask(id, 0..asking, None, now);
        id
    }

    /// Asks for an endpoint in some lanes, under `url` if that is another than the endpoint's own.
    pub(super) fn ask(&mut self, id: BindId, lanes: Range<usize>, url: Option<&str>, now: Instant) {
        let Some(place) = self.places.get_mut(&id) else { return };
        for (number, lane) in (0..).zip(&mut self.lanes).skip(lanes.start).take(lanes.len()) {
            let mut bind = place.bind.clone();
            if let Some(url) = url {
                url.clone_into(&mut bind.url);
            }
            let in_lane = lane.core.bind(bind, now);
            lane.binds.insert(in_lane, id);
            if let Some(old) = place.numbers.insert(number, in_lane) {
                lane.binds.remove(&old);
                let text = "it is asked for as the network chose it in another session";
                lane.core.unbind(Unbind::new(old).because(Code::REPLACED, text), now);
            }
        }
    }

    /// Takes note of what the network chose for an endpoint, so that all lanes serve the same.
    pub(super) fn bound(&mut self, id: BindId, url: &str, now: Instant) {
        let Some(place) = self.places.get_mut(&id) else { return };
        place.url = Some(url.to_owned());
        let chosen = place.bind.chosen(url);
        if chosen.is_some() && chosen != place.chosen {
            place.chosen.clone_from(&chosen);
            let all = 1..self.lanes.len();
            self.ask(id, all, chosen.as_deref(), now);
        }
    }

    /// Tells the network why an endpoint is not asked for, in the first lane alone: it is said of the agent and not of a session, and a
    /// second lane would have it counted twice.
    pub(super) fn withhold(&mut self, withheld: Withheld, now: Instant) {
        if let Some(first) = self.lanes.first_mut() {
            first.core.withhold(withheld, now); // spec: BIND-022
        }
    }

    /// Gives an endpoint up.
    pub(super) fn leave(&mut self, unbind: &Unbind, now: Instant) -> Option<Place> {
        let place = self.places.remove(&unbind.id)?;
        for (lane, number) in &place.numbers {
            let lane = &mut self.lanes[usize::from(*lane)];
            lane.binds.remove(number);
            lane.core.unbind(Unbind { id: *number, ..unbind.clone() }, now);
        }
        Some(place)
    }
}
