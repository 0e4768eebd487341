//! Which files the configuration may name to be read.
//!
//! The vendor may write the configuration: what it names as an authtoken is sent to the vendor.

use core::fmt;
use std::path::{Component, Path, PathBuf};

use super::{Policy, Reason, Refusal};

/// `files`: what of the machine the configuration may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Files {
    /// Nothing is said: what lies beside the configuration, what is handed to a service or a container, and whom the machine trusts.
    #[default]
    Usual,
    /// These files, and all below these folders.
    Listed(Vec<PathBuf>),
}

/// What is known of a file that the configuration names.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// As it is named, as a whole path; only where nobody but root and the agent's user decides about the links on its way.
    pub named: Option<&'a Path>,
    /// Where it really is, all links followed.
    pub real: &'a Path,
    /// The folder of the configuration that names it, all links followed.
    pub beside: Option<&'a Path>,
    /// The folder of what the system hands over to a service (`CREDENTIALS_DIRECTORY`).
    pub credentials: Option<&'a Path>,
    /// Follows the links of a path that the policy names or that is well known, unless others decide about them.
    pub resolve: fn(&Path) -> PathBuf,
}

impl Files {
    /// Reads an item of the list: a whole path, without steps back.
    pub(super) fn parse(text: &str) -> Option<PathBuf> {
        let path = Path::new(text);
        let fine =
            path.is_absolute() && text.len() <= MAX_PATH && !text.chars().any(char::is_control) && is_straight(path);
        fine.then(|| path.to_owned())
    }

    /// Returns the well-known folders that are no program's own.
    pub(crate) fn others() -> impl Iterator<Item = &'static str> {
        HOMES.iter().chain(&SHARED).copied()
    }

    fn have(&self, reading: &Reading<'_>) -> bool {
        let real = reading.real;
        if !real.is_absolute() || !is_straight(real) {
            return false;
        }
        let is_named_below =
            |above: &Path| reading.named.is_some_and(|named| is_straight(named) && named.starts_with(above));
        match self {
            // A link may lead elsewhere tomorrow, as that to a certificate that was renewed: what it is called is the customer's word.
            Self::Listed(paths) => paths.iter().any(|path| {
                real.starts_with(path) || is_named_below(path) || real.starts_with((reading.resolve)(path))
            }),
            Self::Usual => {
                let is_secret =
                    |folder: &Path| real.strip_prefix(folder).is_ok_and(|below| is_shown(below) && is_child(below));
                reading.beside.is_some_and(|folder| is_beside(real, folder, reading.resolve))
                    || reading.credentials.is_some_and(|folder| real.starts_with(folder))
                    || is_secret(Path::new(SECRETS))
                    || is_secret(&(reading.resolve)(Path::new(SECRETS)))
                    || TRUSTED.iter().any(|trusted| real.starts_with(trusted) || is_named_below(Path::new(trusted)))
            }
        }
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual => f.write_str(
                "what lies in the configuration's folder and is not hidden, and below it if it is called `adit`; what the \
                 system hands over to the service; /run/secrets; whom this machine trusts",
            ),
            Self::Listed(paths) => {
                let shown: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                f.write_str(&shown.join(", "))
            }
        }
    }
}

/// Decides whether the configuration may name a file.
pub(super) fn judge(policy: &Policy, reading: &Reading<'_>) -> Result<(), Refusal> {
    if policy.files.have(reading) {
        return Ok(());
    }
    let shown = reading.real.display().to_string();
    let mut detail =
        format!("{} is none of the files that the configuration may name: {}", shown.escape_debug(), policy.files);
    if policy.files == Files::Usual && reading.credentials.is_none() && reading.real.starts_with(CREDENTIALS) {
        detail.push_str(". The service that it is handed over to may read it: this program was not started as one");
    }
    Err(Refusal { reason: Reason::File, rule: None, detail })
}

fn is_straight(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Prefix(_) | Component::RootDir | Component::Normal(_)))
}

/// Returns whether a file is one of its configuration: in the same folder, and below if that is called as the program is.
fn is_beside(real: &Path, folder: &Path, resolve: fn(&Path) -> PathBuf) -> bool {
    let Ok(below) = real.strip_prefix(folder) else { return false };
    let is_own = name_of(folder).starts_with("adit");
    is_shown(below) && (is_own || is_child(below)) && !is_shared(folder, resolve)
}

/// Returns whether other things than those of one program are kept in a folder: what is there is not its configuration's own.
fn is_shared(folder: &Path, resolve: fn(&Path) -> PathBuf) -> bool {
    let is = |path: &Path, known: &str| path == Path::new(known) || path == resolve(Path::new(known));
    let Some(above) = folder.parent() else { return true };
    name_of(folder).starts_with('.')
        || HOMES.iter().any(|homes| is(above, homes))
        || SHARED.iter().any(|shared| is(folder, shared))
        || folder.ancestors().any(|at| is(at, SECRETS))
}

