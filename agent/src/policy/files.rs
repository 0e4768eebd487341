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
    /// Where it really is, all links followed.
    pub real: &'a Path,
    /// The folder of the configuration that names it, all links followed.
    pub beside: Option<&'a Path>,
    /// The folder of what the system hands over to a service (`CREDENTIALS_DIRECTORY`).
    pub credentials: Option<&'a Path>,
}

impl Files {
    /// Reads an item of the list: a whole path, without steps back.
    pub(super) fn parse(text: &str) -> Option<PathBuf> {
        let path = Path::new(text);
        let fine =
            path.is_absolute() && text.len() <= MAX_PATH && !text.chars().any(char::is_control) && is_straight(path);
        fine.then(|| path.to_owned())
    }

    fn have(&self, reading: &Reading<'_>) -> bool {
        let real = reading.real;
        if !real.is_absolute() || !is_straight(real) {
            return false;
        }
        match self {
            Self::Listed(paths) => paths.iter().any(|path| real.starts_with(path)),
            Self::Usual => {
                let beside = reading.beside.filter(|folder| !is_shared(folder));
                beside.is_some_and(|folder| real.strip_prefix(folder).is_ok_and(is_shown))
                    || reading.credentials.is_some_and(|folder| real.starts_with(folder))
                    || real.parent() == Some(Path::new(SECRETS))
                    || TRUSTED.iter().any(|folder| real.starts_with(folder))
            }
        }
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual => f.write_str(
                "what lies beside the configuration, in a folder of its own and not hidden; what the system hands over to the \
                 service; /run/secrets; whom this machine trusts",
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
    let detail = format!(
        "{} is none of the files that the configuration may name: {}",
        reading.real.display().to_string().escape_debug(),
        policy.files
    );
    Err(Refusal { reason: Reason::File, rule: None, detail })
}

fn is_straight(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Prefix(_) | Component::RootDir | Component::Normal(_)))
}

/// Returns whether other things than those of one program are kept in a folder: what is there is not its configuration's own.
fn is_shared(folder: &Path) -> bool {
    folder.parent().is_none_or(|above| HOMES.iter().any(|homes| above == Path::new(homes)))
        || SHARED.iter().any(|shared| folder == Path::new(shared))
}

/// Returns whether no part of a path is hidden. What orchestrators write in one step lies in folders that begin with two dots.
fn is_shown(below: &Path) -> bool {
    let fine = |part: &str| !part.starts_with('.') || part.starts_with("..");
    below.components().next().is_some() && below.components().all(|part| part.as_os_str().to_str().is_some_and(fine))
}

/// Where orchestrators put the secrets of a container. Not what is below: the container's own identity is there, too.
const SECRETS: &str = "/run/secrets";
/// Where the certificates are whom a machine trusts; no keys.
const TRUSTED: [&str; 9] = [
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/private/etc/ssl/certs",
    "/private/etc/ssl/cert.pem",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/var/lib/ca-certificates",
];
/// Whose folders are those of people.
const HOMES: [&str; 2] = ["/home", "/Users"];
const SHARED: [&str; 27] = [
    "/boot",
    "/dev",
    "/dev/shm",
    "/etc",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/private",
    "/private/etc",
    "/private/tmp",
    "/private/var",
    "/proc",
    "/root",
    "/run",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/local",
    "/usr/local/etc",
    "/usr/share",
    "/var",
    "/var/lib",
    "/var/root",
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
        let (real, beside) = (Path::new(real), Some(Path::new(beside)));
        let read =
            policy.reads(&Reading { real, beside, credentials: Some(Path::new("/run/credentials/adit.service")) });
        assert!(
            read.as_ref().is_ok_and(|()| true) || read.as_ref().is_err_and(|refusal| refusal.reason == Reason::File)
        );
        read.is_ok()
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
        let told =
            listed.reads(&Reading { real: Path::new("/etc/shadow"), beside: None, credentials: None }).unwrap_err();
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
