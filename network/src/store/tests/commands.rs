use adit_core::{AgentId, Code, DOCUMENT, SessionId};

use super::*;

#[tokio::test]
async fn of_many_nodes_that_want_a_command_one_gets_it_and_only_it_tells_what_came_of_it() {
    let dir = Dir::new("take");
    let store = dir.two_accounts().await;
    let id = asked(&store, 1, MINUTE).await;
    let (mut nodes, mut takers) = (Vec::new(), Vec::new());
    for number in 0..4 {
        nodes.push((format!("node-{number}"), dir.open().await));
    }

    let takes = nodes.iter().map(|(name, node)| node.take_command(&id, name, SESSION));
    for ((name, _), taken) in nodes.iter().zip(futures_util::future::join_all(takes).await) {
        takers.extend(taken.unwrap().map(|_| name.clone()));
    }

    assert_eq!(takers.len(), 1, "{takers:?}");
    assert_eq!(store.waiting_commands().await.unwrap(), []);
    let answer = Outcome::Answered(Code::FORBIDDEN, "no".to_owned());
    for (name, node) in &nodes {
        assert_eq!(node.note_outcome(&id, name, &answer).await.unwrap(), takers.contains(name));
    }
    assert_eq!(report(&store, &id).await, (Standing::Answered(Code::FORBIDDEN), "no".to_owned()));
    assert!(!nodes[0].1.note_outcome(&id, &takers[0], &Outcome::Lost).await.unwrap(), "what was answered stays");
}

#[tokio::test]
async fn a_command_whose_time_is_over_is_never_handed_over() {
    let dir = Dir::new("late");
    let store = dir.two_accounts().await;
    let (first, second) = (asked(&store, 1, MINUTE).await, asked(&store, 2, MINUTE).await);
    overdue(&store, &first).await;

    assert_eq!(store.open_commands().await.unwrap(), (true, true));
    let waiting: Vec<_> = store.waiting_commands().await.unwrap().into_iter().map(|waiting| waiting.id).collect();
    assert_eq!(waiting, core::slice::from_ref(&second));
    assert_eq!(store.take_command(&first, "node", SESSION).await.unwrap(), None);
    assert_eq!(store.end_commands().await.unwrap(), [(first.clone(), Some(Verb::Stop), Standing::Expired)]);
    assert_eq!(report(&store, &first).await.0, Standing::Expired);
    assert_eq!(store.take_command(&first, "node", SESSION).await.unwrap(), None);
    assert_eq!(store.open_commands().await.unwrap(), (true, false));
    assert_eq!(store.take_command(&second, "node", SESSION).await.unwrap(), Some(Document::None));
}

#[tokio::test]
async fn a_node_that_dies_with_a_command_leaves_it_without_an_outcome_and_nobody_sends_it_again() {
    let dir = Dir::new("dies");
    let store = dir.two_accounts().await;
    let id = asked(&store, 1, MINUTE).await;
    store.take_command(&id, "dead", SESSION).await.unwrap().unwrap();
    overdue(&store, &id).await;

    assert_eq!(store.end_commands().await.unwrap(), [(id.clone(), Some(Verb::Stop), Standing::Lost)]);
    assert_eq!(store.take_command(&id, "other", SESSION).await.unwrap(), None);
    store.give_command_back(&id, "dead").await.unwrap();
    assert_eq!(report(&store, &id).await.0, Standing::Lost);
    let late = Outcome::Answered(Code::NO_ERROR, String::new());
    assert!(store.note_outcome(&id, "dead", &late).await.unwrap(), "it was not dead, only slow");
    assert_eq!(report(&store, &id).await.0, Standing::Answered(Code::NO_ERROR));
}

#[tokio::test]
async fn what_was_certainly_not_handed_over_waits_again_and_only_its_node_gives_it_back() {
    let dir = Dir::new("back");
    let store = dir.two_accounts().await;
    let id = asked(&store, 1, MINUTE).await;
    store.take_command(&id, "one", SESSION).await.unwrap().unwrap();

    store.give_command_back(&id, "two").await.unwrap();
    assert_eq!(store.take_command(&id, "two", SESSION).await.unwrap(), None);
    store.give_command_back(&id, "one").await.unwrap();
    assert!(store.take_command(&id, "two", SESSION).await.unwrap().is_some());
}

