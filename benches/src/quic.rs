//! quinn-proto over a pipe of datagrams in memory: no socket, no task, a clock that is a number.
//!
//! What it does is what [`Pair`](crate::pair::Pair) does with TLS, as far as QUIC can be asked for the same.

use core::{mem::size_of, net::SocketAddr, time::Duration};
use std::{sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig, Event, FinishError,
    ReadError, ServerConfig, StreamEvent, StreamId, TransportConfig, VarInt,
    congestion::CubicConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};

use crate::{BLOCK, MESSAGE, secure::Credentials};

/// Two ends of one connection, and their time.
#[derive(Debug)]
pub struct Quic {
    client: Peer,
    server: Peer,
    now: Instant,
}

/// One end.
#[derive(Debug)]
struct Peer {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    address: SocketAddr,
    output: Vec<u8>,
}

impl Quic {
    /// Joins two ends by datagrams of up to `datagram` octets; so many streams may be open at once.
    ///
    /// # Panics
    /// When they cannot be joined.
    pub fn new(datagram: u16, streams: u32) -> Self {
        let Credentials { client, server } = Credentials::new(b"quic");
        let transport = Arc::new(transport(datagram, streams));
        let client = QuicClientConfig::try_from(client).expect("it has the cipher of the first packets");
        let mut client = ClientConfig::new(Arc::new(client));
        client.transport_config(Arc::clone(&transport));
        let server = QuicServerConfig::try_from(server).expect("it has the cipher of the first packets");
        let mut server = ServerConfig::with_crypto(Arc::new(server));
        server.transport_config(transport);

        let now = Instant::now();
        let mut dialer = Peer::new(1, datagram, None);
        let listener = Peer::new(2, datagram, Some(Arc::new(server)));
        let name = "network.test";
        dialer.connection = Some(dialer.endpoint.connect(now, client, listener.address, name).expect("it is allowed"));
        let mut quic = Self { client: dialer, server: listener, now };
        for _ in 0..ROUNDS {
            quic.exchange();
        }
        assert!(quic.ends().iter().all(|connection| !connection.is_handshaking()), "the handshake is complete");
        quic.rest();
        quic
    }

    /// Opens streams from the client. The server learns of one by what is sent on it, so each carries an octet.
    ///
    /// # Panics
    /// When there are too many.
    pub fn open(&mut self, count: usize) -> Vec<StreamId> {
        let streams = (0..count).map(|_| self.client.open(Bytes::from_static(&[7]))).collect();
        for _ in 0..ROUNDS {
            self.exchange();
        }
        while let Some(id) = self.server.connection().streams().accept(Dir::Bi) {
            self.server.drain(id);
        }
        self.rest();
        streams
    }

    /// Moves `octets` in all over `streams` from the client to the server, who reads what comes at once.
    ///
    /// # Panics
    /// When nothing moves any more.
    pub fn bulk(&mut self, streams: &[StreamId], octets: u64) {
        let each = octets / streams.len() as u64;
        let mut left: Vec<(StreamId, u64)> = streams.iter().map(|id| (*id, each)).collect();
        left.sort();
        let (mut read, whole) = (0, each * streams.len() as u64);
        for (id, left) in &mut left {
            read += self.server.drain(*id);
            self.client.pour(*id, left);
        }
        while read < whole {
            self.go_on();
            while let Some(event) = self.server.connection().poll() {
                if let Event::Stream(StreamEvent::Readable { id }) = event {
                    read += self.server.drain(id);
                }
            }
            while let Some(event) = self.client.connection().poll() {
                if let Event::Stream(StreamEvent::Writable { id }) = event
                    && let Ok(place) = left.binary_search_by_key(&id, |(id, _)| *id)
                    && let Some((_, left)) = left.get_mut(place)
                {
                    self.client.pour(id, left);
                }
            }
        }
    }

