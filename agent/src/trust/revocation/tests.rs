use core::time::Duration;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{SystemTime, UNIX_EPOCH},
};

use adit_tls::staple;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
};

use super::*;
use crate::trust::pins::Pins;

const DAY: u64 = 86_400;
const URL: &str = "http://crl.example/ca.crl";

#[test]
fn a_stapled_list_says_whether_the_certificate_is_revoked_and_by_what() {
    let ours = Authority::new("Ours");
    let revocation = ours.revocation(CrlMode::PreferStapled);

    assert_eq!(revocation.check(ours.chain(1), &ours.staple(7, &[2]), now()).map_err(fault), Ok(()));
    let refused = revocation.check(ours.chain(2), &[], now()).unwrap_err();

    assert_eq!(refused.told.fault, Fault::CertificateRevoked, "the list is known from the first handshake");
    assert_eq!(refused.error, CertificateError::Revoked.into());
    for part in
        ["CN=network", "issued by \"CN=Ours\"", "serial number 02", "number 0x07, with 1 entries", "the handshake"]
    {
        assert!(refused.told.detail.contains(part), "{part}: {}", refused.told.detail);
    }
    assert!(revocation.told().starts_with("ADIT-1111"), "{}", revocation.told());
    // It may come back: a newer list has the last word.
    assert_eq!(revocation.check(ours.chain(2), &ours.staple(8, &[3]), now()).map_err(fault), Ok(()));
    assert!(revocation.told().starts_with("not revoked by the list of CN=Ours"), "{}", revocation.told());
}

#[test]
fn once_a_list_is_known_to_exist_nothing_is_believed_without_one() {
    let ours = Authority::new("Ours");
    let check = |revocation: &Revocation, response: &[u8], at: UnixTime| {
        revocation.check(ours.chain(1), response, at).map_err(|refused| (refused.told.fault, refused.is_pending))
    };
    let unknown = Err((Fault::RevocationUnknown, false));

    let lax = ours.revocation(CrlMode::PreferStapled);
    assert_eq!(check(&lax, &[], now()), Ok(()), "nobody has heard of a list");
    assert_eq!(check(&lax, &ours.staple(1, &[]), now()), Ok(()));
    assert_eq!(check(&lax, &[], now()), Ok(()), "the one in force is enough");
    assert_eq!(check(&lax, &[], later(DAY - 1)), Ok(()));
    assert_eq!(check(&lax, &[], later(DAY + 1)), unknown, "it is over");
    assert!(lax.told().contains("is over: its successor was due at"), "{}", lax.told());

    let strict = ours.revocation(CrlMode::Require);
    assert_eq!(check(&strict, &[], now()), unknown);
    assert_eq!(check(&strict, &ours.staple(1, &[]), now()), Ok(()));

    let off = ours.revocation(CrlMode::Off);
    assert_eq!(check(&off, &ours.staple(1, &[1]), now()), Ok(()), "the customer does not want to know");
    assert!(off.told().starts_with("off"));
}

#[test]
fn a_list_that_cannot_be_believed_is_refused_and_known_to_exist() {
    let (ours, namesake, other) = (Authority::new("Ours"), Authority::new("Ours"), Authority::new("Other"));
    let whole = ours.list(1, &[]);
    let over = ours.list_of(1, &[], (now().as_secs() - 2 * DAY, now().as_secs() - DAY));
    let early = ours.list_of(1, &[], (now().as_secs() + 1_000, now().as_secs() + DAY));
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    for (list, problem) in [
        (namesake.list(1, &[]), "its signature is not that of CN=Ours"),
        (other.list(1, &[]), "its issuer CN=Other is none of the authorities"),
        (over, "is over: its successor was due at"),
        (early, "still to come"),
        (changed, "its signature is not that of CN=Ours"),
        (whole[..whole.len() - 1].to_vec(), "cut off"),
        (vec![0x30, 0], "not one whole revocation list"),
    ] {
        let revocation = ours.revocation(CrlMode::PreferStapled);
        let refused = revocation.check(ours.chain(1), &staple(&[&list]).unwrap(), now()).unwrap_err();

        assert_eq!(refused.told.fault, Fault::RevocationUnknown, "V31: {problem}");
        assert!(refused.told.detail.contains(problem), "{}", refused.told.detail);
    }
}

