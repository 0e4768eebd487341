use core::time::Duration;
use std::{
    fs,
    path::{Path, PathBuf},
};

use adit_core::Secret;

use super::{
    Definition, MARK, Manager,
    fitness::{Needed, Reader, of_configuration, of_path, readable},
    is_name, launchd,
    plan::{Plan, Step, quoted},
    systemd, windows,
};

fn plain() -> Definition {
    Definition {
        name: "adit".into(),
        program: "/usr/bin/adit".into(),
        configurations: vec!["/etc/adit/adit.yml".into()],
        policy: None,
        token: "/etc/adit/token".into(),
        user: None,
        drain: Duration::from_secs(30),
        memory: 768,
    }
}

fn odd() -> Definition {
    Definition {
        name: "adit-west".into(),
        program: "/opt/a b/100%/adit".into(),
        configurations: vec!["/etc/adit/50% & \"more\".yml".into(), r"/etc/adit/<$HOME>\x.yml".into()],
        policy: Some("/etc/adit/my policy.yml".into()),
        token: "/etc/adit/50% token".into(),
        user: Some("adit".into()),
        drain: Duration::from_secs(5),
        memory: 1_024,
    }
}

fn on_windows(service: Definition) -> Definition {
    Definition {
        program: r"C:\Program Files\adit\adit.exe".into(),
        configurations: vec![r"C:\ProgramData\adit\adit.yml".into()],
        token: r"C:\ProgramData\adit\adit.token".into(),
        ..service
    }
}

#[test]
fn the_unit_of_a_plain_service_is_this_one() {
    assert_eq!(systemd::unit(&plain()), include_str!("golden/plain.service"));
}

#[test]
fn blanks_specifiers_quotes_and_variables_of_paths_stay_what_they_are() {
    assert_eq!(systemd::unit(&odd()), include_str!("golden/odd.service"));
    assert_eq!(launchd::plist(&odd()), include_str!("golden/odd.plist"));
}

#[test]
fn the_daemon_of_a_plain_service_is_this_one() {
    assert_eq!(launchd::plist(&plain()), include_str!("golden/plain.plist"));
}

#[test]
fn what_is_done_is_shown_step_by_step_and_the_token_is_not() {
    let token = Secret::new(*b"t0k3n");

    let linux = systemd::install(&plain(), Some(&token), None, true).to_string();
    let mac = launchd::install(&odd(), Some(&token), true).to_string();
    let windows = windows::install(&on_windows(plain()), Some(&token), true).to_string();

    for shown in [&linux, &mac, &windows] {
        assert!(!shown.contains("t0k3n"), "{shown}");
    }
    let lines: Vec<_> = linux.lines().filter(|line| !line.starts_with("    ")).collect();
    assert_eq!(
        lines,
        [
            "write the authtoken to /etc/adit/token, mode 0600",
            "write /etc/systemd/system/adit.service, mode 0644:",
            "run systemctl daemon-reload",
            "run systemctl enable adit.service",
            "run systemctl restart --no-block adit.service",
        ]
    );
    let lines: Vec<_> = mac.lines().filter(|line| !line.starts_with("    ")).collect();
    assert_eq!(
        lines,
        [
            "write the authtoken to /etc/adit/50% token, mode 0600",
            "run chown -- adit /etc/adit/50% token",
            "run /usr/bin/install -d -m 700 -o adit /var/db/adit-west",
            "write /Library/LaunchDaemons/org.adit.adit-west.plist, mode 0644:",
            "run /bin/launchctl enable system/org.adit.adit-west",
            "run /bin/launchctl bootout system/org.adit.adit-west",
            "run /bin/launchctl bootstrap system /Library/LaunchDaemons/org.adit.adit-west.plist",
        ]
    );
    assert_eq!(windows, include_str!("golden/windows.txt"));
}