fn name_of(folder: &Path) -> &str {
    folder.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Returns whether nothing lies between but what orchestrators write in one step.
fn is_child(below: &Path) -> bool {
    below
        .parent()
        .is_some_and(|between| between.iter().all(|part| part.to_str().is_some_and(|part| part.starts_with(".."))))
}

/// Returns whether no part of a path is hidden. What orchestrators write in one step lies in folders that begin with two dots.
fn is_shown(below: &Path) -> bool {
    let fine = |part: &str| !part.starts_with('.') || part.starts_with("..");
    below.components().next().is_some() && below.components().all(|part| part.as_os_str().to_str().is_some_and(fine))
}

/// Where orchestrators put the secrets of a container. Not what is below: the container's own identity is there, too.
const SECRETS: &str = "/run/secrets";
/// Where systemd puts what it hands over, a folder for each service.
const CREDENTIALS: &str = "/run/credentials";
/// Where the certificates are whom a machine trusts; no keys.
const TRUSTED: [&str; 11] = [
    "/etc/ca-certificates",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/private/etc/ssl/certs",
    "/private/etc/ssl/cert.pem",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/usr/share/ca-certificates",
    "/usr/share/certs",
    "/usr/local/share/ca-certificates",
    "/var/lib/ca-certificates",
];
/// Whose folders are those of people.
const HOMES: [&str; 6] = ["/home", "/Users", "/export/home", "/run/user", "/usr/home", "/var/home"];
const SHARED: [&str; 42] = [
    "/boot",
    "/data",
    "/dev",
    "/dev/shm",
    "/etc",
    "/export",
    "/export/home",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/private",
    "/private/etc",
    "/private/tmp",
    "/private/var",
    "/private/var/root",
    "/proc",
    "/root",
    "/run",
    "/run/credentials",
    "/run/user",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/home",
    "/usr/local",
    "/usr/local/etc",
    "/usr/share",
    "/var",
    "/var/cache",
    "/var/home",
    "/var/lib",
    "/var/lib/private",
    "/var/log",
    "/var/mnt",
    "/var/opt",
    "/var/root",
    "/var/roothome",
    "/var/srv",
    "/var/tmp",
    "/Users",
];
/// The longest path, in octets.
const MAX_PATH: usize = 4_096;

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn policy(rest: &str) -> Policy {
        Policy::parse(Path::new("policy.yml"), &format!("version: 1\n{rest}")).unwrap()
    }

    fn may(policy: &Policy, real: &str, beside: &str) -> bool {
        may_as(policy, None, real, beside)
    }

    fn may_as(policy: &Policy, named: Option<&str>, real: &str, beside: &str) -> bool {
        let (named, real, beside) = (named.map(Path::new), Path::new(real), Some(Path::new(beside)));
        let credentials = Some(Path::new("/run/credentials/adit.service"));
        let read = policy.reads(&Reading { named, real, beside, credentials, resolve });
        assert!(
            read.as_ref().is_ok_and(|()| true) || read.as_ref().is_err_and(|refusal| refusal.reason == Reason::File)
        );
        read.is_ok()
    }

    /// Links of a host: people's folders are elsewhere, and secrets are of a generation.
    fn resolve(path: &Path) -> PathBuf {
        let links = [("/home", "/disk/people"), ("/root", "/disk/admin"), ("/run/secrets", "/run/secrets.d/3")];
        let real = links.iter().find(|(link, _)| path == Path::new(link)).map(|(_, real)| PathBuf::from(real));
        real.unwrap_or_else(|| if path == Path::new("/srv/link") { "/srv/target".into() } else { path.to_owned() })
    }

    #[test]
    fn where_nothing_is_said_only_what_was_handed_to_the_agent_may_be_named() {
        let silent = policy("");
        for (real, beside, fine) in [
            ("/etc/adit/token", "/etc/adit", true),
            ("/etc/adit/tls/crm.key", "/etc/adit", true),
            ("/etc/adit/..2026_01_01/token", "/etc/adit", true),
            ("/etc/adit/.old/token", "/etc/adit", false),
            ("/etc/adit", "/etc/adit", false),
            ("/etc/adit2/token", "/etc/adit", false),
            ("/etc/adit/../shadow", "/etc/adit", false),
            ("/root/.ssh/id_ed25519", "/etc/adit", false),
            ("/etc/shadow", "/etc/adit", false),
            ("/etc/shadow", "/etc", false),
            ("/etc/ssl/private/host.key", "/etc", false),
            ("/root/.ssh/id_ed25519", "/root", false),
            ("/root/password", "/root", false),
            ("/home/ann/password", "/home/ann", false),
            ("/home/ann/adit/token", "/home/ann/adit", true),
            ("/home/ann/.config/adit/token", "/home/ann/.config/adit", true),
            ("/token", "/", false),
            ("/disk/people/ann/password", "/disk/people/ann", false),
            ("/disk/admin/password", "/disk/admin", false),
            ("/var/home/ann/password", "/var/home/ann", false),
            ("/var/roothome/password", "/var/roothome", false),
            ("/run/user/1000/bus", "/run/user/1000", false),
            ("/home/ann/.config/rclone/secret", "/home/ann/.config", false),
            ("/home/ann/.config/secret", "/home/ann/.config", false),
            ("/srv/app/token", "/srv/app", true),
            ("/srv/app/..2026/token", "/srv/app", true),
            ("/srv/app/config/master.key", "/srv/app", false),
            ("/srv/adit-crm/tls/key", "/srv/adit-crm", true),
            ("/run/secrets/kubernetes.io/serviceaccount/token", "/run/secrets", false),
            ("/run/secrets/kubernetes.io/serviceaccount/token", "/run/secrets/kubernetes.io/serviceaccount", false),
            ("/run/secrets/..2026/authtoken", "/etc/adit", true),
            ("/run/secrets/..2026/other/authtoken", "/etc/adit", false),
            ("/run/secrets/.hidden", "/etc/adit", false),
            ("/run/secrets.d/3/authtoken", "/etc/adit", true),
            ("/run/secrets.d/2/authtoken", "/etc/adit", false),
            ("/run/credentials/adit.service/authtoken", "/etc/adit", true),
            ("/run/credentials/other.service/authtoken", "/etc/adit", false),
            ("/run/secrets/authtoken", "/etc/adit", true),
            ("/run/secrets/kubernetes.io/serviceaccount/token", "/etc/adit", false),
            ("/etc/ssl/certs/corp.pem", "/etc/adit", true),
            ("/usr/share/ca-certificates/corp/ca.crt", "/etc/adit", true),
            ("/proc/1/environ", "/etc/adit", false),
            ("token", "", false),
        ] {
            assert_eq!(may(&silent, real, beside), fine, "{real} beside {beside}");
        }
    }

    #[test]
    fn what_a_link_is_called_counts_where_nobody_else_decides_about_it() {
        let silent = policy("");
        let listed = policy("files: [/etc/letsencrypt/live/crm, /etc/adit/tls.key, /srv/link]\n");
        let archived = "/etc/letsencrypt/archive/crm/privkey7.pem";
        for (policy, named, real, fine) in [
            (&silent, Some("/etc/ssl/certs/ca.crt"), "/nix/store/x/ca.crt", true),
            (&silent, Some("/etc/ssl/certs/../../shadow"), "/etc/shadow", false),
            (&silent, Some("/etc/adit/link"), "/etc/shadow", false),
            (&silent, None, "/nix/store/x/ca.crt", false),
            (&listed, Some("/etc/letsencrypt/live/crm/privkey.pem"), archived, true),
            (&listed, None, archived, false),
            (&listed, Some("/etc/letsencrypt/live/other/privkey.pem"), archived, false),
            (&listed, Some("/etc/letsencrypt/live/crm/../../../shadow"), "/etc/shadow", false),
            (&listed, Some("/etc/adit/tls.key"), "/etc/adit/..2026/tls.key", true),
            (&listed, None, "/srv/target/key", true),
        ] {
            assert_eq!(may_as(policy, named, real, "/etc/adit"), fine, "{named:?} is {real}");
        }
    }

    #[test]
    fn what_is_handed_to_a_service_is_told_to_who_is_none() {
        let real = Path::new("/run/credentials/adit.service/token");
        let reading = Reading { named: None, real, beside: None, credentials: None, resolve };
        let told = |text: &str| policy(text).reads(&reading).unwrap_err().to_string();

        assert!(
            told("")
                .ends_with("The service that it is handed over to may read it: this program was not started as one")
        );
        assert!(!told("files: /etc/adit\n").contains("handed over"));
    }

    #[test]
    fn a_list_holds_in_the_place_of_what_is_usual() {
        let listed = policy("files: [/etc/adit/token, /srv/keys/]\n");
        for (real, fine) in [
            ("/etc/adit/token", true),
            ("/etc/adit/token2", false),
            ("/etc/adit/other", false),
            ("/srv/keys/a/b.pem", true),
            ("/srv/keys/.hidden", true),
            ("/srv/keys2/a", false),
            ("/srv/keys/../x", false),
            ("/run/secrets/authtoken", false),
            ("/run/credentials/adit.service/authtoken", false),
            ("/etc/ssl/certs/corp.pem", false),
        ] {
            assert_eq!(may(&listed, real, "/etc/adit"), fine, "{real}");
        }
        let told = listed.reads(&Reading {
            named: None,
            real: Path::new("/etc/shadow"),
            beside: None,
            credentials: None,
            resolve,
        });
        let told = told.unwrap_err();
        assert_eq!(
            told.to_string(),
            "/etc/shadow is none of the files that the configuration may name: /etc/adit/token, /srv/keys/"
        );
    }

    #[test]
    fn an_item_is_a_whole_path() {
        for text in ["", "token", "./token", "/etc/../root", "~/token", "/a\nb", &"/a".repeat(3_000)] {
            assert_eq!(Files::parse(text), None, "{text}");
        }
        assert_eq!(Files::parse("/etc//adit/./"), Some(PathBuf::from("/etc/adit")));
        for empty in ["files:\n", "files: []\n", "files: ''\n"] {
            let faults = Policy::parse(Path::new("policy.yml"), &format!("version: 1\n{empty}")).unwrap_err();
            assert!(faults[0].to_string().contains("files: nothing stands behind it"), "{empty}: {faults:?}");
        }
    }
}
