//! Replacing this program by a newer one of the vendor's, and putting it back when that does not connect.
//!
//! A vendor publishes, below `agent.update.url`, one signed manifest a channel and the programs that it names. What is believed is the
//! signature of a key in the configuration, for a limited time, of a version that is not lower than this one. Whether the vendor
//! may ask for it, and whether anything is looked for unasked, is for the customer's policy.

mod fetch;
mod install;
mod manifest;
mod sample;
mod trial;
mod version;

use std::{
    env,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use minisign_verify::PublicKey;
use rustls::{ClientConfig, crypto::CryptoProvider};

use crate::{
    config::{AgentConfig, Channel, ReleaseUrl, UpstreamTrust},
    errors::{Error, Fault},
    route::Route,
    trust::{sha256, upstream_tls},
};

pub(crate) use install::{Staged, answers, keeper, previous, put_back, replace, stage};
pub(crate) use manifest::{Release, Wanted, verify};
pub use sample::{ReleaseRead, is_signed_release, read_release, version_order};
pub(crate) use trial::{Begun, Store, Trial};
pub(crate) use version::Version;

/// Looks for releases and installs them.
#[derive(Clone)]
pub(crate) struct Updater {
    url: String,
    /// A folder that holds what is at `url`.
    folder: Option<PathBuf>,
    keys: Vec<PublicKey>,
    channel: Channel,
    route: Route,
    tls: Arc<ClientConfig>,
    provider: Arc<CryptoProvider>,
    store: Option<Store>,
    executable: PathBuf,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// A version that is to be taken.
    Newer(Release),
    /// There is nothing newer.
    Current(Version),
}

/// What a person may ask for beyond what happens by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Force {
    /// A lower version, or the same.
    pub(crate) downgrade: bool,
    /// A version that did not connect before.
    pub(crate) failed: bool,
}

impl Updater {
    /// Prepares to look for releases; `state` is the agent's folder of state.
    ///
    /// # Errors
    /// [`Fault::UpdateUnconfigured`], [`Fault::RootsUnusable`].
    pub(crate) fn new(
        agent: &AgentConfig,
        channel: Option<Channel>,
        state: Option<&Path>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let releases = agent.update.as_ref().ok_or(Fault::UpdateUnconfigured)?;
        let keys: Vec<_> = releases.keys.iter().filter_map(|key| PublicKey::from_base64(key).ok()).collect();
        let trust = releases.ca.clone().map_or(UpstreamTrust::Host, UpstreamTrust::File);
        let executable = env::current_exe().and_then(std::fs::canonicalize);
        let executable =
            executable.map_err(|error| Error::new(Fault::Internal, format!("this program's own file: {error}")))?;
        Ok(Self {
            url: releases.url.trim_end_matches('/').to_owned(),
            folder: None,
            keys,
            channel: channel.unwrap_or(releases.channel),
            route: Route::new(agent, provider)?,
            tls: upstream_tls(&trust, Some(b"http/1.1"), provider)?,
            provider: Arc::clone(provider),
            store: state.map(Store::new),
            executable,
        })
    }

    /// Takes what is in a folder, in the place of what is at the place of the releases: nothing is less asked of it.
    pub(crate) fn with_folder(mut self, folder: Option<PathBuf>) -> Self {
        self.folder = folder;
        self
    }

    async fn fetch(&self, path: &str, most: u64) -> Result<Vec<u8>, Error> {
        let Some(folder) = &self.folder else {
            return fetch::get(&self.route, &self.tls, &format!("{}/{path}", self.url), most).await;
        };
        let file = folder.join(path);
        let read = || {
            let mut octets = Vec::new();
            File::open(&file)?.take(most + 1).read_to_end(&mut octets)?;
            if octets.len() as u64 > most { Err(io::Error::other("it is too long")) } else { Ok(octets) }
        };
        read().map_err(|error| Error::new(Fault::UpdateUnreachable, format!("{}: {error}", file.display())))
    }

    /// Looks for a release that is newer than this version.
    ///
    /// # Errors
    /// As [`Self::newest`], and [`Fault::UpdateFailed`] for one that did not connect before.
    pub(crate) async fn look(&self, force: Force) -> Result<Offer, Error> {
        self.judge(self.newest().await?, current(), force)
    }

    /// Fetches what the vendor has signed as the newest, and remembers nothing of it.
    ///
    /// # Errors
    /// [`Fault::UpdateUnreachable`], [`Fault::UpdateUntrusted`], [`Fault::UpdateNone`].
    pub(crate) async fn newest(&self) -> Result<Release, Error> {
        let manifest = format!("{}.json", self.channel.word());
        let text = self.fetch(&manifest, MAX_MANIFEST).await?;
        let signature = self.fetch(&format!("{manifest}.minisig"), MAX_SIGNATURE).await?;
        let signature = String::from_utf8_lossy(&signature);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let wanted = Wanted { keys: &self.keys, channel: self.channel, target: &target(), now };
        verify(&text, &signature, &wanted)
    }

    /// Names the place of the releases, and the proxy by which it is asked.
    pub(crate) fn shown(&self) -> String {
        ReleaseUrl::host_and_port(&self.url)
            .map_or_else(|| self.url.clone(), |(host, port)| self.route.shown(&self.url, &host, port))
    }