    /// Opens `count` streams from the client, `at_once` at a time; each carries [`MESSAGE`] octets there and back and closes.
    ///
    /// # Panics
    /// When a stream cannot be opened, or is not answered.
    pub fn echo(&mut self, count: usize, at_once: usize) {
        let (mut opened, mut live) = (0, 0);
        while opened < count || live > 0 {
            while opened < count && live < at_once {
                let id = self.client.open(Bytes::from_static(&[7; MESSAGE]));
                self.client.connection().send_stream(id).finish().expect("it is new");
                (opened, live) = (opened + 1, live + 1);
            }
            self.go_on();
            while let Some(event) = self.server.connection().poll() {
                if let Event::Stream(StreamEvent::Readable { id }) = event {
                    self.server.answer(id);
                }
                while let Some(id) = self.server.connection().streams().accept(Dir::Bi) {
                    self.server.answer(id);
                }
            }
            while let Some(event) = self.client.connection().poll() {
                if let Event::Stream(StreamEvent::Readable { id }) = event {
                    live -= usize::from(self.client.each(id, drop));
                }
            }
        }
    }

    /// Lets everything be acknowledged, and forgets what was told.
    pub fn rest(&mut self) {
        for _ in 0..ROUNDS {
            self.exchange();
            for connection in self.ends() {
                while connection.poll().is_some() {}
            }
        }
    }

    /// Parts the two connections from their endpoints: what the client and the server hold.
    ///
    /// # Panics
    /// Never.
    pub fn part(self) -> [Connection; 2] {
        [self.client, self.server].map(|peer| peer.connection.expect("both are joined").1)
    }

    fn ends(&mut self) -> [&mut Connection; 2] {
        [self.client.connection(), self.server.connection()]
    }

    /// Moves until something moves.
    fn go_on(&mut self) {
        assert!((0..ROUNDS).any(|_| self.exchange()), "something moves, if not at once");
    }

    /// Moves one batch each way; returns whether anything moved. Where nothing does, time goes on to what is due next.
    fn exchange(&mut self) -> bool {
        self.now += STEP;
        let up = self.client.carry(&mut self.server, self.now);
        let moved = self.server.carry(&mut self.client, self.now) || up;
        if !moved {
            let due = [&mut self.client, &mut self.server].into_iter().filter_map(Peer::due).min();
            self.now = due.map_or(self.now, |due| due.max(self.now));
        }
        moved
    }
}

impl Peer {
    fn new(number: u8, datagram: u16, server: Option<Arc<ServerConfig>>) -> Self {
        let mut config = EndpointConfig::default();
        config.max_udp_payload_size(datagram).expect("no shorter than the shortest");
        Self {
            endpoint: Endpoint::new(Arc::new(config), server, false, Some([number; 32])),
            connection: None,
            address: SocketAddr::from(([192, 0, 2, number], 443)),
            output: Vec::new(),
        }
    }

    /// Sends one batch of datagrams to the other end; returns whether there was any.
    fn carry(&mut self, to: &mut Self, now: Instant) -> bool {
        let Some((handle, connection)) = &mut self.connection else { return false };
        if connection.poll_timeout().is_some_and(|due| due <= now) {
            connection.handle_timeout(now);
        }
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        let mut octets = 0;
        while octets < BATCH {
            self.output.clear();
            let Some(transmit) = connection.poll_transmit(now, DATAGRAMS, &mut self.output) else { break };
            octets += transmit.size;
            let mut data = BytesMut::from(self.output.get(..transmit.size).unwrap_or_default());
            let each = transmit.segment_size.unwrap_or(transmit.size);
            while !data.is_empty() {
                let datagram = data.split_to(each.min(data.len()));
                to.take(datagram, self.address, now);
            }
        }
        octets > 0
    }