/// A clock that is wrong is told by what authorities sign, in force or not, and by nobody who could have signed anything.
#[test]
fn the_times_of_what_is_refused_are_heard_if_an_authority_signed_it() {
    let (ours, other) = (Authority::new("Ours"), Authority::new("Other"));
    let early = ours.list_of(9, &[], (now().as_secs() + 7_200, now().as_secs() + DAY));
    let over = ours.list_of(2, &[], (now().as_secs() - 2 * DAY, now().as_secs() - DAY));
    let made = |revocation: &Revocation| revocation.times().listed.map(|list| list.made);
    let seconds = |at: u64| i64::try_from(at).unwrap();

    let revocation = ours.revocation(CrlMode::PreferStapled);
    assert_eq!(revocation.times(), Times::default());
    revocation.check(ours.chain(1), &staple(&[&over]).unwrap(), now()).unwrap_err();
    assert_eq!(
        made(&revocation),
        Some(seconds(now().as_secs() - 2 * DAY)),
        "over, and no earlier than that all the same"
    );
    revocation.check(ours.chain(1), &staple(&[&early]).unwrap(), now()).unwrap_err();
    assert_eq!(made(&revocation), Some(seconds(now().as_secs() + 7_200)), "this clock is behind");
    revocation.check(ours.chain(1), &ours.staple(10, &[]), now()).map_err(fault).unwrap();
    assert_eq!(made(&revocation), Some(seconds(now().as_secs() + 7_200)), "the latest counts, not the last");
    revocation.check(ours.chain(1), &staple(&[&other.list(99, &[])]).unwrap(), now()).ok();
    assert_eq!(made(&revocation), Some(seconds(now().as_secs() + 7_200)));

    // TLS has refused what is shown here, as over or not begun.
    let refused = ours.revocation(CrlMode::PreferStapled);
    refused.overhear(&other.chain(1), &staple(&[&other.list(1, &[])]).unwrap());
    assert_eq!(refused.times(), Times::default(), "anybody makes a certificate of any time");
    refused.overhear(&ours.chain(1), &staple(&[&early, &other.list(1, &[])]).unwrap());
    let times = refused.times();
    assert!(times.certificate.is_some_and(|(from, until)| from < until), "{times:?}");
    assert_eq!(times.listed.map(|list| list.made), Some(seconds(now().as_secs() + 7_200)));
    let off = ours.revocation(CrlMode::Off);
    off.overhear(&ours.chain(1), &staple(&[&early]).unwrap());
    assert_eq!(
        (off.times().listed, off.times().certificate.is_some()),
        (None, true),
        "the customer does not want to know"
    );
    off.overhear(&ours.chain(1), b"no response of anything");
}

#[test]
fn no_list_goes_back_behind_another_while_the_agent_runs_and_after_a_restart() {
    let (ours, folder) = (Authority::new("Ours"), crate::testing::folder("crl-back"));
    let new = || {
        let revocation = ours.revocation(CrlMode::PreferStapled);
        revocation.keep_in(folder.clone());
        revocation
    };
    let check = |revocation: &Revocation, serial, response: &[u8], at| {
        revocation.check(ours.chain(serial), response, at).map_err(|refused| refused.told.fault)
    };

    let first = new();
    assert_eq!(check(&first, 2, &ours.staple(0x1ff, &[2]), now()), Err(Fault::CertificateRevoked));
    assert_eq!(check(&first, 2, &ours.staple(0x80, &[]), now()), Err(Fault::CertificateRevoked), "V31: rolled back");
    assert_eq!(check(&first, 1, &ours.staple(0x80, &[1]), now()), Ok(()), "what is old says nothing");
    assert!(first.settle());

    let after = new();
    assert_eq!(check(&after, 2, &ours.staple(0x80, &[]), now()), Err(Fault::CertificateRevoked), "V31: over a restart");
    let kept: Vec<_> = fs::read_dir(folder.join("crl")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&kept[0]), mode(&folder.join("crl"))), (0o600, 0o700));

    let late = new();
    assert_eq!(check(&late, 1, &[], later(2 * DAY)), Err(Fault::RevocationUnknown), "the copy is over");
    let newer = ours.list_of(0x200, &[], (now().as_secs(), now().as_secs() + 4 * DAY));
    assert_eq!(check(&late, 2, &staple(&[&newer]).unwrap(), later(2 * DAY)), Ok(()), "a newer one takes its place");
    assert!(late.settle());

    fs::write(&kept[0], "cut off").unwrap();
    let damaged = new();
    assert_eq!(check(&damaged, 1, &[], now()), Err(Fault::RevocationUnknown), "V31: there was one");
    assert_eq!(check(&damaged, 1, &ours.staple(0x201, &[]), now()), Ok(()));
}