#[tokio::test]
async fn a_command_whose_taking_cannot_be_written_down_is_not_handed_over() {
    let dir = Dir::new("unwritten");
    let store = dir.two_accounts().await;
    let id = asked(&store, 1, MINUTE).await;
    // Each change of a command fails when it is written down, as on a disk that is full, and not before.
    for statement in [
        "CREATE TABLE room (id INTEGER PRIMARY KEY)",
        "CREATE TABLE full (room INTEGER REFERENCES room (id) DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TRIGGER fill AFTER UPDATE ON commands BEGIN INSERT INTO full VALUES (1); END",
    ] {
        sqlx::query(statement).execute(&store.writer).await.unwrap();
    }

    store.take_command(&id, "node", SESSION).await.unwrap_err();

    assert_eq!(report(&store, &id).await.0, Standing::Waiting);
    sqlx::query("DROP TRIGGER fill").execute(&store.writer).await.unwrap();
    assert_eq!(store.take_command(&id, "node", SESSION).await.unwrap(), Some(Document::None));
}

#[tokio::test]
async fn what_is_withdrawn_is_never_handed_over_and_what_was_taken_is_not_withdrawn() {
    let dir = Dir::new("withdrawn");
    let store = dir.two_accounts().await;
    let (first, second) = (asked(&store, 1, MINUTE).await, asked(&store, 1, MINUTE).await);

    assert!(store.withdraw_command(&first).await.unwrap());
    assert_eq!(store.take_command(&first, "node", SESSION).await.unwrap(), None);
    assert_eq!(report(&store, &first).await, (Standing::Expired, "withdrawn".to_owned()));
    store.take_command(&second, "node", SESSION).await.unwrap().unwrap();
    assert!(!store.withdraw_command(&second).await.unwrap());
    assert_eq!(report(&store, &second).await.0, Standing::Sent);
}

#[tokio::test]
async fn so_many_commands_wait_and_not_one_more() {
    let dir = Dir::new("full");
    let store = dir.two_accounts().await;
    for _ in 0..OPEN_PER_AGENT {
        asked(&store, 1, MINUTE).await;
    }
    assert_eq!(store.ask(&wish(1), None, MINUTE).await.unwrap(), Taken::Full("of this agent"));
    asked(&store, 2, MINUTE).await;

    let more = "INSERT INTO commands (id, account, agent, command, text, author, created, expires, state, changed)
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?)
         SELECT n, 1, 'other', 'stop', '', '', 0, ?, 'sent', 0 FROM n";
    let most = OPEN - OPEN_PER_AGENT - 1;
    sqlx::query(more).bind(most).bind(i64::MAX).execute(&store.writer).await.unwrap();
    assert_eq!(store.ask(&wish(3), None, MINUTE).await.unwrap(), Taken::Full("in all"));
    sqlx::query("UPDATE commands SET expires = 0 WHERE id = '1'").execute(&store.writer).await.unwrap();
    asked(&store, 3, MINUTE).await;
}

#[tokio::test]
async fn what_is_over_is_kept_for_a_while_and_not_without_end() {
    let dir = Dir::new("prune");
    let store = dir.two_accounts().await;
    let old = "INSERT INTO commands (id, account, agent, command, text, author, created, expires, state, changed)
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10010)
         SELECT n, 1, 'other', 'stop', '', '', ? + n, 0, 'expired', 0 FROM n";
    sqlx::query(old).bind(unix_millis() - 20_000).execute(&store.writer).await.unwrap();

    asked(&store, 1, MINUTE).await;

    assert_eq!(store.command("9").await.unwrap(), None, "one of the oldest");
    let count: i64 = sqlx::query("SELECT count(*) FROM commands").fetch_one(&store.readers).await.unwrap().get(0);
    assert_eq!(count, 10_001);

    sqlx::query("DELETE FROM commands WHERE id NOT IN ('100', '101')").execute(&store.writer).await.unwrap();
    let age = "UPDATE commands SET created = ? WHERE id = ?";
    for (id, days) in [("100", 29), ("101", 31)] {
        let created = unix_millis() - days * 24 * 3_600_000;
        sqlx::query(age).bind(created).bind(id).execute(&store.writer).await.unwrap();
    }
    asked(&store, 2, MINUTE).await;
    assert!(store.command("100").await.unwrap().is_some());
    assert_eq!(store.command("101").await.unwrap(), None);
}

