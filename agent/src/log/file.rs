//! A log in a file: it follows its name when somebody moves the file away, and does not grow without end.

use core::time::Duration;
use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Instant,
};

/// The file that has the name now, as far as was looked.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// Octets in it; nothing where it is no file but a device, or cannot have been written here.
    length: Option<u64>,
    most: u64,
    looked: Instant,
}

impl LogFile {
    /// Opens the file, or makes it with mode 0640.
    ///
    /// # Errors
    /// What the system says; a pipe is refused, because it may be that nobody reads from it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = append(path)?;
        let length = Some(file.metadata()?).filter(Metadata::is_file).map(|metadata| metadata.len());
        // A log of ours is never as long: whoever writes the configuration has no file of others put aside.
        let length = length.filter(|length| *length <= MAX_SIZE + LINE);
        Ok(Self { path: path.to_owned(), file, length, most: MAX_SIZE, looked: Instant::now() })
    }

    /// Takes the file that has the name, where that is another one; one that is full is put aside. What cannot be opened changes
    /// nothing: a line is lost to nobody.
    fn look(&mut self) {
        let Some(length) = self.length else { return };
        let is_full = length >= self.most;
        if !is_full && self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        let is_gone = !self.file.metadata().is_ok_and(|ours| is_same(&self.path, &ours));
        if is_full && !is_gone && fs::rename(&self.path, before(&self.path)).is_err() {
            return;
        }
        if (is_full || is_gone)
            && let Ok(Self { file, length, .. }) = Self::open(&self.path)
        {
            (self.file, self.length) = (file, length);
        }
    }
}

impl Write for LogFile {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.look();
        let written = self.file.write(octets)?;
        self.length = self.length.map(|length| length.saturating_add(written as u64));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};

        if fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo()) {
            return Err(io::Error::other("it is a pipe, from which nobody may be reading"));
        }
        options.mode(0o640);
    }
    options.open(path)
}

/// Where the file is put that was full.
fn before(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

#[cfg(unix)]
fn is_same(path: &Path, ours: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
}

#[cfg(not(unix))]
fn is_same(path: &Path, _: &Metadata) -> bool {
    path.exists()
}

/// A log file is not much larger, in octets: 64 MiB.
const MAX_SIZE: u64 = 64 << 20;
/// More than the last line that fills a file.
const LINE: u64 = 1 << 20;
/// How often it is looked whether the name is another file's.
const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn a_file_that_is_moved_away_is_followed_by_a_new_one_of_its_name() {
        let folder = crate::testing::folder("log-moved");
        let (path, moved) = (folder.join("agent.log"), folder.join("agent.log-1"));
        let mut log = LogFile::open(&path).unwrap();
        log.write_all(b"one\n").unwrap();
        fs::rename(&path, &moved).unwrap();

        log.looked = Instant::now().checked_sub(LOOK).unwrap();
        log.write_all(b"two\n").unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        log.looked = Instant::now().checked_sub(LOOK).unwrap();
        log.write_all(b"three\n").unwrap(); // to the file that has no name any more

        assert_eq!(text(&moved), "one\n");
        fs::remove_dir(&path).unwrap();
        log.looked = Instant::now().checked_sub(LOOK).unwrap();
        log.write_all(b"four\n").unwrap();
        assert_eq!(text(&path), "four\n");
    }

    #[test]
    fn a_file_that_is_full_is_put_aside_and_there_are_never_more_than_two() {
        let folder = crate::testing::folder("log-full");
        let path = folder.join("agent.log");
        let mut log = LogFile::open(&path).unwrap();
        log.most = 8;

        for line in 0..9 {
            log.write_all(format!("{line:03}\n").as_bytes()).unwrap();
        }

        assert_eq!((text(&path), text(&before(&path))), ("008\n".into(), "006\n007\n".into()));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    }

    #[test]
    fn what_is_too_long_to_be_ours_is_not_put_aside() {
        let path = crate::testing::folder("log-others").join("data");
        File::create(&path).unwrap().set_len(MAX_SIZE + LINE + 1).unwrap();

        LogFile::open(&path).unwrap().write_all(b"one\n").unwrap();

        assert!(path.exists() && !before(&path).exists());
    }

    #[test]
    fn a_pipe_is_refused_and_a_device_is_written_to() {
        let pipe = crate::testing::folder("log-pipe").join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());

        assert!(LogFile::open(&pipe).unwrap_err().to_string().contains("pipe"));
        let mut device = LogFile::open(Path::new("/dev/null")).unwrap();
        device.most = 1;
        device.write_all(b"one\n").unwrap();
        device.write_all(b"two\n").unwrap();
        assert!(Path::new("/dev/null").exists() && !Path::new("/dev/null.1").exists());
    }
}
