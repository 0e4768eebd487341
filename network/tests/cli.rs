//! The built program's command line: what it prints where, and its exit codes.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

#[test]
fn a_token_is_printed_once_alone_and_never_listed() {
    let home = Home::new("token");

    let created = home.run(&["token", "create", "--account", "acme", "--allow", "bind:crm.example.com"]);
    let token = created.out.trim_end();
    assert_eq!((created.code, created.out.lines().count()), (0, 1));
    assert!(token.starts_with("adit_") && !created.err.contains(token), "{}", created.err);

    for output in ["text", "json"] {
        let listed = home.run(&["token", "list", "--output", output]);
        let secret = token.split('_').nth(2).unwrap();
        assert_eq!(listed.code, 0, "{}", listed.err);
        assert!(listed.out.contains("acme") && listed.out.contains("bind:crm.example.com"), "{}", listed.out);
        assert!(!listed.out.contains(secret) && !listed.err.contains(secret));
    }
}

#[test]
fn a_token_as_json_has_its_id_and_can_be_revoked_by_it() {
    let home = Home::new("json");

    let arguments = ["token", "create", "--account", "acme", "--output", "json", "--allow", "bind:tcp:5000-5099"];
    let created: Value = serde_json::from_str(&home.run(&arguments).out).unwrap();
    assert_eq!((&created["account"], &created["allow"][0]), (&"acme".into(), &"bind:tcp:5000-5099".into()));
    let id = created["id"].as_str().unwrap();
    assert!(created["token"].as_str().unwrap().starts_with(&format!("adit_{id}_")));

    let revoked = home.run(&["token", "revoke", id]);
    assert_eq!((revoked.code, revoked.out.as_str()), (0, ""));
    let listed: Value = serde_json::from_str(&home.run(&["token", "list", "--output", "json"]).out).unwrap();
    assert!(listed[0]["revoked"].is_i64(), "{listed}");
}

#[test]
fn every_failure_has_its_exit_code_and_stable_code() {
    let home = Home::new("codes");
    // arguments, exit code, what standard error has
    let table: [(&[&str], i32, &str); 6] = [
        (&["token", "create", "--account", "acme", "--allow", "crm.example.com"], 2, "ADIT-1507"),
        (&["token", "create", "--account", "a b"], 2, "visible ASCII"),
        (&["token", "revoke", "\u{1b}[2J"], 1, "ADIT-1506"),
        (&["ca", "issue", "crm.example.com", "--out", "crm"], 1, "ADIT-1503"),
        (&["serve"], 1, "ADIT-1503"),
        (&["token", "create"], 2, "--account"),
    ];
    for (arguments, code, text) in table {
        let done = home.run(arguments);
        assert_eq!((done.code, done.out.as_str()), (code, ""), "{arguments:?}: {}", done.err);
        assert!(done.err.contains(text) && !done.err.contains("\u{1b}[2J"), "{arguments:?}: {}", done.err);
    }

    fs::write(home.config(), "version: 1\nlog: {level: loud}\n").unwrap();
    let invalid = home.run(&["token", "list"]);
    assert_eq!(invalid.code, 3);
    assert!(invalid.err.contains("log.level") && invalid.err.contains("ADIT-1502"), "{}", invalid.err);
}

#[test]
fn a_configuration_is_checked_with_its_policies_and_what_the_database_knows() {
    let home = Home::new("endpoints");
    let before = fs::read_to_string(home.config()).unwrap();
    let policy = |url: &str| {
        let text = format!("on_http_request: [{{actions: [{{type: forward-internal, config: {{url: '{url}'}}}}]}}]");
        fs::write(home.config().with_file_name("p.yml"), text).unwrap();
    };
    fs::write(
        home.config(),
        format!("{before}endpoints: [{{url: 'http://a.example', account: acme, policy: p.yml}}]\n"),
    )
    .unwrap();

    policy("https://crm.internal");
    let unknown = home.run(&["config", "check"]);
    assert_eq!(unknown.code, 0, "{}", unknown.err);
    assert!(unknown.err.contains("were not checked"), "{}", unknown.err);

    home.run(&["token", "create", "--account", "acme", "--allow", "bind:crm.internal"]);
    let fine = home.run(&["config", "check"]);
    assert_eq!((fine.code, fine.err.as_str()), (0, ""));

    policy("https://cmr.internal");
    let wrong = home.run(&["config", "check"]);
    assert_eq!(wrong.code, 3);
    assert!(
        wrong.err.contains("on_http_request[0].actions[0]") && wrong.err.contains("no token to bind it"),
        "{}",
        wrong.err
    );
    assert!(wrong.err.contains("ADIT-1508"), "{}", wrong.err);
}

