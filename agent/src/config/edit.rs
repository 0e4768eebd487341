//! Putting an authtoken into a configuration that people write: everything else stays as it stands.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use adit_core::Secret;

use super::yaml::{self, Node, Value};

/// Why a token was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is not YAML, or `agent` is not a section of lines.
    #[error("{}: {problem}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The token has characters that no token has.
    #[error("that is not a token: letters, digits and punctuation of ASCII, at most 512 of them")]
    Token,
}

/// Writes `token` into the file at `path`, which is made if there is none; its mode is 0600 afterwards.
///
/// The file is replaced in one step: a reader sees the old content or the new.
///
/// # Errors
/// [`EditError`]; the file is as it was.
pub fn set_authtoken(path: &Path, token: &Secret) -> Result<(), EditError> {
    let token = core::str::from_utf8(token.expose()).ok().filter(|token| is_token(token)).ok_or(EditError::Token)?;
    let fail = |error| EditError::Io { path: path.to_owned(), error };
    // A link is followed, so that what it names is replaced and the link stays.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(fail(error)),
    };
    let after = with_token(&before, token).map_err(|problem| EditError::Shape { path: path.clone(), problem })?;
    replace(&path, after.as_bytes()).map_err(fail)
}

fn is_token(token: &str) -> bool {
    let quoted = |b: u8| matches!(b, b'"' | b'\\');
    !token.is_empty() && token.len() <= 512 && token.bytes().all(|b| b.is_ascii_graphic() && !quoted(b))
}

/// Returns `text` with the token, and nothing else changed.
fn with_token(text: &str, token: &str) -> Result<String, String> {
    let Node { value: Value::Map(root), .. } = yaml::parse(0, text).map_err(|(_, problem)| problem)? else {
        return Err("the file is not a section of keys".to_owned());
    };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let agent = root.iter().find(|(key, ..)| key == "agent");
    match agent.map(|(_, place, node)| (place, &node.value)) {
        None => {
            if root.is_empty() {
                lines.push("version: 1".to_owned());
            }
            lines.push("agent:".to_owned());
            lines.push(format!("  authtoken: \"{token}\""));
        }
        Some((place, Value::Null)) => {
            let at = usize::try_from(place.line).unwrap_or(usize::MAX).min(lines.len());
            lines.insert(at, format!("  authtoken: \"{token}\""));
        }
        Some((_, Value::Map(keys)))
            if keys.iter().any(|(key, _, node)| key == "authtoken_file" && node.value != Value::Null) =>
        {
            return Err("authtoken_file says where the token is; write it there, or remove that key".to_owned());
        }
        Some((_, Value::Map(keys))) => put(&mut lines, keys, token)?,
        Some((_, Value::Text(_) | Value::List(_))) => return Err("`agent` is not a section of keys".to_owned()),
    }
    let after = lines.join("\n") + "\n";
    if holds(&after, token) { Ok(after) } else { Err("the token has no line of its own; write it by hand".to_owned()) }
}

fn put(lines: &mut Vec<String>, keys: &[(String, yaml::Place, Node)], token: &str) -> Result<(), String> {
    let known = keys.iter().find(|(key, ..)| key == "authtoken");
    let (_, place, node) = known.or_else(|| keys.first()).ok_or("`agent` has no keys")?;
    let unknown = || "the lines of `agent` are not plain".to_owned();
    let at = usize::try_from(place.line).ok().and_then(|line| line.checked_sub(1)).ok_or_else(unknown)?;
    let indent = usize::try_from(place.column).ok().and_then(|column| column.checked_sub(1)).ok_or_else(unknown)?;
    let line = format!("{}authtoken: \"{token}\"", " ".repeat(indent));
    let old = lines.get(at).ok_or_else(unknown)?;
    if old.chars().take(indent).any(|c| c != ' ') || known.is_some() && node.place.line > place.line {
        return Err(unknown());
    }
    if known.is_some() {
        lines[at] = line;
    } else {
        lines.insert(at, line);
    }
    Ok(())
}

fn holds(text: &str, token: &str) -> bool {
    let Ok(Node { value: Value::Map(root), .. }) = yaml::parse(0, text) else { return false };
    let agent = root.iter().find(|(key, ..)| key == "agent").map(|(.., node)| &node.value);
    let Some(Value::Map(keys)) = agent else { return false };
    keys.iter().any(|(key, _, node)| key == "authtoken" && node.value == Value::Text(token.to_owned()))
}

/// Gives a file to whom the one at `path` belongs: who edits it for a service must not take it away from that.
#[cfg(unix)]
fn keep_owner(path: &Path, file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, fchown};

    let Ok(before) = path.symlink_metadata() else { return Ok(()) };
    let ours = file.metadata()?;
    if !before.is_file() || (before.uid(), before.gid()) == (ours.uid(), ours.gid()) {
        return Ok(());
    }
    match fchown(file, Some(before.uid()), Some(before.gid())) {
        // Another user's file is replaced by who may write its folder: he may not give files away.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}

#[cfg(not(unix))]
fn keep_owner(_: &Path, _: &fs::File) -> io::Result<()> {
    Ok(())
}

/// Writes what somebody asked for to where they said: `-` is standard output; what is no file, a device or a pipe, is written to
/// and not replaced; a link is followed. The folder has to be there.
///
/// # Errors
/// What the system says; a file is as it was.
pub(crate) fn write_out(path: &Path, content: &[u8]) -> io::Result<()> {
    if path == Path::new("-") {
        let written = io::stdout().lock().write_all(content);
        return if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            Ok(())
        } else {
            written
        };
    }
    match fs::metadata(path) {
        Ok(found) if found.is_file() => replace(&path.canonicalize()?, content),
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => OpenOptions::new().write(true).open(path)?.write_all(content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder =
                path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
            folder.metadata()?;
            replace(path, content)
        }
        Err(error) => Err(error),
    }
}

