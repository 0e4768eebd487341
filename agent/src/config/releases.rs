//! The section `update`: where the vendor's releases are, and who signs them.

use core::time::Duration;

use minisign_verify::PublicKey;

use super::NamedFile;

/// The section `update`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Releases {
    /// `url`: the folder of the releases, over HTTPS.
    pub url: String,
    /// `public_key`: minisign keys of which one has signed a release; one, or that and the next.
    pub keys: Vec<String>,
    /// `channel`: stable.
    pub channel: Channel,
    /// `ca`: a PEM file of whom the place's certificate must be from; without, whom this machine trusts.
    pub ca: Option<NamedFile>,
    /// `check`: whether the agent looks for a newer version when it starts, if the policy lets it; yes.
    pub check: bool,
    /// `trial`: how long a new version may take to connect before the one before is put back, 2 min.
    pub trial: Duration,
}

/// How ripe a release is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Channel {
    /// For everybody.
    #[default]
    Stable,
    /// For those who want to see what is to come.
    Beta,
}

impl Channel {
    /// Reads `stable` or `beta`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Stable, Self::Beta].into_iter().find(|channel| channel.word() == text)
    }

    /// Returns the word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Beta => "beta",
        }
    }
}

/// Returns whether a text is a public key of minisign.
pub(crate) fn is_key(text: &str) -> bool {
    PublicKey::from_base64(text).is_ok()
}
