//! What is looked at again and again: files that change, certificates that are put in, and ends that come near.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use super::{Certificates, Kept, KeptError, Nearness, Register, Rotated, Source, Validity};
use crate::{
    metrics::{CertificateLabel, Metrics, ReasonLabel},
    store::{Kind, Store, StoreError, Topic, Vault, Watch},
};

/// Keeps the certificates up to date and tells of their ends until it is dropped.
///
/// `revoked` is called when a certificate of the ingress was revoked and another one has taken its place.
pub async fn run(
    certificates: Arc<Certificates>,
    metrics: Arc<Metrics>,
    (store, vault): (Arc<Store>, Option<Arc<Vault>>),
    revoked: impl Fn() + Send,
) {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut ends, mut own, mut next) = (Ends::default(), Own::default(), Instant::now());
    loop {
        tick.tick().await;
        let (files, is_due) = (Arc::clone(&certificates), next <= Instant::now());
        if is_due {
            next = Instant::now() + RENEWAL;
        }
        // Reading files blocks; a panic in there is counted, and the next look is as good.
        let looked = tokio::task::spawn_blocking(move || {
            if is_due {
                renew_list(&files);
            }
            refresh(&files);
            refresh_lists(&files);
            rotate(&files)
        });
        if looked.await.is_ok_and(|rotated| rotated == Some(Rotated::Revoked)) {
            revoked();
        }
        if let Some(vault) = &vault {
            own.look(&certificates, &store, vault).await;
        }
        ends.tell(&certificates.all(), &metrics, unix_now());
    }
}

/// Reads the files again when one has changed; what cannot be used leaves what was there (V36).
fn refresh(certificates: &Certificates) {
    match certificates.refresh() {
        None => {}
        Some(Ok(())) => info!("certificate files have changed and were read again"),
        Some(Err(error)) => warn!(%error, "certificate files have changed and cannot be used: the old ones stay"),
    }
}

/// Reads revocation lists again when one has changed.
fn refresh_lists(certificates: &Certificates) {
    match certificates.refresh_lists() {
        None => {}
        Some(Ok(0)) => info!("the revocation lists for agents have changed and were read again"),
        Some(Ok(too_long)) => {
            warn!(too_long, "revocation lists are too long for a handshake: agents must fetch them by HTTP");
        }
        Some(Err(error)) => warn!(%error, "the revocation lists for agents cannot be used: the old ones stay"),
    }
}

/// Issues certificates of the ingress anew that are due or revoked, and lets the register know of what was issued.
fn rotate(certificates: &Certificates) -> Option<Rotated> {
    let rotated = match certificates.rotate(unix_now()) {
        Ok(rotated) => rotated,
        Err(error) => {
            error!(%error, "the private CA cannot issue a certificate for the ingress: the old one stays");
            None
        }
    };
    match rotated {
        None => {}
        Some(Rotated::Due) => info!("the private CA has issued a new certificate for the ingress: sessions stay"),
        Some(Rotated::Revoked) => {
            warn!("the ingress's certificate was revoked and another one was issued: sessions are made anew");
        }
    }
    if let Err(error) = certificates.note_issued() {
        debug!(%error, "the register of the private CA does not know a certificate of the ingress: it cannot be revoked");
    }
    rotated
}

/// Signs the revocation list of the private CA anew before it is over, if there is one.
fn renew_list(certificates: &Certificates) {
    let Some(folder) = certificates.private_ca() else { return };
    match Register::renew(&folder, unix_now()) {
        Ok(false) => {}
        Ok(true) => info!("the revocation list of the private CA was signed anew"),
        Err(error) => error!(%error, "the revocation list of the private CA cannot be signed anew"),
    }
}

/// Certificates that are put in by command, possibly by another process.
#[derive(Default)]
struct Own {
    watch: Option<Watch>,
    /// What was told last, so that it is told once.
    told: Option<String>,
}

impl Own {
    async fn look(&mut self, certificates: &Certificates, store: &Store, vault: &Vault) {
        let read = self.changed(store, vault).await;
        if read.is_err() {
            self.watch = None; // looked at again, whether or not the database changes
        }
        match read {
            Ok(None) => {}
            Ok(Some(kept)) => {
                self.told = None;
                if certificates.set_own(kept) {
                    info!("the certificates in the database have changed");
                }
            }
            Err(error) => {
                let text = error.to_string();
                if self.told.as_ref() != Some(&text) {
                    error!(%error, "the certificates in the database cannot be read: the old ones stay");
                    self.told = Some(text);
                }
            }
        }
    }

    async fn changed(&mut self, store: &Store, vault: &Vault) -> Result<Option<Vec<Kept>>, KeptError> {
        let watch = match &mut self.watch {
            Some(watch) => watch,
            empty => empty.insert(store.watch(Topic::Secrets).await.map_err(KeptError::from)?),
        };
        if !watch.changed().await.map_err(|error: StoreError| KeptError::from(error))? {
            return Ok(None);
        }
        Kept::all(store, vault, Kind::Own).await.map(Some)
    }
}

