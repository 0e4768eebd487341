use super::*;

fn follower() -> Follower {
    Follower::new(Limits { head: 256, body: 8 }, Arc::new(Redact::new([])))
}

/// Follows a talk of lines `>` and `<`, each octet for itself; `|` ends the upstream's direction.
fn follow(talk: &[(char, &str)]) -> (Vec<Exchange>, Option<Lost>) {
    let (mut follower, now) = (follower(), Instant::now());
    for (way, text) in talk {
        for octet in text.as_bytes() {
            match way {
                '>' => follower.handle_up(&[*octet], now),
                _ => follower.handle_down(&[*octet], now),
            }
        }
        if *way == '|' {
            follower.handle_down_end(now);
        }
    }
    (core::iter::from_fn(|| follower.poll_exchange()).collect(), follower.lost())
}

fn told(exchange: &Exchange) -> String {
    let body = |body: &super::super::Body| {
        let cut = if body.is_cut() { "…" } else { "" };
        format!("{}{cut}", String::from_utf8_lossy(&body.kept))
    };
    let request = &exchange.request;
    let answer = exchange.answer.as_ref().map(|answer| format!("{} {}", answer.status, body(&answer.body)));
    format!("{} {} {} -> {}", request.method, request.target, body(&request.body), answer.unwrap_or_default())
}

#[test]
fn requests_and_their_answers_are_paired_in_their_order() {
    let (exchanges, lost) = follow(&[
        ('>', "GET /a HTTP/1.1\r\n\r\n"),
        ('>', "POST /b HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcHEAD /c HTTP/1.1\r\n\r\n"),
        ('<', "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
        ('<', "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\ncontent-length: 12\r\n\r\n0123456789ab"),
        ('<', "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"),
        ('>', "GET /d HTTP/1.1\r\n\r\n"),
        ('<', "HTTP/1.1 200 OK\r\n\r\nto the"),
        ('|', ""),
    ]);

    let told: Vec<_> = exchanges.iter().map(told).collect();
    assert_eq!(
        told,
        ["GET /a  -> 200 hi", "POST /b abc -> 404 01234567…", "HEAD /c  -> 200 ", "GET /d  -> 200 to the"]
    );
    assert_eq!(lost, None);
}

#[test]
fn an_answer_that_comes_before_the_whole_request_waits_for_it() {
    let post = "POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nab";
    let no = "HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n";

    assert_eq!(follow(&[('>', post), ('<', no)]).0.len(), 0);
    assert_eq!(told(&follow(&[('>', post), ('<', no), ('>', "cd")]).0[0]), "POST / abcd -> 413 ");
}

#[test]
fn what_is_no_http_is_given_up_and_what_was_under_way_told() {
    let get = ('>', "GET / HTTP/1.1\r\n\r\n");
    let long = format!("GET / HTTP/1.1\r\na: {}", "x".repeat(300));
    let many = "GET / HTTP/1.1\r\n\r\n".repeat(5);
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    for (talk, seen, lost) in [
        (&[('>', "\u{16}\u{3}\u{1}\n\n")][..], 0, Lost::NotHttp),
        (&[('>', &long)], 0, Lost::HeadTooLong),
        (&[('<', ok)], 0, Lost::Unasked),
        (&[get, ('<', ok), ('<', ok)], 1, Lost::Unasked),
        (&[('>', &many)], 4, Lost::TooMany),
        (&[get, ('<', "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx")], 1, Lost::Chunks),
        (&[get, ('<', "HTTP/1.1 101 Switching\r\n\r\nanything"), ('>', "at all")], 1, Lost::Upgraded),
    ] {
        let (exchanges, told) = follow(talk);
        assert_eq!((exchanges.len(), told), (seen, Some(lost)), "{talk:?}");
    }
}

#[test]
fn what_breaks_off_is_told_as_far_as_it_came() {
    let (mut follower, now) = (follower(), Instant::now());
    follower.handle_up(b"PUT / HTTP/1.1\r\ncontent-length: 4\r\n\r\nab", now);
    assert!(follower.weight() > 0);
    follower.handle_end(now);

    let exchange = follower.poll_exchange().unwrap();
    assert_eq!(told(&exchange), "PUT / ab… -> ");
    assert!(!exchange.is_whole());
    assert_eq!((follower.weight(), follower.poll_exchange()), (0, None));
}

#[test]
fn without_memory_nothing_of_what_was_under_way_is_kept() {
    let (mut follower, now) = (follower(), Instant::now());
    follower.handle_up(b"GET / HTTP/1.1\r\n\r\n", now);
    follower.lose(Lost::Memory, now);

    assert_eq!((follower.weight(), follower.poll_exchange(), follower.lost()), (0, None, Some(Lost::Memory)));
}
