//! What an import makes, for who fuzzes it.

use std::path::{Path, PathBuf};

use super::{Options, import};
use crate::config::{Config, Overrides, Text};

/// What was made, and what of it would be in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportSample {
    /// The configuration.
    pub text: String,
    /// The files beside it: names and contents.
    pub beside: Vec<(String, String)>,
    /// What is told: a line, or 0, and the whole.
    pub notes: Vec<(u64, String)>,
    /// The names of the endpoints that the configuration binds, or how many faults it has.
    pub endpoints: Result<Vec<String>, usize>,
}

/// Imports a text. The bits of `asked`, from the lowest: an address of the network, a domain, secrets may be written, the
/// authtoken comes along, what was protected is in force.
///
/// # Errors
/// The lines of what is wrong with it, where there are any.
pub fn import_sample(text: &str, asked: u8) -> Result<ImportSample, Vec<Option<u64>>> {
    let is_set = |bit: u8| asked & 1 << bit != 0;
    let options = Options {
        connect_url: is_set(0).then(|| "connect.vendor.example:443".to_owned()),
        domain: is_set(1).then(|| "vendor.example".to_owned()),
        secrets: is_set(2),
        keep_authtoken: is_set(3),
        expose: is_set(4),
    };
    let made = import(Path::new("ngrok.yml"), text, &options);
    let made = made.map_err(|faults| faults.iter().map(|fault| fault.line).collect::<Vec<_>>())?;
    let read = Text { text: made.text.clone(), mode: Some(0o600) };
    let read = Config::parse(&[PathBuf::from("adit.yml")], &[read], &Overrides::default());
    let names = |config: Config| config.endpoints.into_iter().map(|endpoint| endpoint.name).collect();
    Ok(ImportSample {
        text: made.text,
        beside: made.extras.into_iter().map(|extra| (extra.name, extra.text)).collect(),
        notes: made.notes.iter().map(|note| (note.line, note.to_string())).collect(),
        endpoints: read.map(names).map_err(|faults| faults.len()),
    })
}
