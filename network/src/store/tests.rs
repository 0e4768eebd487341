mod agents;
mod commands;

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

use super::*;
use crate::router::Key;

#[tokio::test]
async fn a_token_is_stored_as_a_hash_only_and_authenticates() {
    let dir = Dir::new("hash");
    let store = dir.open().await;
    let acl = Acl::new(vec![Rule::parse("bind:crm.example.com").unwrap()]);

    let new = store.create_token("acme", &acl, "laptop").await.unwrap();

    let identity = store.authenticate(&new.token).await.unwrap().unwrap();
    assert_eq!((identity.token.as_str(), &identity.acl), (new.id.as_str(), &acl));
    let text = String::from_utf8(new.token.expose().to_vec()).unwrap();
    let secret = text.split('_').nth(2).unwrap().as_bytes();
    for file in dir.files() {
        let octets = fs::read(&file).unwrap();
        assert!(!octets.windows(secret.len()).any(|window| window == secret), "V74: {file:?} holds the secret");
    }
    assert_eq!(fs::metadata(dir.0.join("adit.db")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn malformed_unknown_and_revoked_tokens_are_refused_alike() {
    let dir = Dir::new("alike");
    let store = dir.open().await;
    let new = store.create_token("acme", &Acl::default(), "").await.unwrap();
    let (unknown, _) = NewToken::generate().unwrap();

    assert!(store.authenticate(&new.token).await.unwrap().is_some());
    assert!(store.revoke_token(&new.id).await.unwrap());

    for token in [new.token, unknown.token, Secret::new(*b"adit_x"), Secret::default()] {
        assert_eq!(store.authenticate(&token).await.unwrap(), None);
    }
    assert_eq!(store.standing(&new.id).await.unwrap(), None);
    assert!(!store.revoke_token("nobody").await.unwrap());
}

/// AUTH-001: as many hashes and questions, whatever is shown; who is admitted where is found out afterwards, in memory.
#[tokio::test]
async fn the_work_is_the_same_whatever_is_shown() {
    use super::token::{checksum, work};

    let dir = Dir::new("work");
    let store = dir.open().await;
    let rules =
        Acl::new(["bind:a.example", "bind:b.example", "bind:tcp:1-9"].map(|rule| Rule::parse(rule).unwrap()).into());
    let admitted = store.create_token("acme", &rules, "").await.unwrap();
    let elsewhere = store.create_token("globex", &Acl::default(), "").await.unwrap();
    let revoked = store.create_token("acme", &Acl::default(), "").await.unwrap();
    store.revoke_token(&revoked.id).await.unwrap();
    let (unknown, _) = NewToken::generate().unwrap();
    let secret = core::str::from_utf8(unknown.token.expose()).unwrap().split('_').nth(2).unwrap();
    let body = format!("adit_{}_{secret}", admitted.id);
    let wrong = Secret::new(format!("{body}_{}", checksum(&body)));
    let mut mistyped = admitted.token.expose().to_vec();
    *mistyped.last_mut().unwrap() ^= 1;

    let malformed = [mistyped, b"adit_x".to_vec(), b"hunter2".to_vec(), Vec::new(), vec![0xff; 80], vec![b'_'; 512]];
    let good = [&admitted.token, &elsewhere.token];
    let bad = [&revoked.token, &unknown.token, &wrong];
    let malformed = malformed.map(Secret::new);
    for token in good.into_iter().chain(bad).chain(&malformed) {
        work::HASHES.set(0);
        work::QUESTIONS.set(0);
        let found = store.authenticate(token).await.unwrap();

        assert_eq!(found.is_some(), good.contains(&token));
        let text = String::from_utf8_lossy(token.expose());
        assert_eq!((work::HASHES.get(), work::QUESTIONS.get()), (2, 2), "AUTH-001: {text}");
    }
}

#[tokio::test]
async fn a_token_without_rules_may_bind_nothing() {
    let dir = Dir::new("empty");
    let store = dir.open().await;

    let new = store.create_token("acme", &Acl::default(), "").await.unwrap();

    let identity = store.authenticate(&new.token).await.unwrap().unwrap();
    assert!(!identity.acl.allows(Object::Port(5432)));
    assert!(identity.acl.rules().is_empty());
}

#[tokio::test]
async fn a_watch_sees_what_another_process_changes() {
    let dir = Dir::new("watch");
    let store = dir.open().await;
    let other = dir.open().await;
    let new = store.create_token("acme", &Acl::default(), "").await.unwrap();
    let mut watch = store.watch(Topic::Access).await.unwrap();

    assert!(watch.changed().await.unwrap());
    assert!(!watch.changed().await.unwrap());
    other.revoke_token(&new.id).await.unwrap();
    assert!(watch.changed().await.unwrap());
}

#[tokio::test]
async fn a_watch_tells_of_its_topic_and_of_no_other() {
    let dir = Dir::new("topics");
    let (store, other, vault) = (dir.two_accounts().await, dir.open().await, vault(&[1]));
    let mut watches = Vec::new();
    for topic in [Topic::Access, Topic::Secrets, Topic::All] {
        let mut watch = store.watch(topic).await.unwrap();
        assert!(watch.changed().await.unwrap(), "the first time");
        watches.push(watch);
    }
    let mut told = async || {
        let mut told = Vec::new();
        for watch in &mut watches {
            told.push(watch.changed().await.unwrap());
        }
        told
    };
    let rule = Acl::new(vec![Rule::parse("bind:crm.example.com").unwrap()]);

    assert_eq!(told().await, [false, false, false]);
    other.note_node("1", "edge-1").await.unwrap();
    assert_eq!(told().await, [false, false, true]);
    let new = other.create_token("one", &rule, "").await.unwrap();
    assert_eq!(told().await, [true, false, true]);
    for change in [
        "UPDATE rules SET rule = 'bind:a.example'",
        "DELETE FROM rules",
        "UPDATE tokens SET revoked = 1",
        "DELETE FROM tokens",
    ] {
        sqlx::query(change).execute(&other.writer).await.unwrap();
        assert_eq!(told().await, [true, false, true], "{change} {}", new.id);
    }
    other.put_secret(&vault, Kind::Own, "a", b"A").await.unwrap();
    assert_eq!(told().await, [false, true, true]);
    other.put_secret(&vault, Kind::Own, "a", b"B").await.unwrap();
    assert_eq!(told().await, [false, true, true]);
    assert!(other.remove_secret(Kind::Own, "a").await.unwrap());
    assert_eq!(told().await, [false, true, true]);
    sqlx::query("DELETE FROM revisions").execute(&other.writer).await.unwrap();
    assert_eq!(told().await, [true, true, true], "nobody knows");
}

#[tokio::test]
async fn a_name_belongs_to_the_account_that_bound_it_first() {
    let dir = Dir::new("claim");
    let store = dir.two_accounts().await;

    assert_eq!(claim(&store, "https://crm.example.com", 1).await, Claim::Owned);
    assert_eq!(claim(&store, "https://crm.example.com", 1).await, Claim::Owned);
    assert_eq!(claim(&store, "https://crm.example.com", 2).await, Claim::Taken, "V77");
    assert_eq!(claim(&store, "http://crm.example.com", 2).await, Claim::Taken, "V77: another scheme is the same name");
    assert_eq!(store.endpoints().await.unwrap(), ["https://crm.example.com"]);
}

#[tokio::test]
async fn a_released_name_is_free_after_its_quarantine() {
    let dir = Dir::new("quarantine");
    let store = dir.two_accounts().await;
    claim(&store, "https://crm.example.com", 1).await;
    let days = |days: i64| unix_now() - days * 24 * 3_600;

    for (age, result) in [(29, Claim::Taken), (31, Claim::Owned)] {
        sqlx::query("UPDATE endpoints SET bound = ?").bind(days(age)).execute(&store.writer).await.unwrap();
        assert_eq!(claim(&store, "https://crm.example.com", 2).await, result, "{age} days");
    }
}

#[tokio::test]
async fn a_name_inside_the_wildcard_of_another_account_is_taken_even_when_nobody_is_online() {
    let dir = Dir::new("inside");
    let store = dir.two_accounts().await;
    claim(&store, "https://*.example.com", 1).await;
    claim(&store, "https://*.a.example.com", 1).await;

    assert_eq!(claim(&store, "tls://crm.example.com", 2).await, Claim::Taken, "V77");
    assert_eq!(claim(&store, "https://*.b.example.com", 2).await, Claim::Taken, "V77");
    assert_eq!(claim(&store, "https://example.com", 2).await, Claim::Owned);
    assert_eq!(claim(&store, "https://x.a.example.com", 1).await, Claim::Owned);
}

#[tokio::test]
async fn a_bind_that_lasts_keeps_its_name() {
    let dir = Dir::new("touch");
    let store = dir.two_accounts().await;
    claim(&store, "https://crm.example.com", 1).await;
    sqlx::query("UPDATE endpoints SET bound = 0").execute(&store.writer).await.unwrap();

    store.touch(&["https://crm.example.com".to_owned()]).await.unwrap();

    assert_eq!(claim(&store, "https://crm.example.com", 2).await, Claim::Taken);
}

#[tokio::test]
async fn an_account_owns_so_many_endpoints_and_not_one_more() {
    let dir = Dir::new("most");
    let store = dir.two_accounts().await;

    for port in 1..=3 {
        assert_eq!(claim(&store, &format!("tcp://:{port}"), 1).await, Claim::Owned);
    }
    assert_eq!(claim(&store, "tcp://:4", 1).await, Claim::Limit);
    assert_eq!(claim(&store, "tcp://:3", 1).await, Claim::Owned);
}

#[test]
fn every_file_of_migrations_is_applied_in_its_order() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let listed =
        MIGRATIONS.iter().map(|(version, name, sql)| (format!("{version:04}_{}.sql", name.replace(' ', "_")), *sql));
    for (file, (name, sql)) in files.iter().zip(listed) {
        assert_eq!(file.file_name().unwrap(), name.as_str());
        assert_eq!(fs::read_to_string(file).unwrap(), sql);
    }
    assert_eq!(files.len(), MIGRATIONS.len());
}

async fn claim(store: &Store, endpoint: &str, account: i64) -> Claim {
    let key = Key::parse(endpoint).unwrap();
    store.claim(Claimant { endpoint, owned: &key.owned(), above: &key.above(), account, most: 3 }).await.unwrap()
}

#[tokio::test]
async fn what_is_sealed_stays_sealed_in_the_file_and_its_rows_cannot_change_places() {
    let dir = Dir::new("sealed");
    let (store, vault) = (dir.open().await, vault(&[1]));
    for name in ["crm.example.com", "evil.example.com"] {
        store.put_secret(&vault, Kind::Issued, name, format!("key of {name}").as_bytes()).await.unwrap();
    }

    let opened = store.secrets(&vault, Kind::Issued).await.unwrap();
    assert_eq!(opened[0].plain.expose(), b"key of crm.example.com");
    for file in dir.files() {
        let octets = fs::read(&file).unwrap();
        assert!(!octets.windows(6).any(|window| window == b"key of"), "{file:?} holds the secret");
    }
    let swap = "UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE name = 'evil.example.com') WHERE name = 'crm.example.com'";
    sqlx::query(swap).execute(&store.writer).await.unwrap();
    let swapped = store.check_secrets(Some(&vault)).await;
    assert!(matches!(swapped, Err(StoreError::Vault(VaultError::Tampered { .. }))), "{swapped:?}");
    assert!(store.remove_secret(Kind::Issued, "crm.example.com").await.unwrap());
    store.check_secrets(Some(&vault)).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_missing_or_another_one_is_an_error_of_its_own() {
    let dir = Dir::new("locked");
    let store = dir.open().await;
    store.check_secrets(None).await.unwrap();
    store.put_secret(&vault(&[1]), Kind::Account, "https://ca.example/dir", b"account").await.unwrap();

    let missing = store.check_secrets(None).await;
    let other = store.check_secrets(Some(&vault(&[2]))).await;

    assert!(matches!(missing, Err(StoreError::Vault(VaultError::NoKey))), "{missing:?}");
    assert!(matches!(other, Err(StoreError::Vault(VaultError::OtherKey { .. }))), "{other:?}");
    store.check_secrets(Some(&vault(&[2, 1]))).await.unwrap();
}

#[tokio::test]
async fn a_rotation_of_keys_needs_both_once_and_then_the_new_one_only() {
    let dir = Dir::new("rekey");
    let (store, old, new, both) = (dir.open().await, vault(&[1]), vault(&[2]), vault(&[2, 1]));
    store.put_secret(&old, Kind::Own, "a", b"A").await.unwrap();
    store.put_secret(&both, Kind::Issued, "b", b"B").await.unwrap();

    assert!(store.rekey(&new).await.is_err(), "without the old key nothing is touched");
    store.check_secrets(Some(&both)).await.unwrap();
    assert_eq!(store.rekey(&both).await.unwrap(), 1);
    assert_eq!(store.rekey(&both).await.unwrap(), 0);
    store.check_secrets(Some(&new)).await.unwrap();
    assert!(store.check_secrets(Some(&old)).await.is_err());
}

#[tokio::test]
async fn when_a_name_is_tried_again_is_kept_until_it_has_worked() {
    let dir = Dir::new("issues");
    let store = dir.open().await;
    let issue = |failures| Issue { name: "crm.example.com".to_owned(), failures, next: 7, limited: true };

    store.note_issue(&issue(1)).await.unwrap();
    store.note_issue(&issue(2)).await.unwrap();
    assert_eq!(store.issues().await.unwrap(), [issue(2)]);
    store.note_issue(&issue(0)).await.unwrap();
    assert_eq!(store.issues().await.unwrap(), []);
}

fn vault(keys: &[u8]) -> Vault {
    let keys: Vec<_> = keys.iter().map(|key| format!("{key:02x}").repeat(32)).collect();
    Vault::parse(&Secret::new(keys.join("\n"))).unwrap()
}

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("adit-store-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    async fn open(&self) -> Store {
        Store::open(&self.0.join("adit.db")).await.unwrap()
    }

    async fn two_accounts(&self) -> Store {
        let store = self.open().await;
        for account in ["one", "two"] {
            store.create_token(account, &Acl::default(), "").await.unwrap();
        }
        store
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
