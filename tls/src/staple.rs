//! Revocation lists inside the handshake: what a server says beside its certificate (`status_request`, RFC 8446 §4.4.2.1).
//!
//! TLS has a place for the status of a certificate, and in it an OCSPResponse (RFC 6960 §4.2.1), whose content is of the type that it
//! names. Ours is a type of our own: revocation lists, DER, one after the other. So whoever shakes hands has the list before
//! anything is said, no other port is needed, and a client that knows nothing of it ignores it as any type it does not know.

/// Wraps lists for a handshake; nothing when there are none, or they are too long for it.
pub fn staple(lists: &[&[u8]]) -> Option<Vec<u8>> {
    let lists = joined(lists)?;
    if lists.len() > MAX_STAPLE {
        return None;
    }
    let bytes = [TYPE, &element(OCTETS, &lists)].concat();
    let response = element(EXPLICIT, &element(SEQUENCE, &bytes));
    Some(element(SEQUENCE, &[SUCCESSFUL, &response].concat()))
}

/// Returns the lists in what a server said of its certificate; none when it said something else, such as a response of OCSP.
///
/// # Errors
/// It says that it is lists, and is not, or holds more than [`MAX_STAPLED`].
pub fn stapled(response: &[u8]) -> Result<Vec<&[u8]>, String> {
    let Some(lists) = content(response) else { return Ok(Vec::new()) };
    if lists.len() > MAX_STAPLE {
        return Err(format!("what is stapled is longer than {MAX_STAPLE} octets"));
    }
    apart(lists)
}

/// Puts lists one after the other; nothing when there are none.
pub fn joined(lists: &[&[u8]]) -> Option<Vec<u8>> {
    Some(lists.concat()).filter(|lists| !lists.is_empty())
}

/// Takes lists apart that stand one after the other, DER.
///
/// # Errors
/// They are something else, or more than [`MAX_STAPLED`].
pub fn apart(lists: &[u8]) -> Result<Vec<&[u8]>, String> {
    let (mut rest, mut found) = (lists, Vec::new());
    while !rest.is_empty() {
        let (length, _) = header(rest, SEQUENCE).ok_or("what came is not whole revocation lists")?;
        let (list, after) = rest.split_at_checked(length).ok_or("what came is cut off")?;
        if found.len() == MAX_STAPLED {
            return Err(format!("more than {MAX_STAPLED} revocation lists came at once"));
        }
        found.push(list);
        rest = after;
    }
    Ok(found)
}

/// Returns what a response of our type holds.
fn content(response: &[u8]) -> Option<&[u8]> {
    let rest = inside(response, SEQUENCE)?.strip_prefix(SUCCESSFUL)?;
    let rest = inside(inside(rest, EXPLICIT)?, SEQUENCE)?.strip_prefix(TYPE)?;
    inside(rest, OCTETS)
}

/// Returns the inside of the one element that `der` is.
fn inside(der: &[u8], tag: u8) -> Option<&[u8]> {
    let (length, start) = header(der, tag)?;
    (length == der.len()).then(|| der.get(start..)).flatten()
}

/// Returns the length of an element of DER as a whole, and where its inside begins.
fn header(der: &[u8], tag: u8) -> Option<(usize, usize)> {
    let (first, rest) = der.strip_prefix(&[tag])?.split_first()?;
    if *first < 0x80 {
        return Some((2 + usize::from(*first), 2));
    }
    let count = usize::from(first & 0x7f);
    let octets = rest.get(..count).filter(|octets| (1..=3).contains(&octets.len()))?;
    let length = octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
    Some((2 + count + length, 2 + count))
}

fn element(tag: u8, inside: &[u8]) -> Vec<u8> {
    let length = inside.len();
    let octets = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let from = octets.iter().position(|octet| *octet != 0).unwrap_or(3);
    let octets = octets.get(from..).unwrap_or_default();
    let mut der = vec![tag];
    if length >= 0x80 {
        der.push(0x80 | u8::try_from(octets.len()).unwrap_or(4));
    }
    der.extend_from_slice(octets);
    der.extend_from_slice(inside);
    der
}

/// The octets of all lists of a handshake: 48 KiB, some 1,300 certificates. A message of a handshake has 64 KiB, and the chain is in it too.
pub const MAX_STAPLE: usize = 48 << 10;
/// The lists of a handshake, or of a frame of a session.
pub const MAX_STAPLED: usize = 4;

const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;
const EXPLICIT: u8 = 0xa0;
/// ENUMERATED: successful(0).
const SUCCESSFUL: &[u8] = &[0x0a, 1, 0];
/// 2.25.216443052444613215774364125066708757659: an arc below which everybody has their own by a UUID (X.667), which stands for it here.
const TYPE: &[u8] = &[
    0x06, 20, 0x69, 0x82, 0xc5, 0xd5, 0xb5, 0x99, 0x8f, 0xbe, 0xf2, 0x84, 0x87, 0xb8, 0xe6, 0xca, 0x86, 0xb9, 0xe5,
    0xd6, 0xd9, 0x1b,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stapled_is_found_again_and_nothing_else_is_taken_for_it() {
        let list = |length: usize| element(SEQUENCE, &vec![7; length]);
        for lengths in [&[1][..], &[0, 127, 128], &[200, 300, 65, 1], &[40_000]] {
            let lists: Vec<_> = lengths.iter().map(|length| list(*length)).collect();
            let lists: Vec<&[u8]> = lists.iter().map(Vec::as_slice).collect();
            let whole = staple(&lists).unwrap();

            assert_eq!(stapled(&whole).unwrap(), lists);
            assert_eq!(apart(&joined(&lists).unwrap()).unwrap(), lists);
            for cut in 0..whole.len().min(300) {
                assert_eq!(stapled(&whole[..cut]), Ok(Vec::new()), "{cut}: that is no response");
            }
        }
        assert_eq!((staple(&[]), joined(&[]), apart(&[])), (None, None, Ok(Vec::new())));
        assert_eq!(staple(&[&list(MAX_STAPLE)]), None, "longer than may be");
        assert!(staple(&[&list(MAX_STAPLE - 4)]).is_some());
        let five = vec![list(1); 5];
        let five: Vec<&[u8]> = five.iter().map(Vec::as_slice).collect();
        assert!(stapled(&staple(&five).unwrap()).unwrap_err().contains("more than 4"));
        assert!(stapled(&staple(&[&list(9)[..8]]).unwrap()).unwrap_err().contains("cut off"));
        assert!(stapled(&staple(&[&[0x31, 0]]).unwrap()).unwrap_err().contains("not whole"));
        // A response of OCSP, id-pkix-ocsp-basic.
        let basic = [&[0x06, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1][..], &element(OCTETS, &[1, 2, 3])].concat();
        let ocsp = element(SEQUENCE, &[SUCCESSFUL, &element(EXPLICIT, &element(SEQUENCE, &basic))].concat());
        assert_eq!(stapled(&ocsp), Ok(Vec::new()));
        assert_eq!(stapled(&[]), Ok(Vec::new()));
    }
}
