//! What who comes over TCP must know.

use std::{
    io::{self, Write as _},
    path::Path,
};

use adit_core::Secret;
use rustls::crypto::CryptoProvider;

use crate::{config::NamedFile, private};

/// Reads the token of a file that nobody else may read or change; makes one where there is none.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn read_or_make(file: &NamedFile, provider: &CryptoProvider) -> Result<Secret, String> {
    match make(file, provider) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(format!("{}: {error}", file.display())),
    }
    read(file)
}

/// Makes a token, whatever there was: one that somebody was led to tell while no agent ran is good for nothing.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn make_anew(file: &NamedFile, provider: &CryptoProvider) -> Result<Secret, String> {
    let told = |error: io::Error| format!("{}: {error}", file.display());
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(told(error)),
        Ok(()) | Err(_) => {}
    }
    make(file, provider).map_err(told)?;
    read(file)
}

/// Reads the token of a file.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn read(file: &NamedFile) -> Result<Secret, String> {
    let shown = file.display();
    let text = file.read_private(MAX_TOKEN).map_err(|problem| format!("{shown}: {problem}"))?;
    let token = text.expose().trim_ascii();
    if token.len() < MIN_TOKEN || !token.iter().all(u8::is_ascii_graphic) {
        return Err(format!(
            "{shown}: not a token of at least {MIN_TOKEN} characters; remove the file, and one is made"
        ));
    }
    Ok(Secret::new(token))
}

fn make(file: &Path, provider: &CryptoProvider) -> io::Result<()> {
    let mut octets = [0; 32];
    let drawn = provider.secure_random.fill(&mut octets);
    drawn.map_err(|_| io::Error::other("no random octets can be had"))?;
    private::make_folder(file.parent().unwrap_or_else(|| Path::new("")))?;
    let text: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    writeln!(private::create(file)?, "{text}")
}

const MAX_TOKEN: u64 = 512;
/// What is shorter can be guessed.
const MIN_TOKEN: usize = 32;

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_token_is_made_once_for_its_owner_alone() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let file = NamedFile::from(crate::testing::folder("local-token").join("deep").join("a.token"));

        let token = read_or_make(&file, &provider).unwrap();

        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(token.expose().len() == 64 && read_or_make(&file, &provider).unwrap() == token);
        let anew = make_anew(&file, &provider).unwrap();
        assert!(anew != token && read(&file).unwrap() == anew);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_or_make(&file, &provider).unwrap_err().contains("chmod 600"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, "short\n").unwrap();
        assert!(read_or_make(&file, &provider).unwrap_err().contains("at least 32"));
    }
}
