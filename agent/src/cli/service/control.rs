//! `adit service start|stop|restart|status`: what the system's manager is told, and what it says.

use core::time::Duration;
use std::{collections::BTreeMap, sync::Arc, time::Instant};

use adit_core::escape;
use rustls::crypto::CryptoProvider;

use super::{
    Failure, administrator,
    arguments::{Named, Start, Status},
    manager, print, unmanaged,
};
use crate::{
    cli::{
        arguments::{self, Global, Output},
        run,
    },
    errors::Exit,
    log,
    service::{Manager, launchd, plan, systemd},
};

/// Starts the service, or starts it anew, and waits until it is there.
pub(super) fn start(wanted: &Start, verb: &str) -> Result<Exit, Failure> {
    administrator()?;
    let name = &wanted.named.name;
    match manager()? {
        Manager::Systemd => {
            known(name)?;
            tell(&["systemctl", verb, "--no-block", &systemd::unit_name(name)])?;
            started(name, Duration::from_secs(wanted.wait))
        }
        Manager::Launchd if verb == "restart" => tell(&["/bin/launchctl", "kickstart", "-k", &launchd::target(name)]),
        Manager::Launchd => {
            tell(&["/bin/launchctl", "bootstrap", "system", &launchd::path(name).display().to_string()])
        }
        Manager::Windows => {
            if verb == "restart" {
                let _ = tell(&["sc.exe", "stop", name]); // one that does not run is started
            }
            tell(&["sc.exe", "start", name])
        }
    }
}

/// Stops the service.
pub(super) fn stop(wanted: &Named) -> Result<Exit, Failure> {
    administrator()?;
    match manager()? {
        Manager::Systemd => {
            known(&wanted.name)?;
            tell(&["systemctl", "stop", &systemd::unit_name(&wanted.name)])
        }
        Manager::Launchd => plan::run(&launchd::bootout(&wanted.name)).map(|_| Exit::Fine).map_err(unmanaged),
        Manager::Windows => tell(&["sc.exe", "stop", &wanted.name]),
    }
}

/// Says how the service is.
pub(super) fn status(wanted: &Status) -> Result<Exit, Failure> {
    let name = &wanted.named.name;
    match manager()? {
        Manager::Systemd => {
            let state = look(name)?;
            print(&match wanted.output {
                Output::Text => state.text(name),
                Output::Json => format!("{}\n", state.json(name)),
            })?;
            Ok(if state.is("ActiveState", "active") { Exit::Fine } else { Exit::Failed })
        }
        Manager::Launchd => show(&["/bin/launchctl", "print", &launchd::target(name)]),
        Manager::Windows => show(&["sc.exe", "queryex", name]),
    }
}

/// Runs all endpoints as the service `name`, for a manager that tries again whatever ends with an error: what somebody has to mend ends
/// without one. Why it ends is in its log either way, as nobody reads what a process of such a manager prints.
pub(super) fn all(name: &str, global: &Global, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let all = arguments::Start { names: Vec::new(), all: true, service: Some(name.to_owned()) };
    let failure = match run::start(global, &all, provider) {
        Ok(exit) => return Ok(exit),
        Err(failure) => failure,
    };
    let is_final = matches!(failure.exit, Exit::Usage | Exit::Config | Exit::Refused | Exit::Policy);
    let then = if is_final { "not started again before it is mended" } else { "ended, to be started again" };
    log::last_words(name, &failure.text, failure.exit as u8, then);
    if !is_final {
        return Err(failure);
    }
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{}\n", failure.text).as_bytes()); // the last words
    Ok(Exit::Fine)
}

fn tell(argv: &[&str]) -> Result<Exit, Failure> {
    plan::run(&argv.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()).map_err(unmanaged)?;
    Ok(Exit::Fine)
}

fn show(argv: &[&str]) -> Result<Exit, Failure> {
    let text = plan::run(&argv.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()).map_err(unmanaged)?;
    print(&text)?;
    Ok(Exit::Fine)
}

/// Waits until the service is there, has failed, or `time` is over.
fn started(name: &str, time: Duration) -> Result<Exit, Failure> {
    let begun = Instant::now();
    loop {
        let state = look(name)?;
        let is_over = begun.elapsed() >= time;
        match state.get("ActiveState") {
            // Systemd waits a minute for the network to be there, and then no more.
            "active" | "reloading" if !state.is_trying() => {
                print(&state.text(name))?;
                return Ok(Exit::Fine);
            }
            "failed" => {
                let exit = state.exit();
                return Err(Failure { exit, text: format!("{}{}", state.text(name), journal(name)) });
            }
            // Between two tries it is "activating" as well, and later "active" although it is not connected.
            _ if is_over => {
                let text = format!("{}it goes on trying. {}", state.text(name), journal(name));
                return Err(Failure { exit: Exit::Unreachable, text });
            }
            _ => std::thread::sleep(PACE.min(time)),
        }
    }
}

fn journal(name: &str) -> String {
    format!("Its log: journalctl -u {}", systemd::unit_name(name))
}

