//! What a peer said, shown to a human: nothing in it moves, hides or pretends.

use adit_core::{Cause, Code, Violation, escape};

/// Any text is shown without harm, and no two texts are shown alike.
pub fn text(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let shown = escape(&text).to_string();

    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    assert_eq!(unescaped(&shown).as_deref(), Some(&*text));
}

/// An ending can be told to a human and to who decides what comes next, whatever the peer put into it.
pub(crate) fn tell(cause: &Cause) {
    let told = format!("{cause} {cause:?} {:?}", cause.retry());
    assert!(!cause.to_string().chars().any(char::is_control), "{told}");
    let codes = Code::ALL.iter().map(|(code, _)| *code).find(|code| *code == cause.stream_code());
    assert!(codes.is_some_and(|code| code.name().is_some()), "{told}");
    if let Cause::Violation(violation) = cause {
        assert!(Violation::ALL.contains(violation) && told.contains(violation.clause()));
    }
}

fn unescaped(shown: &str) -> Option<String> {
    let (mut text, mut rest) = (String::new(), shown);
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..)?;
        if c != '\\' {
            text.push(c);
        } else if let Some(after) = rest.strip_prefix('\\') {
            text.push('\\');
            rest = after;
        } else {
            let (digits, after) = rest.strip_prefix("u{")?.split_once('}')?;
            text.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
            rest = after;
        }
    }
    Some(text)
}
