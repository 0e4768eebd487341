//! Windows: a service of the service control manager, with a virtual account of its own.

use std::path::PathBuf;

use adit_core::Secret;

use super::{
    Definition,
    plan::{Plan, Step, quoted},
};

/// Returns what installs the service. The token's file is taken from everybody but the service and administrators.
pub(crate) fn install(service: &Definition, token: Option<&Secret>, now: bool) -> Plan {
    let name = &service.name;
    let account = account(service);
    let mut plan = Plan::default();
    // Made, or changed when it is there: the one fails where the other succeeds.
    let settings =
        ["binPath=", &command_line(service), "start=", "delayed-auto", "obj=", &account, "DisplayName=", &title(name)]
            .map(str::to_owned);
    let sc = |verb: &str, must| {
        let argv = ["sc.exe", verb, name].map(str::to_owned).into_iter().chain(settings.clone()).collect();
        Step::Run { argv, must }
    };
    plan.push(sc("create", false));
    plan.push(sc("config", true));
    plan.push(Step::run(&[
        "sc.exe",
        "description",
        name,
        "Carries connections to services beside it; dials out, and opens no port.",
    ]));
    plan.push(Step::run(&[
        "sc.exe",
        "failure",
        name,
        "reset=",
        "86400",
        "actions=",
        "restart/5000/restart/5000/restart/30000",
    ]));
    // An exit with an error counts as a failure too; `adit service run` reports those that nobody should try again as none.
    plan.push(Step::run(&["sc.exe", "failureflag", name, "1"]));
    plan.push(Step::run(&["sc.exe", "sidtype", name, "unrestricted"]));
    plan.push(Step::run(&["sc.exe", "privs", name, "SeChangeNotifyPrivilege"]));
    let source = event_source(name);
    // Its text for the numbers 1 to 1,000 is the text that was inserted: a program of Windows, so that no other has to stay where it is.
    let values = [
        ("EventMessageFile", "REG_EXPAND_SZ", r"%SystemRoot%\System32\EventCreate.exe"),
        ("TypesSupported", "REG_DWORD", "7"),
    ];
    for (value, kind, data) in values {
        plan.push(Step::run(&["reg.exe", "add", &source, "/v", value, "/t", kind, "/d", data, "/f"]));
    }
    if let Some(secret) = token {
        // The folder first: a file gets the rights of the folder that it is made in.
        let file = PathBuf::from(&service.token);
        if let Some(folder) = service.token.rsplit_once('\\').map(|(folder, _)| folder) {
            plan.push(Step::Folder { path: folder.into() });
            plan.push(rights(folder, &account, "(OI)(CI)"));
        }
        plan.push(Step::Secret { path: file, secret: secret.clone(), owner: None });
    } else {
        plan.push(rights(&service.token, &account, ""));
    }
    if now {
        plan.push(Step::run(&["sc.exe", "start", name]));
    }
    plan
}

/// Returns what removes the service; with `purge` also those files.
pub(crate) fn uninstall(name: &str, purge: &[PathBuf]) -> Plan {
    let mut plan = Plan::default();
    plan.push(Step::Run { argv: ["sc.exe", "stop", name].map(str::to_owned).to_vec(), must: false });
    plan.push(Step::run(&["sc.exe", "delete", name]));
    let argv = ["reg.exe", "delete", &event_source(name), "/f"].map(str::to_owned).to_vec();
    plan.push(Step::Run { argv, must: false }); // one of an earlier version has none
    for path in purge {
        plan.push(Step::Remove { path: path.clone() });
    }
    plan
}

/// Returns the command that lets the service read, administrators and the system do anything, and others nothing.
fn rights(path: &str, account: &str, inherited: &str) -> Step {
    let grants = [(account, "RX"), ("*S-1-5-32-544", "F"), ("*S-1-5-18", "F")];
    let grants = grants.iter().flat_map(|(who, what)| ["/grant:r".to_owned(), format!("{who}:{inherited}{what}")]);
    let argv = ["icacls.exe", path, "/inheritance:r"].map(str::to_owned).into_iter().chain(grants).collect();
    Step::Run { argv, must: true }
}

/// Returns the account that the service is.
fn account(service: &Definition) -> String {
    service.user.clone().unwrap_or_else(|| format!(r"NT SERVICE\{}", service.name))
}

/// Returns where Windows is told of a source of events.
fn event_source(name: &str) -> String {
    format!(r"HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application\{name}")
}

fn title(name: &str) -> String {
    format!("Adit agent ({name})")
}

/// Returns the command line of the service, quoted as programs of Windows take it apart.
fn command_line(service: &Definition) -> String {
    let mut words =
        vec![service.program.clone(), "service".into(), "run".into(), "--name".into(), service.name.clone()];
    for file in &service.configurations {
        words.extend(["--config".to_owned(), file.clone()]);
    }
    if let Some(file) = &service.policy {
        words.extend(["--policy".to_owned(), file.clone()]);
    }
    words.extend(["--authtoken-file".to_owned(), service.token.clone()]);
    // The first word in quotes always: without, a program with the name of its beginning would be run in its place.
    let first = words.first().map(|word| format!("\"{word}\""));
    let others =
        words.iter().skip(1).map(|word| if word.contains([' ', '"', '\t']) { quoted(word) } else { word.clone() });
    first.into_iter().chain(others).collect::<Vec<_>>().join(" ")
}