fn known(name: &str) -> Result<(), Failure> {
    if look(name)?.is("LoadState", "not-found") {
        return Err(unmanaged(format!("there is no service {name}: `adit service install` makes one")));
    }
    Ok(())
}

fn look(name: &str) -> Result<State, Failure> {
    let unit = systemd::unit_name(name);
    let argv = ["systemctl", "show", &unit, "--property", PROPERTIES].map(str::to_owned);
    plan::run(&argv).map(|text| State::parse(&text)).map_err(unmanaged)
}

/// What systemd says of a unit.
#[derive(Debug, PartialEq, Eq)]
struct State(BTreeMap<String, String>);

impl State {
    /// Returns whether the agent says that it is not connected.
    fn is_trying(&self) -> bool {
        ["connecting", "reconnecting"].iter().any(|word| self.get("StatusText").starts_with(word))
    }

    fn parse(text: &str) -> Self {
        let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self(text.lines().filter_map(pair).collect())
    }

    fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    fn is(&self, key: &str, value: &str) -> bool {
        self.get(key) == value
    }

    /// Returns what a command ends with that found the service failed: what the service itself ended with, where that means something.
    fn exit(&self) -> Exit {
        let known = [Exit::Usage, Exit::Config, Exit::Refused, Exit::Policy];
        known.into_iter().find(|&exit| self.is("ExecMainStatus", &(exit as u8).to_string())).unwrap_or(Exit::Failed)
    }

    fn text(&self, name: &str) -> String {
        if self.is("LoadState", "not-found") {
            return format!("{name}: not installed; `adit service install` installs it\n");
        }
        let mut text = format!("{name}: {} ({})", self.get("ActiveState"), self.get("SubState"));
        if !matches!(self.get("Result"), "success" | "") {
            text.push_str(&format!(", {}, exit code {}", self.get("Result"), self.get("ExecMainStatus")));
        }
        text.push('\n');
        if !self.get("StatusText").is_empty() {
            text.push_str(&format!("  agent     {}\n", escape(self.get("StatusText"))));
        }
        if !matches!(self.get("MainPID"), "0" | "") {
            text.push_str(&format!("  process   {}\n", self.get("MainPID")));
        }
        text.push_str(&format!("  restarts  {}\n", self.get("NRestarts")));
        text.push_str(&format!("  at boot   {}\n", if self.is("UnitFileState", "enabled") { "yes" } else { "no" }));
        text.push_str(&format!("  unit      {}\n", escape(self.get("FragmentPath"))));
        text
    }

    fn json(&self, name: &str) -> serde_json::Value {
        let number = |key| self.get(key).parse::<u64>().ok();
        serde_json::json!({
            "name": name,
            "installed": !self.is("LoadState", "not-found"),
            "active": self.get("ActiveState"),
            "state": self.get("SubState"),
            "agent": self.get("StatusText"),
            "result": self.get("Result"),
            "exit": number("ExecMainStatus"),
            "process": number("MainPID").filter(|&id| id > 0),
            "restarts": number("NRestarts"),
            "at_boot": self.is("UnitFileState", "enabled"),
            "unit": self.get("FragmentPath"),
        })
    }
}

/// What is asked of systemd.
const PROPERTIES: &str =
    "LoadState,ActiveState,SubState,StatusText,Result,ExecMainStatus,MainPID,NRestarts,UnitFileState,FragmentPath";
/// How often systemd is asked while it starts the service.
const PACE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: &str = "LoadState=loaded\nActiveState=failed\nSubState=failed\nStatusText=connecting: a=b\nResult=exit-code\n\
                          ExecMainStatus=4\nMainPID=0\nNRestarts=2\nUnitFileState=enabled\nFragmentPath=/etc/systemd/system/adit.service\n";

    #[test]
    fn what_systemd_says_is_told_in_lines_and_as_json() {
        let state = State::parse(FAILED);

        assert_eq!(
            state.text("adit"),
            "adit: failed (failed), exit-code, exit code 4\n  agent     connecting: a=b\n  restarts  2\n  at boot   yes\n  \
             unit      /etc/systemd/system/adit.service\n"
        );
        let json = state.json("adit");
        assert_eq!(
            (&json["exit"], &json["process"], &json["at_boot"]),
            (&4.into(), &serde_json::Value::Null, &true.into())
        );
        assert_eq!(state.exit(), Exit::Refused);
    }

    #[test]
    fn an_exit_code_that_means_nothing_here_is_a_failure() {
        for (code, exit) in
            [("0", Exit::Failed), ("1", Exit::Failed), ("3", Exit::Config), ("6", Exit::Policy), ("203", Exit::Failed)]
        {
            assert_eq!(State::parse(&format!("ExecMainStatus={code}\n")).exit(), exit, "{code}");
        }
    }

    #[test]
    fn a_unit_that_is_not_there_is_said_to_be_so() {
        let state = State::parse("LoadState=not-found\nActiveState=inactive\n");

        assert!(state.text("adit").contains("`adit service install`"));
        assert_eq!(state.json("adit")["installed"], false);
    }
}
