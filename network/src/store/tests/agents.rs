use adit_core::{AgentId, SessionId};

use super::*;

#[tokio::test]
async fn an_agent_is_there_while_a_node_that_lives_holds_a_session_of_it() {
    let dir = Dir::new("there");
    let store = dir.two_accounts().await;
    store.note_node("a", "edge-1").await.unwrap();
    store.note_node("b", "edge-2").await.unwrap();
    let (mut first, second) = (sighting(1, 1), Sighting { began: 2_000, parked: true, ..sighting(1, 1) });
    first.endpoints = vec!["https://a.example".to_owned()];
    first.bound = 1;
    store.note_sessions("a", &[(session(1), Some(first.clone()))]).await.unwrap();
    store.note_sessions("b", &[(session(2), Some(second))]).await.unwrap();

    let agent = only(&store).await.unwrap();
    assert_eq!((agent.presence, agent.sessions, agent.since), (Presence::Connected, 2, 1_000));
    assert_eq!(
        (agent.nodes, agent.endpoints, agent.bound),
        (vec!["edge-1".into(), "edge-2".into()], first.endpoints.clone(), 1)
    );

    first.parked = true;
    first.address = "192.0.2.9:1".to_owned();
    store.note_sessions("a", &[(session(1), Some(first))]).await.unwrap();
    assert_eq!(only(&store).await.unwrap().presence, Presence::Waiting);

    // One node dies, the other ends.
    sqlx::query("UPDATE nodes SET seen = ? WHERE id = 'a'")
        .bind(unix_millis() - 31_000)
        .execute(&store.writer)
        .await
        .unwrap();
    assert_eq!(only(&store).await.unwrap().nodes, ["edge-2"]);
    store.note_node_gone("b").await.unwrap();
    assert_eq!(only(&store).await, None);
    let away = store.agents(Search { away: true, most: 9, ..Search::default() }).await.unwrap();
    assert_eq!(
        (away.len(), away[0].presence, away[0].sessions, away[0].address.as_str()),
        (1, Presence::Away, 0, "192.0.2.7:1")
    );

    // It comes back, and is one agent.
    store.note_node("c", "edge-3").await.unwrap();
    store.note_sessions("c", &[(session(3), Some(sighting(1, 1)))]).await.unwrap();
    let agent = only(&store).await.unwrap();
    assert_eq!((agent.presence, agent.sessions, agent.nodes), (Presence::Connected, 1, vec!["edge-3".to_owned()]));
    let rows: i64 = sqlx::query("SELECT count(*) FROM sessions").fetch_one(&store.readers).await.unwrap().get(0);
    assert_eq!(rows, 1, "what the dead left is gone");
}

#[tokio::test]
async fn the_sessions_of_a_node_that_died_are_taken_for_gone_by_another() {
    let dir = Dir::new("died");
    let store = dir.two_accounts().await;
    store.note_node("a", "edge-1").await.unwrap();
    store.note_sessions("a", &[(session(1), Some(sighting(1, 1)))]).await.unwrap();
    let seen = async |ago: i64| {
        let update = sqlx::query("UPDATE nodes SET seen = ? WHERE id = 'a'").bind(unix_millis() - ago);
        update.execute(&store.writer).await.unwrap();
        store.note_node("b", "edge-2").await.unwrap();
        let row = sqlx::query("SELECT gone IS NULL FROM sessions").fetch_one(&store.readers).await.unwrap();
        row.get::<bool, _>(0)
    };

    assert!(seen(25_000).await);
    assert!(!seen(31_000).await);
}

#[tokio::test]
async fn a_node_that_was_taken_for_dead_is_told_so_when_it_is_seen_again() {
    let dir = Dir::new("again");
    let store = dir.two_accounts().await;
    assert!(store.note_node("a", "edge-1").await.unwrap());
    assert!(!store.note_node("a", "edge-1").await.unwrap());

    sqlx::query("UPDATE nodes SET seen = seen - 31000").execute(&store.writer).await.unwrap();
    store.note_node("b", "edge-2").await.unwrap();

    assert!(store.note_node("a", "edge-1").await.unwrap());
}

#[tokio::test]
async fn whose_agents_are_the_most_loses_the_oldest_of_them_first() {
    let dir = Dir::new("fair");
    let store = dir.two_accounts().await;
    let more = "INSERT INTO sessions (id, node, account, agent, token, address, software, metadata, endpoints, bound, parked, began, gone)
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
         SELECT ?2 || '-' || n, 'a', ?2, n, '', '', '', '', '[]', 0, 0, 0, ?3 + n FROM n";
    for (account, number, gone) in [(1, 500, 0), (2, 10_000, 1_000)] {
        let insert = sqlx::query(more).bind(number).bind(account).bind(unix_millis() - 100_000 + gone);
        insert.execute(&store.writer).await.unwrap();
    }

    store.note_node("a", "edge-1").await.unwrap();

    let count = "SELECT count(*) FROM sessions WHERE account = ?";
    for (account, left) in [(1, 500), (2, 9_500)] {
        let count = sqlx::query(count).bind(account).fetch_one(&store.readers).await.unwrap();
        assert_eq!(count.get::<i64, _>(0), left, "{account}");
    }
}

