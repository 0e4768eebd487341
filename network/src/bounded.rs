//! Files are read up to a limit. One that is longer is an error: what is cut off would be understood as something else.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// What a file holds, and who may do what with it.
pub(crate) struct Contents {
    pub(crate) octets: Vec<u8>,
    pub(crate) mode: u32,
}

impl Contents {
    /// Returns it as text.
    pub(crate) fn text(self) -> io::Result<String> {
        text(self.octets)
    }
}

/// Reads a file of at most `most` octets. Its mode is that of the very file that was read.
pub(crate) fn read(path: &Path, most: usize) -> io::Result<Contents> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    Ok(Contents { octets: take(file, most)?, mode })
}

/// Reads to the end, which is there after at most `most` octets.
pub(crate) fn take(from: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    from.take(most as u64 + 1).read_to_end(&mut octets)?;
    if octets.len() > most {
        let kind = io::ErrorKind::FileTooLarge;
        return Err(io::Error::new(kind, format!("it is larger than the {most} octets that are read")));
    }
    Ok(octets)
}

/// Returns octets as text.
pub(crate) fn text(octets: Vec<u8>) -> io::Result<String> {
    String::from_utf8(octets).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_than_its_limit_is_refused_and_never_cut() {
        assert_eq!(take(&b"abc"[..], 3).unwrap(), b"abc");
        let error = take(&b"abcd"[..], 3).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than the 3 octets that are read");
        assert_eq!(take(io::repeat(0), 1 << 20).unwrap_err().kind(), io::ErrorKind::FileTooLarge, "nothing endless");
        assert!(text(vec![0xff]).is_err());
    }
}
