//! Forms (`application/x-www-form-urlencoded`), read by the letter.

/// Reads the fields of a form in their order; nothing when an escape is none or something is not UTF-8.
pub(crate) fn pairs(form: &[u8]) -> Option<Vec<(String, String)>> {
    let text = core::str::from_utf8(form).ok()?;
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode(name)?, decode(value)?))
    };
    text.split('&').filter(|it| !it.is_empty()).map(pair).collect()
}

fn decode(text: &str) -> Option<String> {
    let digit = |octet: u8| char::from(octet).to_digit(16);
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'+', _) => octets.push(b' '),
            (b'%', [high, low, after @ ..]) => {
                octets.push(u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?);
                rest = after;
            }
            (b'%', _) => return None,
            (octet, _) => octets.push(*octet),
        }
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_by_the_letter() {
        let of = |pairs: &[(&str, &str)]| Some(pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect());
        assert_eq!(
            pairs(b"a=1&b=+%2B%c3%a9&a=2&c&&d="),
            of(&[("a", "1"), ("b", " +é"), ("a", "2"), ("c", ""), ("d", "")])
        );
        assert_eq!(pairs(b""), of(&[]));
        for bad in [&b"a=%"[..], b"a=%4", b"a=%4g", b"%ff=1", b"a=\xff", b"a=%+1"] {
            assert_eq!(pairs(bad), None, "{bad:?}");
        }
    }
}
