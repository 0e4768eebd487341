//! Configuration of one side: built once, checked in one place, then fixed.

use crate::{Duration, Heartbeat, Limits, session::most_spare};

/// The limits and timers of a session. Every field has a default and a range; [`Config::check`] enforces the ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The heartbeat: 10 s and 15 s. On the network: what an agent gets that asks for nothing.
    pub heartbeat: Heartbeat,
    /// The longest frame payload accepted, in octets: 16,376, so that a frame fills one TLS record. 8,192, which
    /// every message fits in, to 65,536.
    pub frame: u32,
    /// The credit of a new stream before any is announced, in octets: 16 KiB. 1 KiB to 1 MiB.
    pub window: u32,
    /// The credit given to a new stream while the pool is not scarce, in octets: 256 KiB.
    pub window_eager: u32,
    /// The most that one stream's window grows to, in octets: 32 MiB, twice what a gigabit a second keeps on its way over
    /// 100 ms. One stream grows only while as much as it has stays free in the pool.
    pub window_max: u32,
    /// What the windows of all streams may grow by beyond `window`, in octets, in sum: 128 MiB. At most 1 TiB.
    pub pool: u64,
    /// The streams that the peer may have open: 16,000 on an agent, 384 on the network. At least 1.
    pub streams: u32,
    /// The streams that this side may have open: 384 on an agent, 16,000 on the network. At least 1.
    pub open_streams: u32,
    /// What one stream may have waiting to be sent, in octets: 262,016, sixteen whole frames. At least one frame.
    pub send_stream: u32,
    /// What all streams together may have waiting to be sent before each is held to one frame, in octets: 16 MiB.
    pub send_total: u64,
    /// The octets of counted frames kept until they are acknowledged: 32 MiB. At least 64 KiB.
    pub retain_octets: u64,
    /// The number of counted frames kept until they are acknowledged: 65,536. At least 64.
    pub retain_frames: u32,
    /// The counted octets received after which an acknowledgement is sent: 64 KiB.
    pub ack_octets: u32,
    /// The time after which counted input is acknowledged: 25 ms.
    pub ack_delay: Duration,
    /// How long a session waits for a next link when its link is lost: 30 s. On an agent: what it asks for, zero to never
    /// resume. On the network: the most that it grants, zero to refuse. At most 1 h.
    pub resume_window: Duration,
    /// The binds of one session: 1,000.
    pub binds: u32,
    /// The binds or commands of the peer that may be without an answer: 100.
    pub unanswered: u32,
    /// The time from the first octet to the end of the handshake: 10 s.
    pub handshake_timeout: Duration,
    /// The time that a drain may take: 30 s.
    pub drain_timeout: Duration,
    /// The time that the last octets of a closing link may take: 5 s.
    pub close_timeout: Duration,
    /// The frames and answers without purpose that a peer may send in a burst: 1,000; ten a second are forgiven.
    pub oddities: u32,
}

impl Config {
    /// Returns the defaults of an agent: the network opens the streams.
    pub const fn agent() -> Self {
        Self {
            heartbeat: Heartbeat { interval: Duration::from_secs(10), tolerance: Duration::from_secs(15) },
            frame: FRAME,
            window: 16 << 10,
            window_eager: 256 << 10,
            window_max: 32 << 20,
            pool: 128 << 20,
            streams: 16_000,
            open_streams: 384,
            send_stream: 16 * FRAME,
            send_total: 16 << 20,
            retain_octets: 32 << 20,
            retain_frames: 65_536,
            ack_octets: 64 << 10,
            ack_delay: Duration::from_millis(25),
            resume_window: Duration::from_secs(30),
            binds: 1_000,
            unanswered: 100,
            handshake_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            oddities: 1_000,
        }
    }

    /// Returns the defaults of the network, which opens most of the streams.
    pub const fn network() -> Self {
        let agent = Self::agent();
        Self { streams: agent.open_streams, open_streams: agent.streams, ..agent }
    }
}

/// The default and the usual longest payload: with its header it fills one TLS record of 16,384 octets.
pub const FRAME: u32 = 16_376;

