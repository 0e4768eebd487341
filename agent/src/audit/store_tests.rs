use core::time::Duration;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::audit::{Checker, Misfit, Reader, Scanner};

fn hasher() -> Hasher {
    Hasher::of(&rustls::crypto::aws_lc_rs::default_provider()).unwrap()
}

fn open(folder: &Path, settings: Settings) -> (Store, Found) {
    Store::open(folder, settings, hasher()).unwrap()
}

fn small() -> Settings {
    Settings { max_size: 1_000, keep: 3, ..Settings::default() }
}

/// A stamp so many seconds after a moment, by both clocks.
const fn at(seconds: u64) -> Stamp {
    Stamp { wall: 1_795_522_082_000_000 + seconds * 1_000_000, passed: 1 + seconds * 1_000_000 }
}

fn record(text: &str) -> Record {
    Record::new("connection").text("endpoint", text)
}

/// Reads everything: the kinds, in order, and whether it holds together.
fn kinds(folder: &Path) -> Result<Vec<String>, Broken> {
    let mut reader = Reader::open(folder, hasher(), 0, &[])?;
    let mut kinds = Vec::new();
    while let Some(record) = reader.next()? {
        kinds.push(record.kind.to_owned());
    }
    reader.finish().map(|_| kinds)
}

fn paths(folder: &Path) -> Vec<PathBuf> {
    files(folder).unwrap().into_iter().map(|(_, path)| path).collect()
}