#[tokio::test]
async fn what_the_rows_hold_is_checked_before_it_is_used() {
    let dir = Dir::new("hostile");
    let store = dir.two_accounts().await;
    for (set, fits) in [
        ("text = 'harmless'", true),
        ("command = 'format'", false),
        ("command = ''", false),
        ("agent = 'x'", false),
        ("agent = agent || '00'", false),
        ("text = printf('%1024s', 'x')", true),
        ("text = printf('%1025s', 'x')", false),
        ("text = printf('%1023s', 'x') || 'ä'", false),
        ("author = printf('%9999s', 'x')", true),
        ("text = CAST(x'ff' AS TEXT)", false),
        ("agent = CAST(x'ff' AS TEXT)", false),
    ] {
        let id = asked(&store, 1, MINUTE).await;
        sqlx::query(sqlx::AssertSqlSafe(format!("UPDATE commands SET {set}"))).execute(&store.writer).await.unwrap();

        let waiting = store.waiting_commands().await.unwrap();

        assert_eq!((waiting.len(), &waiting[0].id, waiting[0].wish.is_some()), (1, &id, fits), "{set}");
        assert!(waiting[0].wish.as_ref().is_none_or(|wish| wish.author.len() <= 256));
        assert!(store.refuse_command(&id, "none").await.unwrap());
        assert_eq!(report(&store, &id).await, (Standing::Failed, "none".to_owned()));
        sqlx::query("DELETE FROM commands").execute(&store.writer).await.unwrap();
    }
    let (hostile, other) = (asked(&store, 1, MINUTE).await, asked(&store, 2, MINUTE).await);
    let update =
        sqlx::query("UPDATE commands SET id = CAST(x'ff' AS TEXT), command = CAST(x'ff' AS TEXT) WHERE id = ?");
    update.bind(hostile).execute(&store.writer).await.unwrap();
    let waiting: Vec<_> = store.waiting_commands().await.unwrap().into_iter().map(|waiting| waiting.id).collect();
    assert_eq!(waiting, [other]);
    sqlx::query("UPDATE commands SET expires = 0").execute(&store.writer).await.unwrap();
    assert_eq!(store.end_commands().await.unwrap().len(), 2);
    sqlx::query("DELETE FROM commands").execute(&store.writer).await.unwrap();

    let id = asked(&store, 1, MINUTE).await;
    for (state, code) in [("answered", None), ("answered", Some(-1)), ("answered", Some(1_i64 << 33)), ("", Some(0))] {
        let update = sqlx::query("UPDATE commands SET state = ?, code = ?").bind(state).bind(code);
        update.execute(&store.writer).await.unwrap();
        assert_eq!(report(&store, &id).await.0, Standing::Failed, "{state} {code:?}");
    }
}

#[tokio::test]
async fn a_document_goes_along_up_to_its_limit_and_is_not_kept_when_it_is_over() {
    let dir = Dir::new("document");
    let store = dir.two_accounts().await;
    let (most, longer) = ("x".repeat(DOCUMENT), "x".repeat(DOCUMENT + 1));
    for (document, set, expected) in [
        (most.as_str(), "text = ''", Document::Some(most.clone())),
        (longer.as_str(), "text = ''", Document::Unfit),
        ("", "text = ''", Document::Some(String::new())),
        ("a", "document = x'ff'", Document::Unfit),
    ] {
        let Taken::Waits(id) = store.ask(&wish(1), Some(document), MINUTE).await.unwrap() else { panic!() };
        sqlx::query(sqlx::AssertSqlSafe(format!("UPDATE commands SET {set}"))).execute(&store.writer).await.unwrap();

        let taken = store.take_command(&id, "node", SESSION).await.unwrap().unwrap();

        assert_eq!(taken, expected);
        store.note_outcome(&id, "node", &Outcome::Lost).await.unwrap();
        let kept = sqlx::query("SELECT document FROM commands WHERE id = ?").bind(&id);
        assert_eq!(kept.fetch_one(&store.readers).await.unwrap().get::<Option<Vec<u8>>, _>(0), None);
    }
}

fn wish(agent: u8) -> Wish {
    let (text, author) = ("ticket 4711".to_owned(), "alice (uid 1000)".to_owned());
    Wish { account: 1, agent: AgentId([agent; 16]), verb: Verb::Stop, text, author }
}

async fn asked(store: &Store, agent: u8, within: Duration) -> String {
    match store.ask(&wish(agent), None, within).await.unwrap() {
        Taken::Waits(id) => id,
        Taken::Full(limit) => panic!("{limit}"),
    }
}

async fn overdue(store: &Store, id: &str) {
    let now = unix_millis(); // due at its instant
    let update = sqlx::query("UPDATE commands SET expires = ? WHERE id = ?").bind(now).bind(id);
    update.execute(&store.writer).await.unwrap();
}

async fn report(store: &Store, id: &str) -> (Standing, String) {
    let Report { standing, answer } = store.command(id).await.unwrap().unwrap();
    (standing, answer)
}

const SESSION: SessionId = SessionId([7; 16]);
const MINUTE: Duration = Duration::from_secs(60);