/// CRL-004
#[test]
fn what_is_told_in_a_session_is_believed_as_much_as_anything_else_and_kept() {
    let (ours, other) = (Authority::new("Ours"), Authority::new("Other"));
    let folder = crate::testing::folder("crl-told");
    let revocation = ours.revocation(CrlMode::PreferStapled);
    revocation.keep_in(folder.clone());
    let check = |serial| revocation.check(ours.chain(serial), &[], now()).map_err(|refused| refused.told.fault);
    let over = ours.list_of(9, &[1], (now().as_secs() - 2 * DAY, now().as_secs() - DAY));
    let told = || revocation.lock().lists.values().map(|listed| listed.list.mark.number.clone()).collect::<Vec<_>>();
    assert_eq!(check(1), Ok(()));

    for bad in [&[][..], b"no list", &ours.list(1, &[1])[..99], &other.list(1, &[1]), &[0x30, 0], &over] {
        revocation.hear(bad, now());
        assert_eq!(told(), [] as [Vec<u8>; 0]);
    }
    revocation.lock().known.clear(); // one that is over is known to exist
    assert_eq!(check(1), Ok(()));

    // One that is not believed does not take the others with it.
    revocation.hear(&[other.list(7, &[]), ours.list(5, &[2])].concat(), now());
    assert_eq!((told(), check(1), check(2)), (vec![vec![5]], Ok(()), Err(Fault::CertificateRevoked)));
    assert!(check(1).is_ok() && revocation.told().contains("from the session at "), "{}", revocation.told());
    revocation.hear(&ours.list(4, &[]), now());
    assert_eq!((told(), check(2)), (vec![vec![5]], Err(Fault::CertificateRevoked)), "V31: rolled back");
    assert!(revocation.settle());
    let after = ours.revocation(CrlMode::PreferStapled);
    after.keep_in(folder);
    let refused = after.check(ours.chain(2), &ours.staple(4, &[]), now()).map_err(|refused| refused.told.fault);
    assert_eq!(refused, Err(Fault::CertificateRevoked), "V31: over a restart");

    let off = ours.revocation(CrlMode::Off);
    off.hear(&ours.list(1, &[1]), now());
    assert!(off.lock().lists.is_empty(), "the customer does not want to know");
}

/// A pipe that nobody reads stands in for a disk that hangs.
#[test]
fn a_disk_that_hangs_holds_nobody_and_gets_the_newest_list_of_each_scope_in_the_end() {
    let (ours, other) = (Authority::new("Ours"), Authority::new("Other"));
    let folder = crate::testing::folder("crl-hangs");
    let mut revocation = ours.revocation(CrlMode::PreferStapled);
    revocation.trusted.push(other.der.clone());
    revocation.keep_in(folder.clone());
    let file = |authority: &Authority| {
        let list = CertificateRevocationListDer::from(authority.list(1, &[]));
        let list = RevocationList::signed(list, core::slice::from_ref(&authority.der), &provider()).unwrap();
        revocation.lock().kept.path(&list).unwrap()
    };
    let (hanging, well) = (file(&ours), file(&other));
    fs::create_dir_all(folder.join("crl")).unwrap();
    let pipe = crate::testing::pipe(&hanging.with_extension(format!("{}.new", std::process::id())));
    let revocation = Arc::new(revocation);
    let lists: Vec<_> = (2..20).flat_map(|number| [ours.list(number, &[1]), other.list(number, &[])]).collect();
    let newest = lists.last().unwrap().clone();

    let hearing = Arc::clone(&revocation);
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        lists.iter().for_each(|list| hearing.hear(list, now()));
        told.send(hearing.check(ours.chain(1), &[], now()).map_err(fault)).unwrap();
    });
    let judged = heard.recv_timeout(Duration::from_secs(30)).expect("nobody waits for the disk");

    assert_eq!(judged.map_err(|told| told.fault), Err(Fault::CertificateRevoked));
    assert!(revocation.lock().kept.waiting() <= 2, "one of each scope");
    let mut reader = fs::File::open(pipe).unwrap();
    std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
    assert!(revocation.settle(), "what failed is told, and the next is written");
    assert_eq!(fs::read(well).unwrap(), newest);
}