/// The shortest limit for payloads that a side may announce: every message fits.
pub(crate) const FRAME_LEAST: u32 = 8_192;
/// The longest limit for payloads that a side may announce.
pub(crate) const FRAME_MOST: u32 = 65_536;

/// The highest offset, count or acknowledgement: 2^62 - 1.
pub const MAX_OFFSET: u64 = (1 << 62) - 1;

/// A value of [`Config`] is out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {expected}")]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// Its range, in words.
    pub expected: &'static str,
}

impl Config {
    /// Checks every range.
    ///
    /// # Errors
    /// The first field that is out of its range, and what it must be.
    pub fn check(&self) -> Result<(), ConfigError> {
        let secs = Duration::from_secs;
        let positive = |time: Duration| time > Duration::ZERO && time <= secs(3_600);
        let rules = [
            (heartbeat_in_range(self.heartbeat), "heartbeat", "interval 1 s to 1 h, tolerance interval / 2 to 1 h"),
            ((FRAME_LEAST..=FRAME_MOST).contains(&self.frame), "frame", "8,192 to 65,536 octets"),
            ((1_024..=1 << 20).contains(&self.window), "window", "1 KiB to 1 MiB"),
            (self.window_eager >= self.window, "window_eager", "at least window"),
            (self.window_max >= self.window_eager, "window_max", "at least window_eager"),
            (self.pool <= 1 << 40, "pool", "at most 1 TiB"),
            ((1..=1 << 20).contains(&self.streams), "streams", "1 to 1,048,576"),
            ((1..=1 << 20).contains(&self.open_streams), "open_streams", "1 to 1,048,576"),
            (self.send_stream >= self.frame, "send_stream", "at least one frame"),
            (self.send_total >= u64::from(self.send_stream), "send_total", "at least send_stream"),
            (self.retain_octets >= 64 << 10, "retain_octets", "at least 64 KiB"),
            (self.retain_frames >= 64, "retain_frames", "at least 64"),
            (self.ack_octets >= 1, "ack_octets", "at least 1"),
            (positive(self.ack_delay) && self.ack_delay <= secs(1), "ack_delay", "more than zero, at most 1 s"),
            (self.resume_window <= secs(3_600), "resume_window", "at most 1 h"),
            (self.binds >= 1, "binds", "at least 1"),
            (self.unanswered >= 1, "unanswered", "at least 1"),
            (positive(self.handshake_timeout), "handshake_timeout", "more than zero, at most 1 h"),
            (positive(self.drain_timeout), "drain_timeout", "more than zero, at most 1 h"),
            (positive(self.close_timeout), "close_timeout", "more than zero, at most 1 h"),
            (self.oddities >= 10, "oddities", "at least 10"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            // spec: LIM-001
            Some((_, field, expected)) => Err(ConfigError { field, expected }),
            None => Ok(()),
        }
    }

    /// Returns the limits as this side announces them.
    pub const fn limits(&self) -> Limits {
        Limits { frame: self.frame, window: self.window, streams: self.streams }
    }

    /// Returns the most memory, in octets, that one session of this side takes, whatever the peer does.
    ///
    /// Windows, what waits to be sent, retained frames, and the tables; without TLS and without the allocator's share.
    pub fn worst_case_memory(&self) -> u64 {
        let streams = u64::from(self.streams).saturating_add(u64::from(self.open_streams));
        let tables =
            streams.saturating_mul(STREAM_COST).saturating_add(u64::from(self.binds).saturating_mul(BIND_COST));
        // Frames smaller than their bookkeeping cost more than their octets.
        let retained = self.retain_octets.saturating_add(u64::from(self.retain_frames).saturating_mul(FRAME_COST));
        let windows = self.pool.saturating_add(streams.saturating_mul(u64::from(self.window)));
        let received = windows.saturating_mul(9) / 4; // octets that came in small frames take up to so much
        let sent = self.send_total.saturating_add(u64::from(self.send_stream)); // the last write may go that far beyond
        let sent = sent.saturating_add(streams.saturating_mul(u64::from(self.frame)));
        let spare = most_spare(self.frame).saturating_add(u64::from(self.frame) * 2);
        // spec: LIM-005
        [tables, retained, received, sent, spare, LISTS].into_iter().fold(0, u64::saturating_add)
    }
}

/// Returns whether a heartbeat is in the range that the protocol allows.
pub(crate) fn heartbeat_in_range(heartbeat: Heartbeat) -> bool {
    clamp_heartbeat(heartbeat) == heartbeat
}

/// Returns the heartbeat nearest to `asked` that the protocol allows.
pub(crate) fn clamp_heartbeat(asked: Heartbeat) -> Heartbeat {
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(3_600));
    let interval = asked.interval.clamp(least, most); // spec: HB-008
    Heartbeat { interval, tolerance: asked.tolerance.clamp(interval / 2, most) }
}

