//! Sessions in memory with TLS, beside quinn-proto over a pipe of datagrams: as far as the two do the same.

use std::io;

use adit_benches::{
    pair::{Options, Pair},
    quic::{ETHERNET, Quic, RECORD, STREAMS},
    report::{Figure, Goal, Report},
};

use crate::{
    memory::{BULK, ECHOES, bulk, echo},
    turns,
};

pub(crate) fn measure(report: &mut Report, rounds: usize) -> io::Result<()> {
    for count in [1, 100] {
        let mut pair = Pair::new(Options::secured());
        let streams = pair.open(count).map_err(io::Error::other)?;
        let [mut short, mut long] = [ETHERNET, RECORD].map(|datagram| {
            let mut quic = Quic::new(datagram, STREAMS);
            let streams = quic.open(count);
            move || quic.bulk(&streams, BULK)
        });
        let [adit, short, long] = turns(
            rounds,
            [&mut || bulk(|| pair.bulk(&streams, BULK)), &mut || bulk(&mut short), &mut || bulk(&mut long)],
        );
        let name = |other: &str| format!("memory: TLS and session, {count} streams, beside {other}");
        report.add(Figure::beside(&name("QUIC"), adit.clone(), short, "GB/s", Goal::None));
        report.add(Figure::beside(&name("QUIC of 16 KiB"), adit, long, "GB/s", Goal::None));
    }
    for at_once in [1, 32] {
        let (mut pair, mut quic) = (Pair::new(Options::secured()), Quic::new(ETHERNET, STREAMS));
        let [adit, quic] =
            turns(rounds, [&mut || echo(|| pair.echo(ECHOES, at_once)), &mut || echo(|| quic.echo(ECHOES, at_once))]);
        let name = format!("memory: TLS, open-echo-close, {at_once} at once, beside QUIC");
        report.add(Figure::beside(&name, adit, quic, "1,000/s", Goal::None));
    }
    Ok(())
}
