//! What several tests need.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::config::{Config, Overrides, Text};

/// Makes a fresh folder for one test.
pub(crate) fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("adit-test-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Makes a pipe with a name, which nobody writes to.
#[cfg(unix)]
pub(crate) fn pipe(path: &Path) -> PathBuf {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    path.to_owned()
}

/// Reads a configuration that must be valid.
pub(crate) fn config(text: &str) -> Config {
    config_in(text, Path::new("/var/lib/adit"))
}

/// Reads a configuration that must be valid, for an agent that keeps its state in a folder.
pub(crate) fn config_in(text: &str, state: &Path) -> Config {
    let text = Text { text: text.to_owned(), mode: Some(0o600) };
    let overrides = Overrides::default().with_state(state.to_owned());
    Config::parse(&[PathBuf::from("adit.yml")], &[text], &overrides).unwrap()
}

/// The certificate of an authority that has signed nothing.
pub(crate) fn root_pem() -> String {
    let mut params = rcgen::CertificateParams::new([]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}
