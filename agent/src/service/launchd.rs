//! macOS: a daemon of launchd.

use core::fmt::Write as _;
use std::path::{Path, PathBuf};

use adit_core::Secret;

use super::{
    Definition, MARK,
    plan::{Plan, Step},
};

/// Returns where the description of the daemon is kept.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new("/Library/LaunchDaemons").join(format!("{}.plist", label(name)))
}

/// Returns the name of the daemon among all.
pub(crate) fn label(name: &str) -> String {
    format!("org.adit.{name}")
}

/// Writes the description of the daemon. `adit service run` ends in order where somebody has to act, so that launchd does not try again.
pub(crate) fn plist(service: &Definition) -> String {
    let mut arguments = vec![service.program.as_str(), "service", "run", "--name", &service.name];
    for file in &service.configurations {
        arguments.extend(["--config", file]);
    }
    if let Some(file) = &service.policy {
        arguments.extend(["--policy", file]);
    }
    arguments.extend(["--authtoken-file", &service.token]);
    let arguments: String = arguments.iter().map(|word| format!("    <string>{}</string>\n", escaped(word))).collect();
    let mut plist = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <!-- {MARK} -->\n\
         <plist version=\"1.0\">\n\
         <dict>\n  \
           <key>Label</key>\n  <string>{label}</string>\n  \
           <key>ProgramArguments</key>\n  <array>\n{arguments}  </array>\n",
        label = label(&service.name),
    );
    if let Some(user) = &service.user {
        let _ = writeln!(plist, "  <key>UserName</key>\n  <string>{}</string>", escaped(user)); // a String takes it all
    }
    let _ = write!(
        plist,
        "  <key>RunAtLoad</key>\n  <true/>\n  \
           <key>KeepAlive</key>\n  <dict>\n    <key>SuccessfulExit</key>\n    <false/>\n  </dict>\n  \
           <key>ThrottleInterval</key>\n  <integer>10</integer>\n  \
           <key>ExitTimeOut</key>\n  <integer>{stop}</integer>\n  \
           <key>ProcessType</key>\n  <string>Background</string>\n  \
           <key>Umask</key>\n  <integer>63</integer>\n  \
           <key>EnvironmentVariables</key>\n  <dict>\n    <key>STATE_DIRECTORY</key>\n    <string>{state}</string>\n  </dict>\n  \
           <key>SoftResourceLimits</key>\n  <dict>\n    <key>NumberOfFiles</key>\n    <integer>65536</integer>\n  </dict>\n\
         </dict>\n\
         </plist>\n",
        stop = service.drain.as_secs().saturating_add(15),
        state = state(&service.name).display(),
    );
    plist
}

/// Returns where the service keeps what must last.
pub(crate) fn state(name: &str) -> PathBuf {
    Path::new("/var/db").join(name)
}

/// Returns what installs the service.
pub(crate) fn install(service: &Definition, token: Option<&Secret>, now: bool) -> Plan {
    let (name, user) = (&service.name, service.user.clone());
    let mut plan = Plan::default();
    if let Some(secret) = token {
        plan.push(Step::Secret { path: service.token.clone().into(), secret: secret.clone(), owner: user.clone() });
    }
    let state = state(name).display().to_string();
    let owner = user.unwrap_or_else(|| "root".to_owned());
    plan.push(Step::run(&["/usr/bin/install", "-d", "-m", "700", "-o", &owner, &state]));
    plan.push(Step::Write { path: path(name), mode: 0o644, content: plist(service) });
    plan.push(Step::run(&["/bin/launchctl", "enable", &target(name)]));
    if now {
        plan.push(Step::Run { argv: bootout(name), must: false });
        plan.push(Step::run(&["/bin/launchctl", "bootstrap", "system", &path(name).display().to_string()]));
    }
    plan
}

/// Returns what removes the service; with `purge` also those files and its state.
pub(crate) fn uninstall(name: &str, purge: Option<&[PathBuf]>) -> Plan {
    let mut plan = Plan::default();
    plan.push(Step::Run { argv: bootout(name), must: false });
    plan.push(Step::run(&["/bin/launchctl", "disable", &target(name)]));
    plan.push(Step::Remove { path: path(name) });
    if let Some(files) = purge {
        for path in files.iter().cloned().chain([state(name)]) {
            plan.push(Step::Remove { path });
        }
    }
    plan
}

/// Returns the name of the daemon for launchctl.
pub(crate) fn target(name: &str) -> String {
    format!("system/{}", label(name))
}

/// Returns the command that ends the daemon.
pub(crate) fn bootout(name: &str) -> Vec<String> {
    vec!["/bin/launchctl".to_owned(), "bootout".to_owned(), target(name)]
}

/// Returns the files of configuration and policy that a description of the daemon names.
pub(crate) fn noted(text: &str) -> Vec<PathBuf> {
    let string = |line: &str| Some(line.trim().strip_prefix("<string>")?.strip_suffix("</string>")?.to_owned());
    let words: Vec<_> = text.lines().filter_map(string).collect();
    let named = words.windows(2).filter_map(|pair| match pair {
        [flag, file] if flag == "--config" || flag == "--policy" => Some(file),
        _ => None,
    });
    named.map(|file| file.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").into()).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