    fn take(&mut self, datagram: BytesMut, from: SocketAddr, now: Instant) {
        self.output.clear();
        match self.endpoint.handle(now, from, None, None, datagram, &mut self.output) {
            Some(DatagramEvent::ConnectionEvent(_, event)) => self.connection().handle_event(event),
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = self.endpoint.accept(incoming, now, &mut self.output, None);
                self.connection = Some(accepted.expect("a first packet of the other end"));
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
    }

    fn due(&mut self) -> Option<Instant> {
        self.connection.as_mut().and_then(|(_, connection)| connection.poll_timeout())
    }

    fn connection(&mut self) -> &mut Connection {
        &mut self.connection.as_mut().expect("joined").1
    }

    /// Opens a stream with what is first sent on it.
    fn open(&mut self, first: Bytes) -> StreamId {
        let id = self.connection().streams().open(Dir::Bi).expect("as many are granted");
        let written = self.connection().send_stream(id).write_chunks(&mut [first]);
        assert!(written.is_ok(), "it is new");
        id
    }

    /// Writes what a stream has left, as far as there is room.
    fn pour(&mut self, id: StreamId, left: &mut u64) {
        let block = Bytes::from_static(&[7; BLOCK]);
        while *left > 0 {
            let data = block.slice(..usize::try_from(*left).map_or(BLOCK, |left| left.min(BLOCK)));
            let Ok(written) = self.connection().send_stream(id).write_chunks(&mut [data]) else { return };
            *left -= written.bytes as u64;
        }
    }

    /// Reads all that has arrived on a stream; returns how many octets that was.
    fn drain(&mut self, id: StreamId) -> u64 {
        let mut read = 0;
        self.each(id, |octets| read += octets.len() as u64);
        read
    }

    /// Hands over what has arrived on a stream; returns whether it has ended.
    fn each(&mut self, id: StreamId, mut take: impl FnMut(Bytes)) -> bool {
        let mut stream = self.connection().recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else { return false }; // it had ended before
        let ended = loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => take(chunk.bytes),
                Ok(None) => break true,
                Err(ReadError::Blocked) => break false,
                Err(ReadError::Reset(code)) => panic!("reset: {code}"),
            }
        };
        let _ = chunks.finalize(); // whether anything is to be said is asked of the connection
        ended
    }

    fn answer(&mut self, id: StreamId) {
        let mut back = Vec::new();
        let ended = self.each(id, |octets| back.push(octets));
        let mut stream = self.connection().send_stream(id);
        let written = stream.write_chunks(&mut back);
        assert!(back.is_empty() || written.is_ok(), "shorter than any window");
        if ended {
            let finished: Result<(), FinishError> = stream.finish();
            assert_eq!(finished, Ok(()), "it was not stopped");
        }
    }
}

/// Returns the defaults, for datagrams of one size and so many streams.
fn transport(datagram: u16, streams: u32) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport.initial_mtu(datagram).mtu_discovery_config(None);
    let mut congestion = CubicConfig::default();
    congestion.initial_window(10 * u64::from(datagram)); // that of RFC 9002, also for the longer ones
    transport.congestion_controller_factory(Arc::new(congestion));
    transport.max_concurrent_bidi_streams(VarInt::from_u32(streams)).max_idle_timeout(None);
    transport
}

/// The datagrams of an Ethernet, as on the way between two sites.
pub const ETHERNET: u16 = 1_452;
/// Datagrams that carry as much as a record of TLS.
pub const RECORD: u16 = 16_384 + 64;
/// How many streams may be open at once by default.
pub const STREAMS: u32 = 100;
/// What one side sends before the other is asked, in octets: as [`Pair`](crate::pair::Pair) does it.
const BATCH: usize = 64 << 10;
/// What is asked for at once, in datagrams: what quinn hands to one system call.
const DATAGRAMS: usize = 10;
const STEP: Duration = Duration::from_micros(10);
/// More than any wait takes, in batches or timers.
const ROUNDS: usize = 32;

/// What a connection is by itself, in octets; what it holds on the heap comes on top.
pub const CONNECTION: usize = size_of::<Connection>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_moves_as_much_as_it_says_in_datagrams_of_either_size() {
        for datagram in [ETHERNET, RECORD] {
            let mut quic = Quic::new(datagram, STREAMS);
            let streams = quic.open(3);

            quic.bulk(&streams, 3_000_000);
            quic.rest();

            let [client, server] = quic.ends();
            let (sent, received) = (client.stats().udp_tx, server.stats().udp_rx);
            assert_eq!(sent.datagrams - received.datagrams, 1, "the first made the connection");
            let least = 3_000_000 / u64::from(datagram);
            assert!((least..least * 5 / 4).contains(&sent.datagrams), "{} datagrams of {datagram}", sent.datagrams);
        }
    }

    #[test]
    fn each_echo_is_a_stream_that_ends() {
        let mut quic = Quic::new(ETHERNET, STREAMS);

        quic.echo(2_100, 7); // many meet the end of a packet
        quic.rest();

        let [client, server] = quic.ends();
        assert_eq!([client, server].map(|end| end.streams().send_streams()), [0, 0]);
    }
}
