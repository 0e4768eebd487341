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
    let file = options.open(path)?;
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