/// Replaces a file in one step, or makes it, with mode 0600.
///
/// # Errors
/// What the system says; the file is as it was.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    put_file(path, content, 0o600, |file| keep_owner(path, file))
}

/// The same with another mode, whatever the umask takes away, and ours, whoever's the file was.
///
/// # Errors
/// What the system says; the file is as it was.
pub(crate) fn replace_as(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    put_file(path, content, mode, |_| Ok(()))
}

fn put_file(path: &Path, content: &[u8], mode: u32, own: impl FnOnce(&fs::File) -> io::Result<()>) -> io::Result<()> {
    #[cfg(not(unix))]
    let _ = mode; // there are none
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let draft = path.with_file_name(name);
    // What a crash left behind: in a container every agent has the same number.
    let _ = fs::remove_file(&draft);
    let written = (|| {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        let mut file = options.open(&draft)?;
        #[cfg(unix)]
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        file.write_all(content)?;
        own(&file)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    })();
    match written {
        Ok(()) => sync_folder(path),
        Err(_) => drop(fs::remove_file(&draft)), // what matters is told by `written`
    }
    written
}

/// Asks the disk to keep the name of a file. A folder that may not be read is kept by the system, some time.
pub(crate) fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if cfg!(unix) {
        let _ = fs::File::open(folder).and_then(|folder| folder.sync_all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_put_where_it_belongs_and_nothing_else_changes() {
        let table = [
            ("", "version: 1\nagent:\n  authtoken: \"t0\"\n"),
            ("# mine\nversion: 1\n", "# mine\nversion: 1\nagent:\n  authtoken: \"t0\"\n"),
            ("agent:\n    connect_url: a # why\n", "agent:\n    authtoken: \"t0\"\n    connect_url: a # why\n"),
            ("agent:\n  a: 1\n  authtoken: old\n  b: 2\n", "agent:\n  a: 1\n  authtoken: \"t0\"\n  b: 2\n"),
            ("agent:\nendpoints: []\n", "agent:\n  authtoken: \"t0\"\nendpoints: []\n"),
        ];
        for (before, after) in table {
            assert_eq!(with_token(before, "t0").as_deref(), Ok(after), "{before}");
        }
    }

    #[test]
    fn a_file_that_is_not_understood_stays_as_it_is() {
        for text in ["agent: {a: 1}\n", "agent: x\n", "- a\n", "agent:\n  authtoken:\n    old\n", "agent: [\n"] {
            assert!(with_token(text, "t0").is_err(), "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_replaced_in_one_step_and_nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = crate::testing::folder("edit");
        let path = folder.join("below").join("adit.yml");

        set_authtoken(&path, &Secret::new(*b"one")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        set_authtoken(&path, &Secret::new(*b"two")).unwrap();

        assert_eq!(fs::read_to_string(&path).unwrap(), "version: 1\nagent:\n  authtoken: \"two\"\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_token_beside_a_file_that_has_one_is_refused() {
        let text = "agent:\n  authtoken_file: token\n";

        assert!(with_token(text, "t0").unwrap_err().contains("authtoken_file"));
        assert!(with_token("agent:\n  authtoken_file:\n", "t0").is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_asked_for_replaces_files_and_nothing_else() {
        use std::os::unix::fs::{FileTypeExt as _, symlink};

        let folder = crate::testing::folder("write-out");
        let (file, link, device) = (folder.join("file"), folder.join("link"), folder.join("device"));
        symlink(&file, &link).unwrap();
        symlink("/dev/null", &device).unwrap();

        write_out(&file, b"one").unwrap();
        write_out(&link, b"two").unwrap();
        write_out(&device, b"three").unwrap();

        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
        assert!(link.is_symlink() && device.is_symlink());
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        assert!(write_out(&folder.join("none").join("file"), b"four").is_err());
        assert!(!folder.join("none").exists());
        assert!(write_out(&folder, b"five").is_err());
    }

    #[test]
    fn a_draft_that_a_crash_left_behind_does_not_hold_up_the_next() {
        let folder = crate::testing::folder("edit-draft");
        let path = folder.join("totals.json");
        fs::write(folder.join(format!("totals.json.{}.new", std::process::id())), "half").unwrap();

        replace(&path, b"whole").unwrap();

        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_token_is_not_written() {
        let path = crate::testing::folder("edit-bad").join("adit.yml");
        for token in ["", "a b", "a\nb", "a\"b", &"x".repeat(513)] {
            assert!(matches!(set_authtoken(&path, &Secret::new(token.as_bytes())), Err(EditError::Token)), "{token}");
        }
        assert!(!path.exists());
    }
}
