//! Opens files that somebody else may have put there.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

/// Opens a regular file to be read. Anything else is refused at once: opening a pipe, or reading from it, may wait for ever.
///
/// # Errors
/// What the system says, or that it is no regular file.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, without_waiting());
    regular(options.open(path)?)
}

/// Opens a regular file by where it really is, to be read: no link is followed on the way to it, or at its end.
///
/// # Errors
/// What the system says, or that it is no regular file.
#[cfg(unix)]
pub(crate) fn open_real(real: &Path) -> io::Result<File> {
    use std::path::Component;

    use rustix::fs::{Mode, OFlags, openat};

    // To pass through a folder is all that is needed of it; not everywhere can it be opened for that alone.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let through = OFlags::PATH;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let through = OFlags::RDONLY;
    let through = through | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let last = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::fs::open("/", through, Mode::empty())?;
    let mut parts = real.components().peekable();
    while let Some(part) = parts.next() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) if parts.peek().is_some() => at = openat(&at, name, through, Mode::empty())?,
            Component::Normal(name) => return regular(File::from(openat(&at, name, last, Mode::empty())?)),
            Component::Prefix(_) | Component::CurDir | Component::ParentDir => break,
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"))
}

#[cfg(not(unix))]
pub(crate) fn open_real(real: &Path) -> io::Result<File> {
    open_regular(real)
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
}

#[cfg(unix)]
fn without_waiting() -> i32 {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    i32::try_from(flags.bits()).unwrap_or_default()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn no_link_leads_to_what_is_opened_by_where_it_really_is() {
        let folder = crate::testing::folder("real").canonicalize().unwrap();
        std::fs::create_dir(folder.join("below")).unwrap();
        std::fs::write(folder.join("below/file"), "text").unwrap();
        std::os::unix::fs::symlink("below", folder.join("way")).unwrap();
        std::os::unix::fs::symlink("below/file", folder.join("link")).unwrap();

        let mut text = String::new();
        open_real(&folder.join("below/file")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        for path in ["way/file", "link", "below", "below/../below/file"] {
            assert!(open_real(&folder.join(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = crate::testing::folder("regular");
        let pipe = crate::testing::pipe(&folder.join("pipe"));

        assert_eq!(open_regular(&pipe).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(open_regular(&folder).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(open_regular(&folder.join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(folder.join("file"), "text").unwrap();
        let mut text = String::new();
        open_regular(&folder.join("file")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
    }
}