/// With the longest metadata, before it is sent or taken.
const STREAM_COST: u64 = 2_560;
const BIND_COST: u64 = 12_288;
const FRAME_COST: u64 = 128;
/// Revocation lists that wait: as long as any frame may be.
const LISTS: u64 = FRAME_MOST as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range() {
        assert_eq!(Config::agent().check(), Ok(()));
        assert_eq!(Config::network().check(), Ok(()));
    }

    #[test]
    fn the_defaults_are_those_that_are_documented() {
        let (agent, network) = (Config::agent(), Config::network());

        let heartbeat = Heartbeat { interval: Duration::from_secs(10), tolerance: Duration::from_secs(15) };
        assert_eq!(agent.heartbeat, heartbeat);
        assert_eq!((agent.frame, agent.window, agent.window_eager), (16_376, 16_384, 262_144));
        assert_eq!((agent.window_max, agent.pool), (33_554_432, 134_217_728));
        assert_eq!((agent.send_stream, agent.send_total), (262_016, 16_777_216));
        assert_eq!((agent.retain_octets, agent.retain_frames, agent.ack_octets), (33_554_432, 65_536, 65_536));
        assert_eq!((agent.streams, agent.open_streams), (16_000, 384));
        assert_eq!(network, Config { streams: 384, open_streams: 16_000, ..agent });
        assert_eq!(MAX_OFFSET, 0x3fff_ffff_ffff_ffff);
    }

    /// LIM-001
    #[test]
    fn each_field_is_taken_up_to_its_bounds_and_not_beyond() {
        type Change = fn(&mut Config);
        type Field = fn(&mut Config) -> &mut Duration;
        let hour = Duration::from_secs(3_600);
        let beyond: [(&str, Change, Change); 25] = [
            ("frame", |it| it.frame = 8_192, |it| it.frame = 8_191),
            ("frame", |it| it.frame = 65_536, |it| it.frame = 65_537),
            ("window", |it| it.window = 1_024, |it| it.window = 1_023),
            ("window", |it| (it.window, it.window_eager) = (1 << 20, 1 << 20), |it| it.window = (1 << 20) + 1),
            ("window_eager", |it| it.window_eager = 16_384, |it| it.window_eager = 16_383),
            ("window_max", |it| it.window_max = 262_144, |it| it.window_max = 262_143),
            ("pool", |it| it.pool = 1 << 40, |it| it.pool = (1 << 40) + 1),
            ("streams", |it| it.streams = 1, |it| it.streams = 0),
            ("streams", |it| it.streams = 1 << 20, |it| it.streams = (1 << 20) + 1),
            ("open_streams", |it| it.open_streams = 1, |it| it.open_streams = 0),
            ("open_streams", |it| it.open_streams = 1 << 20, |it| it.open_streams = (1 << 20) + 1),
            ("send_stream", |it| it.send_stream = 16_376, |it| it.send_stream = 16_375),
            ("send_total", |it| it.send_total = 262_016, |it| it.send_total = 262_015),
            ("retain_octets", |it| it.retain_octets = 65_536, |it| it.retain_octets = 65_535),
            ("retain_frames", |it| it.retain_frames = 64, |it| it.retain_frames = 63),
            ("ack_octets", |it| it.ack_octets = 1, |it| it.ack_octets = 0),
            ("ack_delay", |it| it.ack_delay = NANOSECOND, |it| it.ack_delay = Duration::ZERO),
            ("ack_delay", |it| it.ack_delay = SECOND, |it| it.ack_delay = SECOND + NANOSECOND),
            ("binds", |it| it.binds = 1, |it| it.binds = 0),
            ("unanswered", |it| it.unanswered = 1, |it| it.unanswered = 0),
            ("handshake_timeout", |it| it.handshake_timeout = NANOSECOND, |it| it.handshake_timeout = Duration::ZERO),
            ("drain_timeout", |it| it.drain_timeout = NANOSECOND, |it| it.drain_timeout = Duration::ZERO),
            ("close_timeout", |it| it.close_timeout = NANOSECOND, |it| it.close_timeout = Duration::ZERO),
            ("oddities", |it| it.oddities = 10, |it| it.oddities = 9),
            ("heartbeat", |it| it.heartbeat.interval = SECOND, |it| it.heartbeat.interval = SECOND - NANOSECOND),
        ];
        for (field, inside, beyond) in beyond {
            let (mut taken, mut refused) = (Config::agent(), Config::agent());
            inside(&mut taken);
            beyond(&mut refused);
            assert_eq!(taken.check(), Ok(()), "{field}");
            assert_eq!(refused.check().map_err(|error| error.field), Err(field));
        }
        let longest: [(&str, Field); 4] = [
            ("resume_window", |it| &mut it.resume_window),
            ("handshake_timeout", |it| &mut it.handshake_timeout),
            ("drain_timeout", |it| &mut it.drain_timeout),
            ("close_timeout", |it| &mut it.close_timeout),
        ];
        for (name, field) in longest {
            let mut config = Config::agent();
            *field(&mut config) = hour;
            assert_eq!(config.check(), Ok(()), "{name}");
            *field(&mut config) = hour + NANOSECOND;
            assert_eq!(config.check().map_err(|error| error.field), Err(name));
        }
    }

    /// LIM-005
    #[test]
    fn the_worst_case_grows_by_what_each_field_may_take() {
        let more = |change: fn(&mut Config)| {
            let mut config = Config::agent();
            change(&mut config);
            config.worst_case_memory() - Config::agent().worst_case_memory()
        };
        let streams = 16_000 + 384;

        assert_eq!(more(|it| it.pool += 4), 9);
        assert_eq!(more(|it| it.window += 4), 9 * streams);
        assert_eq!(more(|it| it.streams += 1), 2_560 + 16_376 + 16_384 * 9 / 4);
        assert_eq!(more(|it| it.open_streams += 1), 2_560 + 16_376 + 16_384 * 9 / 4);
        assert_eq!(more(|it| it.frame += 1), streams + 16 + 2);
        assert_eq!((more(|it| it.send_stream += 1), more(|it| it.send_total += 1)), (1, 1));
        assert_eq!((more(|it| it.retain_octets += 1), more(|it| it.retain_frames += 1)), (1, 128));
        assert_eq!(more(|it| it.binds += 1), 12_288);
    }

    const SECOND: Duration = Duration::from_secs(1);
    const NANOSECOND: Duration = Duration::from_nanos(1);

    #[test]
    fn a_heartbeat_is_clamped_to_what_the_protocol_allows() {
        let ms = Duration::from_millis;
        let clamp = |interval, tolerance| {
            let clamped = clamp_heartbeat(Heartbeat { interval, tolerance });
            (clamped.interval, clamped.tolerance)
        };

        assert_eq!(clamp(ms(1), ms(1)), (ms(1_000), ms(500)));
        assert_eq!(clamp(ms(10_000), ms(4_000)), (ms(10_000), ms(5_000)));
        assert_eq!(clamp(Duration::MAX, Duration::MAX), (ms(3_600_000), ms(3_600_000)));
    }
}
