//! The state on a terminal, redrawn in place.

use core::time::Duration;
use std::{
    io::{self, Write as _},
    sync::Arc,
};

use adit_core::escape;

use crate::status::{Board, EndpointState, SessionState, Status};

/// Redraws standard output whenever something changes, until it is dropped.
pub(crate) async fn show(status: Arc<Status>) {
    let colour = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let mut drawn = 0;
    loop {
        let lines = draw(&status.board(), colour, width());
        let mut out = format!("\x1b[?25l{}", if drawn > 0 { format!("\x1b[{drawn}A") } else { String::new() });
        for line in &lines {
            out.push_str(&format!("\r{line}\x1b[K\n"));
        }
        out.push_str("\x1b[J\x1b[?25h");
        drawn = lines.len();
        let mut stdout = io::stdout();
        let _ = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush()); // a terminal that is gone sees nothing
        let _ = tokio::time::timeout(Duration::from_secs(1), status.changed()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Writes the board as lines of at most `width` characters that are seen.
fn draw(board: &Board, colour: bool, width: usize) -> Vec<String> {
    let session = match board.session {
        SessionState::Connecting => paint("connecting", "33", colour),
        SessionState::Online => paint("online", "32", colour),
        SessionState::Reconnecting => paint("reconnecting", "33", colour),
        SessionState::Draining => paint("ending, connections may finish", "33", colour),
        SessionState::Frozen => paint("frozen: everything is closed", "31", colour),
    };
    let several = match board.sessions {
        (online, wanted) if wanted > 1 => format!(" ({online} of {wanted} sessions)"),
        _ => String::new(),
    };
    let mut lines = vec![format!("Session       {session}{several}")];
    if board.session == SessionState::Online {
        lines.push(format!("Region        {}", cut(&format!("{} ({})", board.region, board.node), width, 14)));
        let round_trip = board.round_trip.map_or_else(|| "–".to_owned(), |time| format!("{} ms", time.as_millis()));
        lines.push(format!("Round trip    {round_trip}"));
    }
    if let Some(why) = &board.frozen {
        lines.push(format!("Frozen        {}", cut(why, width, 14)));
    }
    lines.push(format!("Connections   {} open, {} in all", board.live, board.total));
    for endpoint in &board.endpoints {
        lines.extend(endpoint_lines(endpoint, colour, width));
    }
    if let Some(trouble) = &board.trouble {
        lines.push(String::new());
        lines.push(paint(&cut(trouble, width, 0), "33", colour));
    }
    lines.push(String::new());
    lines.push("Ctrl-C ends it; twice, at once.".to_owned());
    lines
}

fn endpoint_lines(endpoint: &EndpointState, colour: bool, width: usize) -> Vec<String> {
    let label = format!("{:13}", cut(&endpoint.name, 13, 0));
    let tls = match endpoint.tls.word() {
        "" => String::new(),
        end => format!(", TLS to the {end}"),
    };
    let way = cut(&format!("{} → {}{tls}", endpoint.url, endpoint.upstream), width, 16);
    let trouble = if endpoint.told.is_empty() {
        endpoint.problem.clone()
    } else {
        format!("{} (the network is told {})", endpoint.problem, endpoint.told)
    };
    let mark = match (endpoint.bound, endpoint.problem.is_empty()) {
        (true, _) => paint("●", "32", colour),
        (false, true) => paint("○", "33", colour),
        (false, false) => paint("✗", "31", colour),
    };
    let mut lines = vec![format!("{label} {mark} {way}")];
    let certificate = endpoint.certificate.as_ref().map(|certificate| &certificate.problem);
    let problem = match (endpoint.bound, endpoint.refusal.is_empty(), certificate) {
        (false, ..) => &trouble,
        (true, true, Some(problem)) => problem,
        (true, ..) => &endpoint.refusal,
    };
    if !problem.is_empty() {
        lines.push(format!("{:16}{}", "", paint(&cut(problem, width, 16), "31", colour)));
    }
    lines
}

fn paint(text: &str, colour: &str, on: bool) -> String {
    if on { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Makes a text harmless and short enough to stand behind `before` characters.
fn cut(text: &str, width: usize, before: usize) -> String {
    let text = escape(text).to_string();
    let room = width.saturating_sub(before).max(8);
    if text.chars().count() <= room {
        return text;
    }
    text.chars().take(room - 1).chain(['…']).collect()
}

#[cfg(unix)]
fn width() -> usize {
    match rustix::termios::tcgetwinsize(io::stdout()).map(|size| size.ws_col) {
        Ok(0) | Err(_) => 80, // a terminal that does not know
        Ok(columns) => usize::from(columns).max(20),
    }
}

#[cfg(not(unix))]
const fn width() -> usize {
    80
}

#[cfg(test)]
mod tests {
    use adit_core::TlsEnd;

    use super::*;

    fn board() -> Board {
        let endpoint = |name: &str, tls, bound, problem: &str| EndpointState {
            name: name.into(),
            url: "https://crm.example.com".into(),
            upstream: "localhost:8080".into(),
            tls,
            bound,
            problem: problem.into(),
            told: String::new(),
            refusal: String::new(),
            certificate: None,
            remote: false,
        };
        Board {
            session: SessionState::Online,
            sessions: (1, 1),
            region: "eu".into(),
            node: "n1".into(),
            round_trip: Some(Duration::from_millis(12)),
            endpoints: vec![
                endpoint("web", TlsEnd::Network, true, ""),
                endpoint("db", TlsEnd::Agent, false, "ADIT-2003: not allowed\u{1b}[2J"),
            ],
            live: 2,
            total: 9,
            ..Board::default()
        }
    }

    #[test]
    fn the_state_is_shown_line_by_line() {
        let lines = draw(&board(), false, 80);

        assert_eq!(
            lines[..7],
            [
                "Session       online",
                "Region        eu (n1)",
                "Round trip    12 ms",
                "Connections   2 open, 9 in all",
                "web           ● https://crm.example.com → localhost:8080, TLS to the network",
                "db            ✗ https://crm.example.com → localhost:8080, TLS to the agent",
                "                ADIT-2003: not allowed\\u{1b}[2J",
            ]
        );
    }

    #[test]
    fn a_frozen_agent_says_so_and_why() {
        let frozen = Some("/etc/adit/frozen is there: by user 0".into());
        let lines = draw(&Board { session: SessionState::Frozen, frozen, ..board() }, false, 80);

        assert_eq!(
            lines[..2],
            ["Session       frozen: everything is closed", "Frozen        /etc/adit/frozen is there: by user 0"]
        );
    }

    #[test]
    fn of_several_sessions_it_is_shown_how_many_there_are() {
        let lines = draw(&Board { sessions: (3, 4), ..board() }, false, 80);

        assert_eq!(lines[0], "Session       online (3 of 4 sessions)");
    }

    #[test]
    fn without_colour_there_is_no_escape_sequence_and_no_line_is_too_long() {
        for line in draw(&board(), false, 40) {
            assert!(!line.contains('\u{1b}') && line.chars().count() <= 40, "{line}");
        }
        assert!(draw(&board(), true, 40).iter().any(|line| line.contains('\u{1b}')));
    }
}