/// What was told of the ends of certificates.
#[derive(Default)]
struct Ends {
    shown: BTreeSet<(String, Source)>,
    /// How near each was when it was told, and when that was.
    told: BTreeMap<(String, Source), (Nearness, u64)>,
}

impl Ends {
    /// Shows every end as a number, and tells of those that are near: at once when one comes nearer, and once a day.
    fn tell(&mut self, all: &[(String, Source, Validity)], metrics: &Metrics, now: u64) {
        let mut shown = BTreeSet::new();
        let mut near = [0, 0];
        for (name, source, validity) in all.iter().take(MAX_SHOWN) {
            let until = i64::try_from(validity.until).unwrap_or(i64::MAX);
            metrics.certificates.end.get_or_create(&label(name, *source)).set(until);
            shown.insert((name.clone(), *source));
            let nearness = validity.nearness(now);
            match nearness {
                Nearness::Far => {}
                Nearness::Near => near[0] += 1,
                Nearness::Close | Nearness::Over => near[1] += 1,
            }
            self.tell_one(name, *source, *validity, nearness, now);
        }
        for (name, source) in self.shown.difference(&shown) {
            metrics.certificates.end.remove(&label(name, *source));
        }
        self.told.retain(|key, _| shown.contains(key));
        self.shown = shown;
        for (reason, count) in [("near", near[0]), ("close", near[1])] {
            metrics.certificates.ending.get_or_create(&ReasonLabel { reason }).set(count);
        }
    }

    fn tell_one(&mut self, name: &str, source: Source, validity: Validity, nearness: Nearness, now: u64) {
        let key = (name.to_owned(), source);
        if nearness == Nearness::Far {
            self.told.remove(&key);
            return;
        }
        if self.told.get(&key).is_some_and(|(told, at)| *told >= nearness && now < at.saturating_add(DAY)) {
            return;
        }
        let (hours, end) = (validity.until.saturating_sub(now) / 3_600, nearness.word());
        if nearness == Nearness::Near {
            warn!(name, source = source.word(), hours, end, "a certificate comes to its end and was not replaced");
        } else {
            error!(name, source = source.word(), hours, end, "a certificate comes to its end and was not replaced");
        }
        self.told.insert(key, (nearness, now));
    }
}

fn label(name: &str, source: Source) -> CertificateLabel {
    CertificateLabel { name: name.to_string(), source: source.word() }
}

/// What tells that a file was written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(PathBuf, Option<(u64, i64, i64, u64)>);

impl Stamp {
    /// Looks at a file; one that cannot be looked at has a stamp too.
    pub(crate) fn of(path: &Path) -> Self {
        let facts = std::fs::metadata(path).ok();
        Self(path.to_owned(), facts.map(|facts| (facts.ino(), facts.mtime(), facts.mtime_nsec(), facts.len())))
    }
}

/// Returns the seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// How often files and database are looked at.
const PERIOD: Duration = Duration::from_secs(2);
/// How often it is looked whether the list of the private CA is half over.
const RENEWAL: Duration = Duration::from_secs(300);
const DAY: u64 = 86_400;
/// So many certificates have a number of their own.
const MAX_SHOWN: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_when_it_comes_nearer_once_a_day_and_shown_as_a_number() {
        let (metrics, mut ends) = (Metrics::new(), Ends::default());
        let name = "crm.example.com".to_owned();
        let validity = Validity { from: 0, until: 80 * DAY };
        let all = [(name.clone(), Source::Ordered, validity)];
        let told = |ends: &Ends| ends.told.get(&(name.clone(), Source::Ordered)).copied();

        ends.tell(&all, &metrics, 59 * DAY);
        assert_eq!(told(&ends), None);
        ends.tell(&all, &metrics, 60 * DAY);
        assert_eq!(told(&ends), Some((Nearness::Near, 60 * DAY)));
        ends.tell(&all, &metrics, 61 * DAY - 1);
        assert_eq!(told(&ends), Some((Nearness::Near, 60 * DAY)), "not twice a day");
        ends.tell(&all, &metrics, 61 * DAY);
        assert_eq!(told(&ends), Some((Nearness::Near, 61 * DAY)));
        ends.tell(&all, &metrics, 70 * DAY);
        assert_eq!(told(&ends), Some((Nearness::Close, 70 * DAY)));
        ends.tell(&all, &metrics, 80 * DAY);
        assert_eq!(told(&ends), Some((Nearness::Over, 80 * DAY)));
        let text = metrics.text().unwrap();
        let line = "adit_certificate_not_after_seconds{name=\"crm.example.com\",source=\"acme\"} 6912000";
        assert!(text.contains(line) && text.contains("adit_certificates_ending{reason=\"close\"} 1"), "{text}");

        ends.tell(&[], &metrics, 80 * DAY);
        assert!(!metrics.text().unwrap().contains("crm.example.com"), "one that is gone has no number");
    }
}