#[test]
fn what_is_removed_is_the_service_and_the_rest_only_when_asked() {
    let kept = systemd::uninstall("adit", None, None).to_string();
    assert_eq!(
        kept,
        "run systemctl stop adit.service\nrun systemctl disable adit.service\nremove /etc/systemd/system/adit.service\n\
         run systemctl daemon-reload\nrun systemctl reset-failed adit.service\n"
    );

    let files = [PathBuf::from("/etc/adit/adit.yml")];
    let purged = systemd::uninstall("adit", None, Some(&files)).to_string();
    assert_eq!(
        purged.strip_prefix(&kept),
        Some("remove /etc/adit/adit.yml\nremove /var/lib/adit\nremove /var/lib/private/adit\n")
    );
    let purged = launchd::uninstall("adit", Some(&files)).to_string();
    assert!(purged.ends_with("adit.plist\nremove /etc/adit/adit.yml\nremove /var/db/adit\n"), "{purged}");
    assert_eq!(
        windows::uninstall("adit", &[]).to_string(),
        "run sc.exe stop adit\nrun sc.exe delete adit\n\
         run reg.exe delete HKLM\\SYSTEM\\CurrentControlSet\\Services\\EventLog\\Application\\adit /f\n"
    );
}

#[test]
fn an_image_is_written_below_its_folder_and_nothing_is_started() {
    let image = Path::new("/mnt/image");

    let shown = systemd::install(&plain(), None, Some(image), false).to_string();

    let lines: Vec<_> = shown.lines().filter(|line| !line.starts_with("    ")).collect();
    assert_eq!(
        lines,
        [
            "write /mnt/image/etc/systemd/system/adit.service, mode 0644:",
            "run systemctl --root=/mnt/image enable adit.service"
        ]
    );
}

#[test]
fn the_files_that_a_service_reads_are_found_in_what_was_written() {
    let service = odd();
    let files: Vec<PathBuf> = service.configurations.iter().chain(&service.policy).map(PathBuf::from).collect();

    assert_eq!(systemd::noted(&systemd::unit(&service)), files);
    assert_eq!(launchd::noted(&launchd::plist(&service)), files);
    assert!(systemd::unit(&service).contains(MARK) && launchd::plist(&service).contains(MARK));
}

