//! Which of several members gets the next request or connection. Pure.

use core::time::Duration;

/// What is known of a member when one is to be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Requests and connections that all sessions of its agent have open.
    pub(super) agent: usize,
    /// Those of its own session.
    pub(super) session: usize,
    /// The way to its agent and back, once that was measured.
    pub(super) rtt: Option<Duration>,
    /// When it was chosen last, counted in choices of its endpoint.
    pub(super) turn: u64,
}

/// Chooses the member with the least outstanding, and among equals the one that was not chosen for longest. What a far member
/// has open weighs more: it gets its share when those that are nearer are busy.
pub(super) fn best<T>(candidates: impl Iterator<Item = (Candidate, T)> + Clone) -> Option<T> {
    let nearest = candidates.clone().filter_map(|(candidate, _)| candidate.rtt).min().unwrap_or_default();
    candidates.min_by_key(|(candidate, _)| candidate.rank(nearest)).map(|(_, it)| it)
}

impl Candidate {
    fn rank(&self, nearest: Duration) -> (u64, usize, u64) {
        let open = (self.agent as u64).saturating_add(1);
        (open.saturating_mul(self.weight(nearest)), self.session, self.turn)
    }

    /// Returns 1 for what is as near as the nearest, for all that matters, and up to 8 for what is eight times as far.
    fn weight(&self, nearest: Duration) -> u64 {
        let near = nearest.saturating_add(MARGIN).as_nanos().max(1);
        let times = self.rtt.map_or(1, |rtt| rtt.as_nanos() / near).max(1);
        1 << times.ilog2().min(FARTHEST)
    }
}

/// What a request takes beside its way, for this purpose: nearer than this makes no difference.
const MARGIN: Duration = Duration::from_millis(10);
/// The weight of the farthest, as a power of two: a member is never without work while a nearer one has eight times as much.
const FARTHEST: u32 = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_least_outstanding_goes_first_then_the_nearest_then_who_waited_longest() {
        let rows = [
            // (agent, session, rtt in ms, turn) of each, and who is chosen
            (vec![(1, 1, None, 0), (0, 0, None, 9)], 1),
            (vec![(0, 0, None, 5), (0, 0, None, 4)], 1),
            (vec![(3, 2, None, 0), (3, 1, None, 9)], 1),
            (vec![(0, 0, Some(100), 0), (0, 0, Some(1), 9)], 1),
            (vec![(0, 0, Some(3), 0), (0, 0, Some(1), 9)], 0), // as near, for all that matters
            (vec![(0, 0, Some(100), 0), (6, 6, Some(1), 9)], 1),
            (vec![(0, 0, Some(100), 0), (7, 7, Some(1), 9)], 0), // busy
            (vec![(0, 0, None, 9), (0, 0, Some(1), 0)], 1),
            (vec![(0, 0, None, 0), (0, 0, Some(1), 9)], 0), // the unknown is not held against it
        ];
        for (members, expected) in rows {
            assert_eq!(chosen(&members), Some(expected), "{members:?}");
        }
        assert_eq!(chosen(&[]), None);
    }

    proptest! {
        /// Requests come and go in any order: nobody has more than eight times what another has and one more, whoever is as near
        /// has at most one more, and in a round of idle choices everybody who is near gets its turn.
        #[test]
        fn nobody_starves_and_nobody_is_trampled(
            rtts in prop::collection::vec(prop::option::of(0..400_u64), 1..8),
            acts in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..300),
        ) {
            let mut members: Vec<Row> = rtts.iter().map(|rtt| (0, 0, *rtt, 0)).collect();
            let (mut held, mut turn) = (Vec::new(), 0);
            for (begins, which) in acts {
                if begins || held.is_empty() {
                    let at = chosen(&members).unwrap();
                    turn += 1;
                    let open = members[at].0 + 1;
                    for (other, row) in members.iter().enumerate() {
                        prop_assert!(open <= (row.0 + 1) * 8, "{at} has {open}, {other} {members:?}");
                        if row.2 == members[at].2 {
                            prop_assert!(open <= row.0 + 1, "{at} has {open}, {other} {members:?}");
                        }
                    }
                    members[at] = (open, open, members[at].2, turn);
                    held.push(at);
                } else {
                    let at = held.swap_remove(which.index(held.len()));
                    members[at].0 -= 1;
                    members[at].1 -= 1;
                }
            }
            for row in &mut members {
                *row = (0, 0, Some(1), row.3);
            }
            let mut round = Vec::new();
            for _ in 0..members.len() {
                let at = chosen(&members).unwrap();
                turn += 1;
                members[at].3 = turn;
                round.push(at);
            }
            round.sort_unstable();
            prop_assert_eq!(round, (0..members.len()).collect::<Vec<_>>());
        }
    }

    type Row = (usize, usize, Option<u64>, u64);

    fn chosen(members: &[Row]) -> Option<usize> {
        let candidate = |(at, row): (usize, &Row)| {
            let (agent, session, rtt, turn) = *row;
            (Candidate { agent, session, rtt: rtt.map(Duration::from_millis), turn }, at)
        };
        best(members.iter().enumerate().map(candidate))
    }
}
