//! Linux: a unit of systemd that may do next to nothing.

use core::fmt::Write as _;
use std::path::{Path, PathBuf};

use adit_core::Secret;

use super::{
    Definition, MARK,
    plan::{Plan, Step},
};

/// Returns where the unit is kept.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new("/etc/systemd/system").join(unit_name(name))
}

/// Returns where a package would have put a unit of this name.
pub(crate) fn packaged(name: &str) -> [PathBuf; 2] {
    ["/usr/lib/systemd/system", "/lib/systemd/system"].map(|folder| Path::new(folder).join(unit_name(name)))
}

/// Returns where the service keeps what must last. The second is where it really is for a user that exists only while it runs.
pub(crate) fn state(name: &str) -> [PathBuf; 2] {
    [Path::new("/var/lib").join(name), Path::new("/var/lib/private").join(name)]
}

/// Returns the name of the unit.
pub(crate) fn unit_name(name: &str) -> String {
    format!("{name}.service")
}

/// Writes the unit.
///
/// Paths are quoted as systemd.unit(5) and systemd.service(5) say: `%` begins a specifier everywhere, `$` a variable in what is run, and
/// quotes and backslashes are read only there.
pub(crate) fn unit(service: &Definition) -> String {
    let mut unit = format!("# {MARK}; changes belong in `systemctl edit {}`.\n", service.name);
    for file in service.configurations.iter().chain(&service.policy) {
        let _ = writeln!(unit, "{NOTE}{file}"); // a String takes it all
    }
    let _ = write!(
        unit,
        "[Unit]\n\
         Description=Adit agent ({name})\n\
         Documentation=https://github.com/adit-tunnel/adit/blob/main/docs/service.md\n\
         Wants=network-online.target\n\
         After=network-online.target nss-lookup.target\n\
         # However often it failed: there may be nobody on site to start it.\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         # Started means that every endpoint is bound, or is refused and says why; after a minute nobody waits for that.\n\
         Type=notify\n\
         NotifyAccess=main\n\
         ExecStart={start}\n\
         ExecReload=/bin/kill -HUP $MAINPID\n\
         Restart=on-failure\n\
         RestartSec=5s\n\
         # Command line, configuration, refused for good, policy: somebody has to act, and trying again helps nobody.\n\
         RestartPreventExitStatus=2 3 4 6\n\
         # Without a network it goes on trying, as long as it takes.\n\
         TimeoutStartSec=infinity\n\
         TimeoutStopSec={stop}s\n\
         WatchdogSec=60s\n\
         SyslogIdentifier={name}\n\
         \n\
         # The token is handed over by the system: root alone can read its file.\n\
         LoadCredential=authtoken:{token}\n\
         {user}\n\
         StateDirectory={name}\n\
         StateDirectoryMode=0700\n\
         RuntimeDirectory={name}\n\
         RuntimeDirectoryMode=0755\n\
         MemoryMax={memory}M\n\
         TasksMax=1024\n\
         LimitNOFILE=65536\n\
         \n\
         {HARDENING}\n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        name = service.name,
        start = start(service),
        stop = service.drain.as_secs().saturating_add(STOP_SLACK),
        token = specifiers(&service.token),
        user = service.user.as_ref().map_or_else(|| "DynamicUser=yes".to_owned(), |user| format!("User={user}")),
        memory = service.memory,
    );
    unit
}

/// Returns what installs the service, below `root` when there is one.
pub(crate) fn install(service: &Definition, token: Option<&Secret>, root: Option<&Path>, now: bool) -> Plan {
    let mut plan = Plan::default();
    if let Some(secret) = token {
        let path = within(root, Path::new(&service.token));
        plan.push(Step::Secret { path, secret: secret.clone(), owner: None });
    }
    plan.push(Step::Write { path: within(root, &path(&service.name)), mode: 0o644, content: unit(service) });
    if root.is_none() {
        plan.push(Step::run(&["systemctl", "daemon-reload"]));
    }
    plan.push(systemctl(root, &["enable", &unit_name(&service.name)]));
    if now {
        plan.push(Step::run(&["systemctl", "restart", "--no-block", &unit_name(&service.name)]));
    }
    plan
}

/// Returns what removes the service; with `purge` also those files, its state and its token.
pub(crate) fn uninstall(name: &str, root: Option<&Path>, purge: Option<&[PathBuf]>) -> Plan {
    let mut plan = Plan::default();
    if root.is_none() {
        plan.push(Step::run(&["systemctl", "stop", &unit_name(name)]));
    }
    plan.push(systemctl(root, &["disable", &unit_name(name)]));
    plan.push(Step::Remove { path: within(root, &path(name)) });
    if root.is_none() {
        plan.push(Step::run(&["systemctl", "daemon-reload"]));
        plan.push(Step::Run {
            argv: ["systemctl", "reset-failed", &unit_name(name)].map(str::to_owned).to_vec(),
            must: false,
        });
    }
    if let Some(files) = purge {
        for path in files.iter().chain(&state(name)) {
            plan.push(Step::Remove { path: within(root, path) });
        }
    }
    plan
}

/// Returns the files of configuration and policy that a unit names.
pub(crate) fn noted(unit: &str) -> Vec<PathBuf> {
    unit.lines().filter_map(|line| line.strip_prefix(NOTE)).map(PathBuf::from).collect()
}

fn systemctl(root: Option<&Path>, arguments: &[&str]) -> Step {
    let root = root.map(|root| format!("--root={}", root.display()));
    let argv = ["systemctl"].into_iter().chain(root.as_deref()).chain(arguments.iter().copied());
    Step::Run { argv: argv.map(str::to_owned).collect(), must: true }
}

fn within(root: Option<&Path>, path: &Path) -> PathBuf {
    root.map_or_else(|| path.to_owned(), |root| root.join(path.strip_prefix("/").unwrap_or(path)))
}

fn start(service: &Definition) -> String {
    let mut line = format!("{} start --all", quoted(&specifiers(&service.program)));
    let mut flag = |name: &str, value: &str| {
        let _ = write!(line, " {name} {}", quoted(&specifiers(value).replace('$', "$$"))); // as above
    };
    service.configurations.iter().for_each(|file| flag("--config", file));
    service.policy.iter().for_each(|file| flag("--policy", file));
    line + " --authtoken-file ${CREDENTIALS_DIRECTORY}/authtoken"
}

fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

/// Writes a word of a command line: as it is where that is safe.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '%' | '$' | ':');
    if text.chars().all(plain) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Before a file that the service reads, so that all of them can be found again.
const NOTE: &str = "# reads ";
/// A service that is told to stop has this much longer than its connections, in seconds.
const STOP_SLACK: u64 = 15;

/// What the process may do: dial, be called by nobody, and write its own folder.
const HARDENING: &str = "\
AmbientCapabilities=
CapabilityBoundingSet=
DevicePolicy=closed
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateMounts=yes
PrivateTmp=yes
PrivateUsers=yes
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
UMask=0077
";