#[test]
fn records_go_on_where_the_last_agent_ended_and_nobody_else_may_read_them() {
    let folder = crate::testing::folder("store").join("audit");
    let (mut store, found) = open(&folder, Settings::default());
    assert_eq!(found, Found::default());
    assert_eq!(store.append(&[record("a"), record("b")], at(0)).unwrap(), 1);
    drop(store);

    let (mut store, found) = open(&folder, Settings::default());
    assert_eq!(found, Found { in_order: Some(false), repaired: None });
    assert_eq!(store.append(&[Record::new("stop")], at(1)).unwrap(), 3);
    drop(store);

    assert_eq!(open(&folder, Settings::default()).1.in_order, Some(true));
    assert_eq!(kinds(&folder).unwrap(), ["connection", "connection", "stop"]);
    let file = &paths(&folder)[0];
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_was_torn_at_any_octet_is_removed_said_and_nothing_before_it_is_lost() {
    let folder = crate::testing::folder("store-torn").join("audit");
    let (mut store, _) = open(&folder, Settings::default());
    store.append(&[record("a"), record("b"), record("c")], at(0)).unwrap();
    drop(store);
    let path = paths(&folder).remove(0);
    let whole = fs::read(&path).unwrap();
    let ends: Vec<usize> = (0..whole.len()).filter(|end| whole[*end] == b'\n').map(|end| end + 1).collect();

    for cut in (0..whole.len()).step_by(7).chain([ends[0], ends[1] - 1, ends[2] - 1]) {
        fs::write(&path, &whole[..cut]).unwrap();
        let (store, found) = open(&folder, Settings::default());
        let kept = ends.iter().rfind(|end| **end <= cut).copied().unwrap_or(0);
        let torn = (cut - kept) as u64;
        assert_eq!(found.repaired.map(|(octets, _)| octets), (torn > 0).then_some(torn), "{cut}");
        drop(store);
        assert_eq!(fs::read(&path).unwrap(), whole[..kept], "{cut}");
        assert_eq!(kinds(&folder).unwrap().len(), ends.iter().filter(|end| **end <= cut).count());
    }
    // What a disk leaves after a loss of power: zeros, more than any record is long.
    fs::write(&path, [&whole[..], &[0; 40_000]].concat()).unwrap();
    assert_eq!(open(&folder, Settings::default()).1.repaired.unwrap().0, 40_000);
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn what_was_changed_is_not_gone_on_with_and_not_touched() {
    let folder = crate::testing::folder("store-changed").join("audit");
    let (mut store, _) = open(&folder, Settings::default());
    store.append(&[record("honest"), record("b"), record("c")], at(0)).unwrap();
    drop(store);
    let path = paths(&folder).remove(0);
    let changed = fs::read_to_string(&path).unwrap().replace("honest", "forged") + "torn";
    fs::write(&path, &changed).unwrap();

    let error = Store::open(&folder, Settings::default(), hasher()).unwrap_err();

    let OpenError::Broken(Broken::Misfit { line: 1, after: None, misfit: Misfit::Hash, .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(fs::read_to_string(&path).unwrap(), changed);
}

#[test]
fn the_chain_goes_over_files_and_what_is_removed_is_said() {
    let folder = crate::testing::folder("store-files").join("audit");
    let (mut store, _) = open(&folder, small());
    for number in 0..40 {
        store.append(&[record(&"x".repeat(100))], at(number)).unwrap();
    }
    drop(store);

    let left = paths(&folder);
    assert_eq!(left.len(), 3, "{left:?}");
    let kinds = kinds(&folder).unwrap();
    assert!(kinds.iter().any(|kind| kind == REMOVED), "{kinds:?}");
    let (mut store, _) = open(&folder, small());
    store.append(&[record("goes on")], at(50)).unwrap();

    // Without the record that says so, the beginning is missed.
    fs::remove_file(&left[0]).unwrap();
    let told = self::kinds(&folder).unwrap_err().to_string();
    assert!(told.contains("are gone, and no record says that they were removed"), "{told}");
}

#[test]
fn a_file_that_is_missing_in_the_middle_or_has_another_name_is_told() {
    let folder = crate::testing::folder("store-missing").join("audit");
    let settings = Settings { keep: 100, ..small() };
    let (mut store, _) = open(&folder, settings);
    for number in 0..12 {
        store.append(&[record(&"x".repeat(100))], at(number)).unwrap();
    }
    drop(store);
    let all = paths(&folder);
    let (middle, other) = (fs::read(&all[1]).unwrap(), folder.join(name(7_777)));

    fs::rename(&all[1], &other).unwrap();
    assert!(kinds(&folder).unwrap_err().to_string().contains("comes next: records are missing or moved"));
    fs::remove_file(&other).unwrap();
    fs::write(&all[1], &middle[..middle.len() - 1]).unwrap();
    let told = kinds(&folder).unwrap_err().to_string();
    assert!(told.contains("the line is no record"), "torn, and not the last: {told}");
    fs::write(&all[1], &middle).unwrap();
    kinds(&folder).unwrap();
}

#[test]
fn an_end_that_was_cut_off_is_missed_and_a_crash_after_it_was_written_is_not_taken_for_that() {
    let folder = crate::testing::folder("store-head").join("audit");
    let (mut store, _) = open(&folder, Settings::default());
    store.append(&[record("a"), record("b")], at(0)).unwrap();
    store.sync().unwrap();
    let known = crate::audit::head(&folder).unwrap().unwrap();
    assert_eq!(known.0.seq, 2);
    store.append(&[record("c")], at(1)).unwrap();
    drop(store); // before the disk was asked
    let path = paths(&folder).remove(0);
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let head = fs::read(folder.join("head")).unwrap();
    let opened = || Store::open(&folder, Settings::default(), hasher()).map(|(store, _)| store.last.seq);
    let missed =
        |error: OpenError| matches!(error, OpenError::Broken(Broken::Misfit { misfit: Misfit::Head { seq: 2 }, .. }));

    assert_eq!(opened().unwrap(), 3);
    fs::write(&path, lines[..2].concat()).unwrap();
    assert_eq!(opened().unwrap(), 2, "what the disk was not asked to keep may be gone");
    for cut in [lines[0], ""] {
        fs::write(&path, cut).unwrap();
        assert!(missed(opened().unwrap_err()), "{cut}");
    }
    fs::remove_file(&path).unwrap();
    assert!(missed(opened().unwrap_err()));
    assert_eq!(paths(&folder), [] as [PathBuf; 0], "no chain is begun in its place");
    // Another chain of the same length.
    let mut octets = Vec::new();
    let other = record("x").encode(&mut octets, Link::START, at(0), hasher());
    record("y").encode(&mut octets, other, at(0), hasher());
    fs::write(&path, octets).unwrap();
    assert!(missed(opened().unwrap_err()));

    // Of an agent that wrote none, and of a loss of power when it was made; what is no head is told.
    fs::write(&path, &whole).unwrap();
    fs::remove_file(folder.join("head")).unwrap();
    assert_eq!(opened().unwrap(), 3);
    for (text, is_fine) in
        [(&b""[..], true), (&[0; 86], true), (&head, true), (b"2:abc\n", false), (&head[..80], false)]
    {
        fs::write(folder.join("head"), text).unwrap();
        assert_eq!(opened().is_ok(), is_fine, "{text:?}");
    }
}

#[test]
fn over_many_files_the_head_is_in_the_last_two() {
    let folder = crate::testing::folder("store-head-files").join("audit");
    for number in 0..40 {
        let (mut store, _) = open(&folder, small());
        store.append(&[record(&"x".repeat(100)), record(&"y".repeat(400))], at(number)).unwrap();
        // Killed before the disk was asked.
    }
    assert_eq!(paths(&folder).len(), 3);
    kinds(&folder).unwrap();
}

#[test]
fn what_is_not_the_file_of_that_name_as_it_was_left_is_not_written_to() {
    let folder = crate::testing::folder("store-gone").join("audit");
    let (mut store, _) = open(&folder, Settings::default());
    store.append(&[record("a")], at(0)).unwrap();
    let (path, elsewhere) = (paths(&folder).remove(0), folder.with_file_name("elsewhere"));
    let mut refused = |text: &str| {
        let error = store.append(&[record("b")], at(1)).unwrap_err().to_string();
        assert!(error.contains(text) && error.contains("audit-00000000000000000001.jsonl"), "{error}");
    };

    fs::rename(&folder, &elsewhere).unwrap();
    refused("removed or moved away");
    fs::rename(&elsewhere, &folder).unwrap();
    let whole = fs::read(&path).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    refused("it has 0 octets, and");
    fs::write(&path, &whole).unwrap();
    assert_eq!(store.append(&[record("b")], at(2)).unwrap(), 2);
    let refused = |text: &str| assert!(store.check().unwrap_err().to_string().contains(text));
    fs::remove_file(&path).unwrap();
    refused("removed or moved away");
    fs::write(&path, &whole).unwrap();
    refused("another file");
}

#[test]
fn a_file_that_is_old_is_ended() {
    let folder = crate::testing::folder("store-age").join("audit");
    let (mut store, _) = open(&folder, Settings { max_age: Duration::from_secs(60), ..Settings::default() });
    for second in [0, 30, 59, 60, 61] {
        store.append(&[record("a")], at(second)).unwrap();
    }

    assert_eq!(paths(&folder).len(), 2);
    assert_eq!(kinds(&folder).unwrap().len(), 5);
}

#[test]
fn a_clock_that_goes_back_or_leaps_is_said_and_one_that_is_set_right_is_not() {
    let folder = crate::testing::folder("store-clock").join("audit");
    let (mut store, _) = open(&folder, Settings::default());
    let mut told = |wall: i64, passed: u64| {
        let stamp = Stamp { wall: at(0).wall.checked_add_signed(wall).unwrap(), passed: 1 + passed };
        store.append(&[record("a")], stamp).unwrap();
        kinds(&folder).unwrap().iter().filter(|kind| *kind == "clock").count()
    };

    assert_eq!(told(0, 0), 0);
    assert_eq!(told(-999_999, 1), 0, "bit by bit");
    assert_eq!(told(-2_000_000, 2), 1, "back");
    assert_eq!(told(0, 3), 1);
    assert_eq!(told(100_000_000, 100_000_000), 1, "time that has passed");
    assert_eq!(told(200_000_000, 100_000_001), 2, "ahead");
    drop(store);
    // The next agent knows the time of the last record.
    let (mut store, _) = open(&folder, Settings::default());
    store.append(&[record("a")], Stamp { wall: at(0).wall, passed: 1 }).unwrap();
    assert_eq!(kinds(&folder).unwrap().iter().filter(|kind| *kind == "clock").count(), 3);
}

#[test]
fn what_cannot_be_written_whole_is_taken_back() {
    let folder = crate::testing::folder("store-part").join("audit");
    let (mut store, _) = open(&folder, Settings::default());
    store.append(&[record("a")], at(0)).unwrap();
    let path = paths(&folder).remove(0);
    // As after a write of which the disk took a part.
    let mut part = fs::OpenOptions::new().append(true).open(&path).unwrap();
    part.write_all(b"{\"prev\":\"00").unwrap();
    store.is_torn = true;

    assert_eq!(store.append(&[record("b")], at(1)).unwrap(), 2);
    assert_eq!(kinds(&folder).unwrap().len(), 2);
}

mod laws {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Writes a chain of records with any texts; returns its octets.
    fn chain(texts: &[String]) -> Vec<u8> {
        let (mut octets, mut link) = (Vec::new(), Link::START);
        for (seconds, text) in (0..).zip(texts) {
            let record = Record::new("bind").text("a", text).number("n", seconds).maybe("b", Some(text));
            link = record.encode(&mut octets, link, at(seconds), hasher());
        }
        octets
    }

    fn whole(octets: &[u8]) -> Result<(usize, u64), (usize, Misfit)> {
        let mut scanner = Scanner::new(Checker::new(hasher()));
        let (mut rest, mut count) = (octets, 0);
        loop {
            match scanner.scan(&mut rest) {
                Ok(Some(_)) => count += 1,
                Ok(None) => return Ok((count, scanner.torn())),
                Err(misfit) => return Err((count, misfit)),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_holds_together_however_hostile_its_texts(texts in vec(any::<String>(), 0..8)) {
            let octets = chain(&texts);
            prop_assert_eq!(whole(&octets), Ok((texts.len(), 0)));
            let text = String::from_utf8(octets).unwrap();
            prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
            prop_assert_eq!(text.lines().count(), texts.len());
        }

        #[test]
        fn no_octet_can_be_another(texts in vec(".{0,40}", 1..6), at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let mut octets = chain(&texts);
            let at = at.index(octets.len());
            prop_assume!(octets[at] != to);
            let record = octets[..at].iter().filter(|octet| **octet == b'\n').count();
            octets[at] = to;
            match whole(&octets) {
                Err((fits, _)) => prop_assert_eq!(fits, record),
                // The end of the last line is gone: as if it had never been finished.
                Ok((fits, torn)) => prop_assert!(at == octets.len() - 1 && fits == record && torn > 0),
            }
        }

        #[test]
        fn no_end_of_another_chain_can_be_put_in_the_place_of_the_own(texts in vec(".{0,20}", 2..6), at in any::<prop::sample::Index>()) {
            let other: Vec<_> = texts.iter().map(|text| format!("{text}!")).collect();
            let (octets, forged) = (chain(&texts), chain(&other));
            let lines: Vec<&[u8]> = octets.split_inclusive(|octet| *octet == b'\n').collect();
            let theirs: Vec<&[u8]> = forged.split_inclusive(|octet| *octet == b'\n').collect();
            let at = 1 + at.index(lines.len() - 1);
            let joined = [&lines[..at], &theirs[at..]].concat().concat();
            prop_assert_eq!(whole(&joined), Err((at, Misfit::Previous)));
        }

        #[test]
        fn no_record_can_be_left_out_moved_or_said_twice(texts in vec(".{0,20}", 3..7), at in any::<prop::sample::Index>()) {
            let octets = chain(&texts);
            let lines: Vec<&[u8]> = octets.split_inclusive(|octet| *octet == b'\n').collect();
            let at = 1 + at.index(lines.len() - 2); // neither the first nor the last
            let left_out = [&lines[..at], &lines[at + 1..]].concat().concat();
            prop_assert_eq!(whole(&left_out).unwrap_err().0, at);
            let twice = [&lines[..=at], &lines[at..]].concat().concat();
            prop_assert_eq!(whole(&twice).unwrap_err().0, at + 1);
            let mut moved = lines.clone();
            moved.swap(at, at + 1);
            prop_assert_eq!(whole(&moved.concat()).unwrap_err().0, at);
        }
    }
}

#[test]
fn a_record_is_never_longer_than_a_line_may_be() {
    let mut record = Record::new("connection");
    for _ in 0..100 {
        record = record.text("a_name_that_is_rather_long", &"\"\u{1b}\\é\u{202e}".repeat(10_000));
    }
    let mut octets = Vec::new();
    record.encode(&mut octets, Link { seq: u64::MAX - 1, ..Link::START }, at(0), hasher());

    assert!(octets.len() < super::super::MAX_LINE, "{}", octets.len());
    assert!(Header::read(octets.strip_suffix(b"\n").unwrap(), hasher()).is_ok());
}

#[test]
fn a_record_that_was_known_must_still_be_there() {
    let mut octets = Vec::new();
    let first = record("a").encode(&mut octets, Link::START, at(0), hasher());
    record("b").encode(&mut octets, first, at(0), hasher());
    let check = |head: &str| {
        let mut checker = Checker::new(hasher()).with_heads(&[head.parse().unwrap()]);
        for line in octets.split(|octet| *octet == b'\n').filter(|line| !line.is_empty()) {
            checker.line(line).unwrap();
        }
        checker.finish().map(drop)
    };

    assert_eq!(check(&crate::audit::Head(first).to_string()), Ok(()));
    assert_eq!(check(&format!("1:{}", "0".repeat(64))), Err(Misfit::Head { seq: 1 }));
}