#[tokio::test]
async fn of_an_agent_that_leaves_the_last_session_is_kept_for_a_while_and_not_of_all_without_end() {
    let dir = Dir::new("away");
    let store = dir.two_accounts().await;
    store.note_node("a", "edge-1").await.unwrap();
    let two = [(session(1), Some(sighting(1, 1))), (session(2), Some(sighting(1, 1)))];
    store.note_sessions("a", &two).await.unwrap();
    store.note_sessions("a", &[(session(2), None)]).await.unwrap();
    store.note_sessions("a", &[(session(1), None), (session(9), None)]).await.unwrap();
    let count =
        async || sqlx::query("SELECT count(*) FROM sessions").fetch_one(&store.readers).await.unwrap().get::<i64, _>(0);
    assert_eq!(count().await, 1);

    let more = "INSERT INTO sessions (id, node, account, agent, token, address, software, metadata, endpoints, bound, parked, began, gone)
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10005)
         SELECT n, 'a', 1, n, '', '', '', '', '[]', 0, 0, 0, ? + n FROM n";
    sqlx::query(more).bind(unix_millis()).execute(&store.writer).await.unwrap();
    store.note_node("a", "edge-1").await.unwrap();
    assert_eq!(count().await, 10_000);
    sqlx::query("UPDATE sessions SET gone = ?")
        .bind(unix_millis() - 31 * 24 * 3_600_000)
        .execute(&store.writer)
        .await
        .unwrap();
    store.note_node("a", "edge-1").await.unwrap();
    assert_eq!(count().await, 0);
}

#[tokio::test]
async fn agents_are_listed_by_pages_and_found_by_what_they_are_called() {
    let dir = Dir::new("pages");
    let store = dir.two_accounts().await;
    store.note_node("a", "edge-1").await.unwrap();
    let mut all = Vec::new();
    for (number, account) in [(0x11, 1), (0x1a, 1), (0x21, 1), (0x11, 2)] {
        let mut sighting = sighting(number, account);
        sighting.endpoints = vec![format!("https://{number:x}.example")];
        sighting.metadata = format!("site \"{account}\"");
        all.push((session(number + u8::try_from(account).unwrap()), Some(sighting)));
    }
    store.note_sessions("a", &all).await.unwrap();
    let found = async |search: Search<'_>| {
        let rows = store.agents(search).await.unwrap();
        rows.into_iter().map(|row| (row.account_name, row.agent.0[0])).collect::<Vec<_>>()
    };
    let one = |number| ("one".to_owned(), number);
    let two = |number| ("two".to_owned(), number);
    let page = Search { most: 3, ..Search::default() };
    let called = |called| Search { called: Some(called), most: 9, ..Search::default() };

    assert_eq!(found(page).await, [one(0x11), one(0x1a), one(0x21)]);
    assert_eq!(found(Search { after: Some(("one", AgentId([0x21; 16]))), ..page }).await, [two(0x11)]);
    assert_eq!(
        found(Search { after: Some(("one", AgentId([0x11; 16]))), ..page }).await,
        [one(0x1a), one(0x21), two(0x11)]
    );
    assert_eq!(found(Search { account: Some("two"), ..page }).await, [two(0x11)]);
    assert_eq!(found(called("1A1a")).await, [one(0x1a)]);
    assert_eq!(found(called("1111")).await, [one(0x11), two(0x11)]);
    assert_eq!(found(Search { account: Some("one"), ..called("1111") }).await, [one(0x11)]);
    let whole = "21".repeat(16);
    assert_eq!(found(called(&whole)).await, [one(0x21)]);
    assert_eq!(found(called("https://1a.example")).await, [one(0x1a)]);
    // What agents say of themselves is no name: anybody could say another's.
    for nobody in ["111", "1113", "https://1", "1a.example", "site", "site \"2\"", "%", "_"] {
        assert_eq!(found(called(nobody)).await, [], "{nobody}");
    }
}

#[tokio::test]
async fn rows_that_somebody_made_up_are_left_out_or_cut() {
    let dir = Dir::new("made-up");
    let store = dir.two_accounts().await;
    store.note_node("a", "edge-1").await.unwrap();
    for (set, listed) in [
        ("agent = 'x'", 0),
        ("agent = agent || 'a'", 0),
        ("agent = CAST(x'ff' AS TEXT)", 0),
        ("software = CAST(x'ff' AS TEXT)", 0),
        ("endpoints = '{'", 1),
        ("endpoints = '[1]'", 1),
        ("bound = -1", 1),
        ("metadata = printf('%9999s', 'x')", 1),
        ("began = 9223372036854775807", 1),
    ] {
        store.note_sessions("a", &[(session(1), Some(sighting(1, 1)))]).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!("UPDATE sessions SET {set}"))).execute(&store.writer).await.unwrap();

        let agents = store.agents(Search { most: 9, ..Search::default() }).await.unwrap();

        assert_eq!(agents.len(), listed, "{set}");
        assert!(agents.iter().all(|agent| agent.metadata.len() <= 4_096 && agent.endpoints.is_empty()));
        sqlx::query("DELETE FROM sessions").execute(&store.writer).await.unwrap();
    }
}

async fn only(store: &Store) -> Option<AgentRow> {
    let mut agents = store.agents(Search { most: 9, ..Search::default() }).await.unwrap();
    assert!(agents.len() <= 1, "{agents:?}");
    agents.pop()
}

fn sighting(agent: u8, account: i64) -> Sighting {
    Sighting {
        account,
        agent: AgentId([agent; 16]),
        token: "token".to_owned(),
        address: "192.0.2.7:1".to_owned(),
        software: "adit/1.0.0".to_owned(),
        metadata: String::new(),
        endpoints: Vec::new(),
        bound: 0,
        parked: false,
        began: 1_000,
    }
}

fn session(number: u8) -> SessionId {
    SessionId([number; 16])
}