#[test]
fn what_a_certificate_or_the_customer_names_is_waited_for() {
    let ours = Authority::new("Ours");
    let with_point = ours.leaf(1, Some(URL));
    let chain = |leaf: &CertificateDer<'static>| Chain { leaf: leaf.clone(), ..ours.chain(1) };
    let pending = |revocation: &Revocation, chain| {
        revocation.check(chain, &[], now()).map_err(|refused| (refused.told.fault, refused.is_pending))
    };

    let revocation = ours.revocation(CrlMode::PreferStapled);
    assert_eq!(pending(&revocation, chain(&with_point)), Err((Fault::RevocationUnknown, true)));
    assert_eq!(revocation.urls(&revocation.lock()), [URL]);
    assert_eq!(revocation.offer(ours.list(1, &[5]), URL), Ok(true));
    assert_eq!(revocation.offer(ours.list(1, &[5]), URL), Ok(false), "the same again");
    assert!(revocation.offer(ours.list(0, &[]), URL).unwrap_err().contains("older than one"), "V31");
    assert_eq!(pending(&revocation, chain(&with_point)), Ok(()));

    revocation.lock().lists.clear();
    revocation.lock().not_before = Some(Instant::now() + Duration::from_secs(60));
    assert_eq!(
        pending(&revocation, chain(&with_point)),
        Err((Fault::RevocationUnknown, false)),
        "not fetched at once again"
    );

    let mut named = ours.revocation(CrlMode::PreferStapled);
    named.settings.url = Some("http://mirror.example/list".to_owned());
    assert_eq!(pending(&named, ours.chain(1)), Err((Fault::RevocationUnknown, true)));
    assert_eq!(named.urls(&named.lock()), ["http://mirror.example/list"]);
}

#[test]
fn sessions_are_lost_when_a_newer_list_speaks_against_them_or_theirs_is_over() {
    let ours = Authority::new("Ours");
    let revocation = ours.revocation(CrlMode::PreferStapled);
    let lost = |at| {
        let lost = revocation.lost(at);
        lost.into_iter().map(|(chain, told)| (chain.leaf, told.fault)).collect::<Vec<_>>()
    };
    let chains = [ours.chain(1), ours.chain(2)];
    for chain in &chains {
        revocation.check(chain.clone(), &ours.staple(1, &[9]), now()).map_err(fault).unwrap();
    }

    assert_eq!(lost(now()), []);
    revocation.offer(ours.list(2, &[2]), URL).unwrap();
    assert_eq!(lost(now()), [(chains[1].leaf.clone(), Fault::CertificateRevoked)]);
    let all: Vec<_> = lost(later(2 * DAY)).into_iter().map(|(_, fault)| fault).collect();
    assert_eq!(all, [Fault::RevocationUnknown; 2], "nextUpdate has passed");
}