#[test]
fn a_policy_is_checked_and_tried_without_a_network() {
    let home = Home::new("policy");
    let file = |name: &str, text: &str| {
        let path = home.config().with_file_name(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let good =
        file("good.yml", "on_http_request: [{expressions: [\"req.method == 'POST'\"], actions: [{type: deny}]}]");
    let bad = file("bad.yml", "on_http_request:\n- actions: [{type: denny}]\n");
    let get = file("get.json", r#"{"request": {"target": "/"}}"#);
    let post = file("post.json", r#"{"request": {"method": "POST", "target": "/"}}"#);

    let valid = home.run(&["policy", "check", &good]);
    assert_eq!((valid.code, valid.out), (0, format!("{good} is valid\n")));
    let invalid = home.run(&["policy", "check", &bad]);
    assert_eq!((invalid.code, invalid.out.as_str()), (2, ""));
    assert!(invalid.err.starts_with(&format!("{bad}:2:")) && invalid.err.contains("ADIT-1508"), "{}", invalid.err);

    let served = home.run(&["policy", "test", &good, "--request", &get]);
    assert_eq!((served.code, served.err.as_str()), (0, ""));
    assert!(served.out.starts_with("on_http_request[0]: not matched\n"), "{}", served.out);
    assert!(served.out.ends_with("outcome: allowed\n"), "{}", served.out);
    let refused = home.run(&["policy", "test", &good, "--request", &post, "--output", "json"]);
    assert_eq!(refused.code, 1);
    let shown: Value = serde_json::from_str(&refused.out).unwrap();
    assert_eq!((&shown["outcome"], &shown["response"]["status"]), (&"refused".into(), &403.into()));
    for (policy, request) in [(&bad, &get), (&good, &bad), (&good, &"none.json".to_owned())] {
        assert_eq!(home.run(&["policy", "test", policy, "--request", request]).code, 2, "{policy} {request}");
    }
}

#[test]
fn a_ca_is_made_once_and_issues_to_files_of_ones_own() {
    let home = Home::new("ca");

    let made = home.run(&["ca", "init"]);
    assert_eq!((made.code, Path::new(made.out.trim_end())), (0, home.0.join("pki/ca.pem").as_path()));
    let again = home.run(&["ca", "init"]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("is not replaced"), "{}", again.err);

    let prefix = home.0.join("crm").display().to_string();
    let issued = home.run(&["ca", "issue", "crm.example.com", "127.0.0.1", "--out", &prefix]);
    assert_eq!((issued.code, issued.out), (0, format!("{prefix}.pem\n{prefix}.key\n")), "{}", issued.err);
}

#[test]
fn a_certificate_is_put_in_encrypted_listed_without_its_key_and_removed() {
    let home = Home::new("certificates");
    home.issue("crm");
    home.configure("secrets: {key_file: secrets.key}\n");
    let add = ["certificates", "add", "--certificate", "crm.pem", "--key", "crm.key"];

    let without_key = home.run(&add);
    assert_eq!(without_key.code, 1);
    assert!(without_key.err.contains("ADIT-1509"), "{}", without_key.err);
    assert_eq!(home.run(&["secrets", "init"]).out, format!("{}\n", home.0.join("secrets.key").display()));
    assert_eq!(home.run(&["secrets", "init"]).code, 1, "a key is never replaced");

    let added = home.run(&add);
    assert_eq!((added.code, added.out.as_str()), (0, "crm.example.com\n"), "{}", added.err);
    assert!(home.run(&add).err.contains("takes the place"));
    let wrong = home.run(&[&add[..], &["--name", "other.example.com"]].concat());
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("does not stand for other.example.com"), "{}", wrong.err);

    let listed = home.run(&["certificates", "list", "--output", "json"]);
    let shown: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!((&shown[0]["id"], &shown[0]["source"]), (&"crm.example.com".into(), &"own".into()));
    let key = fs::read_to_string(home.0.join("crm.key")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    assert!(!listed.out.contains(secret));
    for file in ["adit.db", "adit.db-wal"].iter().filter_map(|file| fs::read(home.0.join(file)).ok()) {
        assert!(!file.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
    assert_eq!(home.run(&["certificates", "remove", "crm.example.com"]).code, 0);
    assert_eq!(home.run(&["certificates", "remove", "crm.example.com"]).code, 1);
}

#[test]
fn keys_are_rotated_and_a_wrong_one_starts_nothing() {
    let home = Home::new("rekey");
    home.issue("crm");
    home.run(&["ca", "init"]);
    home.configure("private_ca: pki\nsecrets: {key_file: secrets.key}\n");
    let key = |digits: &str| {
        let path = home.0.join("secrets.key");
        fs::write(&path, digits).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let (old, new) = ("0a".repeat(32), "0b".repeat(32));
    key(&old);
    assert_eq!(home.run(&["certificates", "add", "--certificate", "crm.pem", "--key", "crm.key"]).code, 0);

    key(&new);
    for arguments in [&["serve"][..], &["secrets", "rekey"], &["certificates", "list"]] {
        let done = home.run(arguments);
        assert_eq!(done.code, 1, "{arguments:?}");
        assert!(done.err.contains("ADIT-1509") && done.err.contains("another key"), "{arguments:?}: {}", done.err);
    }
    home.configure("private_ca: pki\n");
    assert!(home.run(&["serve"]).err.contains("ADIT-1509"), "a missing key is none that was never there");
    home.configure("private_ca: pki\nsecrets: {key_file: secrets.key}\n");

    key(&format!("{new}\n{old}\n"));
    assert_eq!(home.run(&["secrets", "rekey"]).out, "1\n");
    key(&new);
    assert_eq!(home.run(&["certificates", "list"]).code, 0);
}

struct Home(PathBuf);

struct Done {
    code: i32,
    out: String,
    err: String,
}

impl Home {
    fn new(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let home = Self(folder);
        let text = "version: 1\nprivate_ca: pki\ningress: {listen: '127.0.0.1:0'}\nhttp: {listen: '127.0.0.1:0'}\n";
        fs::write(home.config(), text).expect("a file");
        home
    }

    /// Writes the configuration with these lines.
    fn configure(&self, lines: &str) {
        let text = "version: 1\ningress: {listen: '127.0.0.1:0', names: [localhost]}\nhttp: {listen: '127.0.0.1:0'}\n";
        fs::write(self.config(), format!("{text}{lines}")).expect("a file");
    }

    /// Makes a certificate of some CA for `crm.example.com`, and its key.
    fn issue(&self, prefix: &str) {
        let dir = self.0.join("elsewhere").display().to_string();
        self.run(&["ca", "init", "--dir", &dir]);
        let issued = self.run(&["ca", "issue", "--dir", &dir, "crm.example.com", "--out", prefix]);
        assert_eq!(issued.code, 0, "{}", issued.err);
    }

    fn config(&self) -> PathBuf {
        self.0.join("network.yml")
    }

    fn run(&self, arguments: &[&str]) -> Done {
        let output = Command::new(env!("CARGO_BIN_EXE_adit-network"))
            .args(arguments)
            .env("ADIT_NETWORK_CONFIG", self.config())
            .current_dir(&self.0)
            .output()
            .expect("the program starts");
        let text = |octets| String::from_utf8(octets).expect("UTF-8");
        Done { code: output.status.code().expect("no signal"), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
