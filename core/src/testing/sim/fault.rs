//! How things go wrong.

use alloc::vec::Vec;

use super::{
    Broken,
    cable::Fate,
    ground::{Happening, Host},
    plan::Fault,
    world::World,
};
use crate::{Duration, Role};

impl World {
    /// Lets one thing go wrong.
    pub(super) fn strike(&mut self, fault: Fault) -> Result<(), Broken> {
        if let Fault::Drain { node, .. }
        | Fault::TakeBack { node }
        | Fault::Evict { node }
        | Fault::Command { node }
        | Fault::Thief { node } = fault
            && !self.nodes[node].answers()
        {
            return Ok(());
        }
        self.note_trouble(&fault);
        let ground = &mut self.ground;
        let now = ground.now;
        match fault {
            Fault::Reset { agent, told } => self.reset(agent, told),
            Fault::Outage { agent, node, roles, lasts } => ground.interrupt(agent, node, &roles, lasts),
            Fault::Forget { host, roles, swallow } => {
                let fate = if swallow { Fate::Swallowed } else { Fate::Dead };
                ground.cables_of(host).into_iter().for_each(|cable| ground.doom(cable, &roles, fate));
            }
            Fault::Restart { host: Host::Agent(agent), away, quiet } => {
                self.kin(agent).into_iter().for_each(|it| self.agents[it].stop(quiet, now + away, &mut self.ground));
            }
            Fault::Restart { host: Host::Node(node), away, quiet } => self.nodes[node].stop(quiet, now + away, ground),
            Fault::Drain { node, patience, away } => {
                self.nodes[node].drain(ground);
                let restart = Fault::Restart { host: Host::Node(node), away, quiet: false };
                ground.after(patience, Happening::Strike(restart));
            }
            Fault::Sleep { host, lasts, counted } => {
                for host in self.machine(host) {
                    self.clock(host).sleep(now, now + lasts, counted);
                    self.ground.after(lasts, Happening::Return(host));
                }
            }
            Fault::Jump { host, by } => self.machine(host).into_iter().for_each(|host| self.clock(host).jump(by)),
            Fault::Roam { agent, noticed } => {
                let both = [Role::Agent, Role::Network];
                for agent in self.kin(agent) {
                    let ground = &mut self.ground;
                    ground.cables_of(Host::Agent(agent)).into_iter().for_each(|it| ground.doom(it, &both, Fate::Dead));
                    if noticed {
                        self.agents[agent].notice_change(ground);
                    }
                }
            }
            Fault::Refuse { node, lasts, how } => self.nodes[node].refusing = Some((how, now + lasts)),
            Fault::TakeBack { node } => self.nodes[node].take_back(),
            Fault::Evict { node } => self.nodes[node].evict(ground),
            Fault::Command { node } => self.nodes[node].command(),
            Fault::Thief { node } => self.nodes[node].rob(ground)?,
            Fault::Rebind { agent, cut } => {
                self.kin(agent).into_iter().for_each(|it| self.agents[it].rebind(cut, &self.ground));
            }
        }
        self.run_all()
    }

    /// Ends all that is wrong, but for connections that are dead: those have to be found out.
    pub(super) fn make_well(&mut self) -> Result<(), Broken> {
        let now = self.ground.now;
        self.ground.say(|| "nothing goes wrong any more".into());
        for ((agent, node), until) in core::mem::take(&mut self.ground.outages) {
            if until.iter().any(|until| *until > now) {
                self.ground.heal(agent, node);
            }
        }
        for node in &mut self.nodes {
            node.refusing = None;
            if node.is_draining() {
                node.stop(false, now, &mut self.ground);
            }
            node.come_back_at_once(now);
        }
        for agent in &mut self.agents {
            agent.come_back_at_once(&self.ground);
        }
        self.run_all()
    }

    /// Takes note of who may lose links now, and until when links may not be made.
    fn note_trouble(&mut self, fault: &Fault) {
        let (agents, nodes) = (0..self.agents.len(), 0..self.nodes.len());
        let (agents, nodes): (Vec<usize>, Vec<usize>) = (agents.collect(), nodes.collect());
        let (whom, lasts) = match fault {
            Fault::Reset { agent, .. } | Fault::Roam { agent, .. } => (Host::Agent(*agent), Duration::ZERO),
            Fault::Outage { agent, lasts, .. } => (Host::Agent(*agent), *lasts),
            Fault::Forget { host, .. } => (*host, Duration::ZERO),
            // A link that is found dead later was silent for as long as the clock says.
            Fault::Jump { host, .. } => (*host, AWAKENING),
            Fault::Restart { host, away, .. } => (*host, *away),
            Fault::Sleep { host, lasts, .. } => (*host, *lasts + AWAKENING),
            Fault::Drain { node, patience, away } => (Host::Node(*node), *patience + *away),
            Fault::Refuse { node, lasts, how } => {
                self.ground.longest_wish = self.ground.longest_wish.max(how.wish());
                (Host::Node(*node), *lasts)
            }
            Fault::TakeBack { node } | Fault::Evict { node } | Fault::Command { node } | Fault::Thief { node } => {
                (Host::Node(*node), Duration::ZERO)
            }
            Fault::Rebind { .. } => return,
        };
        let all =
            matches!(fault, Fault::Restart { .. } | Fault::Sleep { .. } | Fault::Jump { .. } | Fault::Roam { .. });
        match whom {
            // What happens to the connections of one session is no trouble for its siblings.
            Host::Agent(agent) if !all => self.ground.note_trouble(&[agent], &nodes, lasts),
            Host::Agent(agent) => self.ground.note_trouble(&self.kin(agent), &nodes, lasts),
            Host::Node(node) => self.ground.note_trouble(&agents, &[node], lasts),
        }
    }

    /// Returns the hosts that are on one machine with this one.
    fn machine(&self, host: Host) -> Vec<Host> {
        match host {
            Host::Agent(agent) => self.kin(agent).into_iter().map(Host::Agent).collect(),
            Host::Node(_) => [host].into(),
        }
    }

    /// Resets the connections of an agent; whoever is not told hears nothing more.
    fn reset(&mut self, agent: usize, told: [bool; 2]) {
        // A machine that sleeps hears nothing.
        let asleep = [self.agents[agent].clock.sleeps(), self.nodes.iter().any(|node| node.clock.sleeps())];
        let told = [told[0] && !asleep[0], told[1] && !asleep[1]];
        let ground = &mut self.ground;
        let cables = ground.cables_of(Host::Agent(agent));
        for (role, told) in [Role::Network, Role::Agent].into_iter().zip(told) {
            if !told {
                // The word of the one would tell the other.
                cables.iter().for_each(|cable| ground.doom(*cable, &[role], Fate::Dead));
            }
        }
        if told[0] {
            self.agents[agent].lose(&cables, ground);
        }
        if told[1] {
            self.nodes.iter_mut().for_each(|node| node.lose(&cables, ground));
        }
    }
}

/// How long a machine that slept may take to find out that a link is dead.
const AWAKENING: Duration = Duration::from_secs(150);

/// How long everything may take to be well again after [`World::make_well`], from the constants of the policies:
/// see [`World::patience`].
pub(super) const SLACK: Duration = Duration::from_secs(20);