#[test]
fn words_of_windows_are_quoted_as_its_programs_take_them_apart() {
    let table = [
        ("a b", r#""a b""#),
        (r"C:\a b\", r#""C:\a b\\""#),
        (r#"say "no""#, r#""say \"no\"""#),
        (r#"a\"b"#, r#""a\\\"b""#),
        (r"a\\b", r#""a\\b""#),
    ];
    for (word, expected) in table {
        assert_eq!(quoted(word), expected);
    }
}

#[test]
fn a_name_is_one_everywhere_and_its_folders_are_nobody_elses() {
    for name in ["adit", "adit-a", "adit-west-2"] {
        assert!(is_name(name), "{name}");
    }
    for name in [
        "",
        "Adit",
        "adit-",
        "postgresql",
        "adit.service",
        "adit-a/b",
        "adit-%i",
        "adit-a b",
        &format!("adit-{:a>28}", ""),
    ] {
        assert!(!is_name(name), "{name}");
    }
}

#[test]
fn a_path_that_the_service_would_not_see_or_that_cannot_be_written_down_is_refused() {
    for path in ["/home/me/adit.yml", "/root/adit.yml", "/tmp/adit.yml", "/run/user/1000/adit.yml"] {
        assert!(of_path(Path::new(path), Manager::Systemd).unwrap_err().contains("/etc/adit"), "{path}");
        assert!(of_path(Path::new(path), Manager::Launchd).is_ok());
    }
    for path in ["/etc/a\nb.yml", "/etc/a\u{7f}"] {
        assert!(of_path(Path::new(path), Manager::Launchd).is_err(), "{path:?}");
    }
    assert_eq!(of_path(Path::new("/homes/adit.yml"), Manager::Systemd).as_deref(), Ok("/homes/adit.yml"));
}

#[test]
fn a_configuration_that_a_service_could_not_live_with_is_refused_with_the_remedy() {
    let text = "version: 1\nagent: {connect_url: a.example:443, log: /var/log/adit.log}\n\
                endpoints: [{name: x, url: 'tcp://:1', upstream: {url: 'unix:/tmp/x.sock'}}]\n";
    let file = crate::testing::folder("fitness").join("adit.yml");
    fs::write(&file, text).unwrap();
    let config = crate::Config::load(core::slice::from_ref(&file), &crate::config::Overrides::default()).unwrap();

    let faults = of_configuration(&config, Manager::Systemd, "adit");

    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].contains("agent.log: /var/log/adit.log") && faults[0].contains("/var/lib/adit"), "{faults:?}");
    assert!(faults[1].contains("endpoint x") && faults[1].contains("/tmp/x.sock"), "{faults:?}");
    assert_eq!(of_configuration(&config, Manager::Windows, "adit"), [""; 0]);
}

#[cfg(unix)]
#[test]
fn a_file_is_readable_when_it_and_every_folder_above_let_that_user() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    let folder = crate::testing::folder("readable");
    let below = folder.join("below");
    fs::create_dir(&below).unwrap();
    let file = below.join("a.key");
    fs::write(&file, "").unwrap();
    let (owner, group) = (file.metadata().unwrap().uid(), file.metadata().unwrap().gid());
    let other = Reader::User { id: owner + 1, groups: vec![group + 1] };
    let member = Reader::User { id: owner + 1, groups: vec![group] };
    let same = Reader::User { id: owner, groups: vec![] };
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&folder, 0o755);

    let table = [
        (0o755, 0o644, &Reader::Anybody, true),
        (0o755, 0o640, &Reader::Anybody, false),
        (0o755, 0o640, &member, true),
        (0o755, 0o640, &other, false),
        (0o755, 0o600, &same, true),
        (0o755, 0o044, &same, false),
        (0o750, 0o644, &Reader::Anybody, false),
        (0o750, 0o644, &member, true),
        (0o700, 0o644, &member, false),
        (0o700, 0o600, &Reader::Unknown, true),
    ];
    for (above, own, reader, is_fine) in table {
        mode(&below, above);
        mode(&file, own);
        let needed = Needed { path: file.clone(), is_secret: false };
        assert_eq!(readable(&needed, reader).is_ok(), is_fine, "{above:o} {own:o} {reader:?}");
    }
    mode(&below, 0o755);
    mode(&file, 0o600);
    let told = |is_secret| readable(&Needed { path: file.clone(), is_secret }, &Reader::Anybody).unwrap_err();
    assert!(told(false).contains("mode 0600") && told(false).contains("chmod o+r"), "{}", told(false));
    assert!(!told(true).contains("chmod o+r") && told(true).contains("--user"), "{}", told(true));
}

#[cfg(unix)]
#[test]
fn carried_out_twice_the_second_time_changes_nothing() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = crate::testing::folder("plan");
    let (file, secret, gone) = (folder.join("a").join("unit"), folder.join("token"), folder.join("gone"));
    fs::create_dir(&gone).unwrap();
    fs::write(gone.join("x"), "").unwrap();
    let mut plan = Plan::default();
    plan.push(Step::Write { path: file.clone(), mode: 0o644, content: "[Unit]\n".into() });
    plan.push(Step::Secret { path: secret.clone(), secret: Secret::new(*b"t0k3n"), owner: None });
    plan.push(Step::Remove { path: gone.clone() });

    assert_eq!(plan.carry_out().unwrap().len(), 3);
    assert_eq!(plan.carry_out().unwrap(), [""; 0]);

    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&file), mode(&secret)), (0o644, 0o600));
    assert!(!gone.exists() && fs::read_dir(file.parent().unwrap()).unwrap().count() == 1);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(plan.carry_out().unwrap().len(), 1, "a mode that others changed is put right");
    assert_eq!(mode(&secret), 0o600);
}

#[cfg(unix)]
#[test]
fn a_command_that_fails_says_which_and_why_and_ends_the_plan() {
    let folder = crate::testing::folder("plan-fails");
    let mut plan = Plan::default();
    let fails = |must| Step::Run { argv: ["sh", "-c", "echo because >&2; exit 3"].map(str::to_owned).to_vec(), must };
    plan.push(fails(false));
    plan.push(fails(true));
    plan.push(Step::Folder { path: folder.join("never") });

    let problem = plan.carry_out().unwrap_err();

    assert!(problem.contains("sh -c 'echo because") && problem.contains("exit status: 3: because"), "{problem}");
    assert!(!folder.join("never").exists());
}
