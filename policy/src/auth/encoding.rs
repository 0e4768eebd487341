//! Hexadecimal and base64, read by the letter: what has two spellings would let two texts mean one secret.

/// Which digits and padding a base64 text has (RFC 4648).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base64 {
    /// Section 4, padded.
    Standard,
    /// Section 4, without padding.
    Bare,
    /// Section 5, without padding.
    Url,
}

impl Base64 {
    /// Reads a text; nothing when it is not of this form, or has bits that say nothing.
    pub(crate) fn decode(self, text: &[u8]) -> Option<Vec<u8>> {
        let digits = match self {
            Self::Standard => {
                let padding = text.iter().rev().take_while(|octet| **octet == b'=').count();
                let fits = text.len().is_multiple_of(4) && padding <= 2;
                fits.then(|| text.get(..text.len() - padding))??
            }
            Self::Bare | Self::Url => text,
        };
        if digits.len() % 4 == 1 {
            return None;
        }
        let mut octets = Vec::with_capacity(digits.len() / 4 * 3 + 2);
        for group in digits.chunks(4) {
            let mut bits = 0;
            for place in 0..4 {
                bits = bits << 6 | group.get(place).map_or(Some(0), |digit| self.value(*digit))?;
            }
            let [_, triple @ ..] = u32::to_be_bytes(bits);
            let whole = group.len() - 1;
            if triple.iter().skip(whole).any(|octet| *octet != 0) {
                return None;
            }
            octets.extend(triple.iter().take(whole));
        }
        Some(octets)
    }

    fn value(self, digit: u8) -> Option<u32> {
        let (last, before) = if self == Self::Url { (b'_', b'-') } else { (b'/', b'+') };
        Some(u32::from(match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            _ if digit == before => 62,
            _ if digit == last => 63,
            _ => return None,
        }))
    }
}

/// Writes octets as hexadecimal digits, in lower case.
pub(crate) fn hex(octets: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    octets.iter().flat_map(|octet| [digit(octet >> 4), digit(octet & 15)]).collect()
}

/// Reads hexadecimal digits of either case.
pub(crate) fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |octet: u8| char::from(octet).to_digit(16);
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cel::base64;

    #[test]
    fn base64_is_read_by_the_letter() {
        assert_eq!(Base64::Standard.decode(b"YQ=="), Some(b"a".to_vec()));
        assert_eq!(Base64::Bare.decode(b"+/8"), Some(vec![0xfb, 0xff]));
        assert_eq!(Base64::Url.decode(b"-_8"), Some(vec![0xfb, 0xff]));
        for bad in ["YQ", "YQ=", "YR==", "Y===", "YQ==\n", " YQ==", "Y-==", "=", "====", "YQ==YQ=="] {
            assert_eq!(Base64::Standard.decode(bad.as_bytes()), None, "{bad}");
        }
        for bad in ["YQ==", "Y", "YR", "+/8", "Y Q"] {
            assert_eq!(Base64::Url.decode(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn hexadecimal_is_pairs_of_digits() {
        assert_eq!((hex(&[0, 0xaf]), unhex(b"00aF")), ("00af".into(), Some(vec![0, 0xaf])));
        for bad in ["0", "0g", "+1", "0x00", "é"] {
            assert_eq!(unhex(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(octets: Vec<u8>) {
            let padded = base64(&octets);
            let bare = padded.trim_end_matches('=');
            let url = bare.replace('+', "-").replace('/', "_");

            prop_assert_eq!(Base64::Standard.decode(padded.as_bytes()), Some(octets.clone()));
            prop_assert_eq!(Base64::Bare.decode(bare.as_bytes()), Some(octets.clone()));
            prop_assert_eq!(Base64::Url.decode(url.as_bytes()), Some(octets.clone()));
            prop_assert_eq!(unhex(hex(&octets).as_bytes()), Some(octets));
        }
    }
}