/// CRL-005
#[tokio::test]
async fn what_is_heard_while_a_fetch_never_answers_is_judged_at_once() {
    let ours = Authority::new("Ours");
    let revocation = ours.revocation(CrlMode::PreferStapled);
    let chain = ours.chain(1);
    assert_eq!(revocation.check(chain.clone(), &ours.staple(1, &[]), now()).map_err(fault), Ok(()));
    let (told, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let judge = || revocation.end_lost(|leaf, _| told.send(leaf.clone()).map_or(0, |()| 1));

    let fetching = revocation.judging(core::future::pending::<()>(), judge);
    let hearing = async {
        revocation.hear(&ours.list(2, &[1]), now());
        ended.recv().await
    };
    let first = async {
        tokio::select! { () = fetching => None, leaf = hearing => leaf }
    };

    let first = tokio::time::timeout(Duration::from_secs(30), first).await;
    assert_eq!(first, Ok(Some(chain.leaf)));
}

/// CRL-005
#[test]
fn a_dial_that_was_on_its_way_when_its_certificate_was_revoked_does_not_escape() {
    let ours = Authority::new("Ours");
    let revocation = ours.revocation(CrlMode::PreferStapled);
    let chain = Chain { leaf: ours.leaf(1, Some(URL)), ..ours.chain(1) };
    let judge = |sessions| {
        let closed = core::cell::RefCell::new(Vec::new());
        revocation.end_lost(|leaf, _| {
            closed.borrow_mut().push(leaf.clone());
            sessions
        });
        closed.into_inner()
    };
    assert_eq!(revocation.check(chain.clone(), &ours.staple(1, &[]), now()).map_err(fault), Ok(()));
    revocation.hear(&ours.list(2, &[1]), now());

    assert_eq!(judge(0), core::slice::from_ref(&chain.leaf), "there is no session yet");
    assert_eq!(revocation.ended(), None);
    assert_eq!(judge(1), core::slice::from_ref(&chain.leaf), "now there is");
    assert_eq!(revocation.ended().map(|told| told.fault), Some(Fault::CertificateRevoked));
    assert_eq!(revocation.urls(&revocation.lock()), [] as [String; 0], "nobody needs its lists");
    assert!(revocation.told().starts_with("ADIT-1111"), "{}", revocation.told());

    revocation.hear(&ours.list(3, &[2]), now());
    assert_eq!(judge(1), [], "a newer list has the last word");
    for _ in 0..2 {
        for _ in 0..MAX_CHAINS {
            revocation.check(ours.chain(2), &[], now()).unwrap_err();
        }
        judge(0);
    }
    assert_eq!(revocation.lock().revoked.len(), MAX_CHAINS);
}

#[test]
fn an_authority_below_the_root_may_be_revoked_and_one_that_nobody_issued_says_nothing() {
    let root = Authority::new("Root");
    let below = root.below("Below", 77);
    let chain = Chain { intermediates: vec![below.der.clone()], ..below.chain(1) };
    let check = |lists: &[&[u8]]| {
        let revocation = root.revocation(CrlMode::PreferStapled);
        revocation.check(chain.clone(), &staple(lists).unwrap(), now()).map_err(|refused| refused.told.fault)
    };

    assert_eq!(check(&[&below.list(1, &[])]), Ok(()), "of the root no list is known");
    assert_eq!(check(&[&below.list(1, &[1])]), Err(Fault::CertificateRevoked));
    assert_eq!(check(&[&below.list(1, &[]), &root.list(1, &[])]), Ok(()));
    assert_eq!(check(&[&below.list(1, &[]), &root.list(1, &[77])]), Err(Fault::CertificateRevoked), "the one above");

    // Who shows a namesake of the authority beside it does not get its lists believed.
    let namesake = Authority::new("Below");
    let chain = Chain { intermediates: vec![below.der.clone(), namesake.der.clone()], ..below.chain(1) };
    let revocation = root.revocation(CrlMode::PreferStapled);
    let refused = revocation.check(chain, &staple(&[&namesake.list(9, &[])]).unwrap(), now()).unwrap_err();
    assert_eq!(refused.told.fault, Fault::RevocationUnknown);
    assert!(refused.told.detail.contains("its signature is not that of CN=Below"), "{}", refused.told.detail);
}

#[test]
fn a_chain_without_a_key_that_the_agent_is_bound_to_is_refused_and_the_keys_are_told() {
    let root = Authority::new("Root");
    let (acme, globex) = (root.below("Acme", 1), root.below("Globex", 2));
    let chain = |authority: &Authority, more: &[&Authority]| Chain {
        intermediates: core::iter::once(authority).chain(more.iter().copied()).map(|it| it.der.clone()).collect(),
        ..authority.chain(1)
    };
    let key = |der: &CertificateDer<'_>| KeyPrint::of(der, &provider()).unwrap();
    let check = |keys: &[KeyPrint], chain: Chain| {
        Pins::new(keys.to_vec(), vec![root.der.clone()], provider())
            .check(&chain, now())
            .map_err(|refused| refused.told)
    };

    assert_eq!(check(&[], chain(&acme, &[])), Ok(()), "bound to none");
    for bound in [&acme.der, &root.der, &acme.leaf(1, None)] {
        assert_eq!(check(&[key(bound)], chain(&acme, &[])), Ok(()));
    }
    assert_eq!(check(&[key(&globex.der), key(&acme.der)], chain(&acme, &[])), Ok(()), "while keys are changed");
    let told = check(&[key(&acme.der)], chain(&globex, &[])).unwrap_err();
    assert_eq!(told.fault, Fault::OtherNetwork);
    for part in [&globex.leaf(1, None), &globex.der, &acme.der] {
        assert!(told.detail.contains(&key(part).to_string()), "{}", told.detail);
    }
    // To show the certificate beside one's own is not to have been issued by it.
    assert!(check(&[key(&acme.der)], chain(&globex, &[&acme])).is_err());
    // Nor is a server's certificate an authority, even if it was issued by it.
    let server =
        Authority { der: acme.leaf(1, None), issuer: acme.as_issuer(1), leaf_key: KeyPair::generate().unwrap() };
    let forged = Chain { intermediates: vec![server.der.clone(), acme.der.clone()], ..server.chain(5) };
    assert!(check(&[key(&acme.der)], forged).is_err());
}

struct Authority {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    /// Of the network's certificates.
    leaf_key: KeyPair,
}

#[test]
fn a_session_outlives_its_certificate_but_not_that_it_is_revoked_nor_the_list() {
    let ours = Authority::new("Ours");
    let short = |serial| {
        let mut params = Authority::leaf_params(serial, None);
        params.not_before = time(now().as_secs() - DAY).into();
        params.not_after = time(now().as_secs() + 60).into();
        let leaf = params.signed_by(&ours.leaf_key, &ours.issuer).unwrap().der().clone();
        Chain { leaf, ..ours.chain(serial) }
    };
    let chains = [short(1), short(2)];
    let revocation = ours.revocation(CrlMode::PreferStapled);
    let lost =
        |at| -> Vec<_> { revocation.lost(at).into_iter().map(|(chain, told)| (chain.leaf, told.fault)).collect() };
    for chain in &chains {
        assert_eq!(revocation.check(chain.clone(), &ours.staple(1, &[]), now()).map_err(fault), Ok(()));
    }

    assert_eq!(lost(later(60)), []);
    assert_eq!(lost(later(61)), [], "both have been replaced, and their sessions go on");
    assert_eq!(revocation.offer(ours.list(2, &[2]), URL), Ok(true));
    assert_eq!(lost(later(61)), [(chains[1].leaf.clone(), Fault::CertificateRevoked)]);
    let all: Vec<_> = lost(later(DAY + 1)).into_iter().map(|(_, fault)| fault).collect();
    assert_eq!(all, [Fault::RevocationUnknown, Fault::CertificateRevoked], "the list is over");
    let fresh = revocation.check(ours.chain(3), &[], later(61)).map_err(fault);
    assert_eq!(fresh, Ok(()), "a new handshake goes by the clock");
}

impl Authority {
    fn new(name: &str) -> Self {
        let (key, params) = (KeyPair::generate().unwrap(), authority(name, 1));
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, issuer: Issuer::new(params, key), leaf_key: KeyPair::generate().unwrap() }
    }

    fn below(&self, name: &str, serial: u64) -> Self {
        let (key, params) = (KeyPair::generate().unwrap(), authority(name, serial));
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Self { der, issuer: Issuer::new(params, key), leaf_key: KeyPair::generate().unwrap() }
    }

    fn leaf_params(serial: u64, url: Option<&str>) -> CertificateParams {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "network");
        params.serial_number = Some(serial.into());
        params.crl_distribution_points =
            url.iter().map(|url| CrlDistributionPoint { uris: vec![(*url).to_owned()] }).collect();
        params
    }

    fn leaf(&self, serial: u64, url: Option<&str>) -> CertificateDer<'static> {
        let params = Self::leaf_params(serial, url);
        params.signed_by(&self.leaf_key, &self.issuer).unwrap().der().clone()
    }

    /// As if the holder of a server's certificate issued with it.
    fn as_issuer(&self, serial: u64) -> Issuer<'static, KeyPair> {
        let key = KeyPair::from_pem(&self.leaf_key.serialize_pem()).unwrap();
        Issuer::new(Self::leaf_params(serial, None), key)
    }

    fn chain(&self, serial: u64) -> Chain {
        let name = ServerName::try_from("localhost").unwrap();
        Chain { leaf: self.leaf(serial, None), intermediates: Vec::new(), name }
    }

    fn list(&self, number: u64, serials: &[u64]) -> Vec<u8> {
        self.list_of(number, serials, (now().as_secs() - 10, now().as_secs() + DAY))
    }

    fn list_of(&self, number: u64, serials: &[u64], (made, next): (u64, u64)) -> Vec<u8> {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: time(made).into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: time(made).into(),
            next_update: time(next).into(),
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    fn staple(&self, number: u64, serials: &[u64]) -> Vec<u8> {
        staple(&[&self.list(number, serials)]).unwrap()
    }

    fn revocation(&self, mode: CrlMode) -> Revocation {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let settings = CrlConfig { mode, url: None, refresh: Duration::from_secs(3_600) };
        Revocation::new(settings, Vec::new(), vec![self.der.clone()], Arc::new(roots), provider())
    }
}

fn authority(name: &str, serial: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial.into());
    params
}

fn fault(refused: Refused) -> Error {
    refused.told
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The same moment for all of a test.
fn now() -> UnixTime {
    static NOW: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    UnixTime::since_unix_epoch(Duration::from_secs(*NOW.get_or_init(now)))
}

fn later(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs() + seconds))
}

fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}
