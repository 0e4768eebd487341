//! What one source may have under way, over all its connections.

use adit_network::http::HttpLimits;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn requests_of_one_source_are_counted_over_its_connections_and_more_are_answered_429() {
    let upstream = in_memory(|mut peer, _| async move {
        while peer.head().await.is_some() {
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    });
    let edge = Edge::with(vec![upstream.clone()], limits(2), None).await;
    let ((mut one, _), (mut two, _), (mut three, _)) = (edge.call(None), edge.call(None), edge.call(None));
    one.send(GET).await;
    two.send(GET).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;

    three.send(GET).await;
    let refused = three.head().await.unwrap();

    assert!(refused.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{refused}");
    for line in ["adit-error: ADIT-3041\r\n", "retry-after: 5\r\n"] {
        assert!(refused.contains(line), "{refused}");
    }
    three.body(&refused).await;
    assert_eq!(edge.reached("requests_per_source"), 1);
    assert_eq!(upstream.opened.load(std::sync::atomic::Ordering::SeqCst), 2, "no upstream hears of it");

    one.until("\r\n\r\nok").await;
    three.send(GET).await;
    assert_eq!(status(&three.until("\r\n\r\nok").await), "200", "there is room again, and on the same connection");
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_is_under_way_until_it_is_over() {
    let upstream = in_memory(|mut peer, _| async move {
        let Some(head) = peer.head().await else { return };
        if head.contains("upgrade: x\r\n") {
            peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").await;
            peer.rest().await;
        } else {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    });
    let edge = Edge::with(vec![upstream], limits(1), None).await;
    let ((mut tunnel, _), (mut other, _)) = (edge.call(None), edge.call(None));
    tunnel.send("GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").await;
    assert_eq!(status(&tunnel.head().await.unwrap()), "101");

    other.send(GET).await;
    let refused = other.head().await.unwrap();
    assert_eq!(status(&refused), "429");
    other.body(&refused).await;

    drop(tunnel);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    other.send(GET).await;
    assert_eq!(status(&other.until("\r\n\r\nok").await), "200");
}

fn limits(requests_per_source: usize) -> HttpLimits {
    let mut limits = HttpLimits::default();
    limits.requests_per_source = requests_per_source;
    limits
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