    /// Decides about a release that is genuine.
    fn judge(&self, release: Release, current: Version, force: Force) -> Result<Offer, Error> {
        let word = self.channel.word();
        let record = self.store.as_ref().map(Store::read).unwrap_or_default();
        let newest = record.seen.get(word).copied().unwrap_or(i64::MIN);
        if release.signed < newest && !force.downgrade {
            let problem = "it is an old copy: a newer one has been seen";
            return Err(Error::new(Fault::UpdateUntrusted, problem.to_owned()));
        }
        if let Some(store) = &self.store
            && release.signed > newest
            && let Err(error) = store.change(|record| {
                record.seen.insert(word.to_owned(), release.signed);
            })
        {
            tracing::warn!(%error, "what was seen of releases is not remembered");
        }
        if release.version <= current && !force.downgrade {
            return Ok(Offer::Current(release.version));
        }
        if record.failed.contains(&release.version.to_string()) && !force.failed {
            let detail = format!("version {} did not connect here and was put back", release.version);
            return Err(Error::new(Fault::UpdateFailed, detail));
        }
        Ok(Offer::Newer(release))
    }

    /// Fetches the program of a release, holds it against what was signed, and lets it say its version; it lies beside this one then.
    ///
    /// With `managed`, also where a package manager or an image looks after the file.
    ///
    /// # Errors
    /// [`Fault::UpdateManaged`], [`Fault::UpdateUnreachable`], [`Fault::UpdateUntrusted`], [`Fault::UpdateFailed`],
    /// [`Fault::FileUnwritable`]: nothing has changed.
    pub(crate) async fn prepare(&self, release: &Release, managed: bool) -> Result<Staged, Error> {
        if let Some(keeper) = keeper(&self.executable).filter(|_| !managed) {
            let detail = format!("{} belongs to {keeper}", self.executable.display());
            return Err(Error::new(Fault::UpdateManaged, detail));
        }
        let artefact = &release.artefact;
        // Before anything is fetched: there may be no way to write it.
        drop(stage(&self.executable, b"")?);
        let program = self.fetch(&artefact.path, artefact.size).await?;
        let hash = sha256(&program, &self.provider).unwrap_or_default().replace(':', "");
        if program.len() as u64 != artefact.size || !hash.eq_ignore_ascii_case(&artefact.sha256) {
            return Err(Error::new(
                Fault::UpdateUntrusted,
                "the program is not the one that was signed for".to_owned(),
            ));
        }
        let staged = stage(&self.executable, &program)?;
        drop(program);
        let promised = release.version.clone();
        let staged = tokio::task::spawn_blocking(move || answers(&staged, &promised).map(|()| staged)).await;
        staged.map_err(|error| Error::new(Fault::Internal, error.to_string()))?
    }

    /// Puts the program of a release in the place of this one, on trial; returns where this one is kept.
    ///
    /// # Errors
    /// [`Fault::FileUnwritable`]: this program is where it was.
    pub(crate) fn install(&self, release: &Release, staged: Staged) -> Result<PathBuf, Error> {
        let previous = previous(&self.executable);
        // This program may be on trial itself: what comes back is the last one that has connected.
        let before = self.store.as_ref().and_then(|store| store.read().trial);
        let pending = before.as_ref().filter(|trial| trial.is_of(&self.executable, &current()));
        let keeps = pending.is_some();
        let trial = Trial {
            executable: self.executable.clone(),
            previous: previous.clone(),
            version: release.version.to_string(),
            from: pending.map_or_else(|| current().to_string(), |trial| trial.from.clone()),
            starts: 0,
        };
        // First of all: a version without a trial would stay although it does not connect.
        if let Some(store) = &self.store {
            store.change(|record| record.trial = Some(trial))?;
        }
        if let Err(error) = replace(&self.executable, staged, keeps) {
            if let Some(store) = &self.store
                && let Err(error) = store.change(|record| record.trial = before)
            {
                tracing::warn!(%error, "a trial that was not begun is remembered"); // it is of a version that is not there
            }
            return Err(error);
        }
        Ok(previous)
    }
}

/// Returns the triple of the machines that this program is for.
fn target() -> String {
    let (os, libc) = match (env::consts::OS, cfg!(target_env = "musl"), cfg!(target_env = "msvc")) {
        ("linux", true, _) => ("unknown-linux", "-musl"),
        ("linux", false, _) => ("unknown-linux", "-gnu"),
        ("macos", ..) => ("apple-darwin", ""),
        ("windows", _, true) => ("pc-windows", "-msvc"),
        ("windows", _, false) => ("pc-windows", "-gnu"),
        (other, ..) => (other, ""),
    };
    format!("{}-{os}{libc}", env::consts::ARCH)
}

/// Returns this program's own version.
pub(crate) fn current() -> Version {
    Version::parse(env!("CARGO_PKG_VERSION")).unwrap_or_else(|| unreachable!("the crate has a version"))
}

/// A manifest is not larger, in octets.
const MAX_MANIFEST: u64 = 256 << 10;
const MAX_SIGNATURE: u64 = 4 << 10;
