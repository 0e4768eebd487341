//! Showing text that a peer sent.

use core::fmt::{self, Write as _};

/// Returns `text` in a form that is safe to show on a terminal, in a log and in a page's source.
///
/// Whatever moves the cursor, colours, hides or reorders what stands around it is written as `\u{…}`; a backslash is
/// doubled, so that nobody can pretend to have been escaped.
pub const fn escape(text: &str) -> Escaped<'_> {
    Escaped(text)
}

/// Text of a peer, made harmless; see [`escape`].
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            c if is_harmful(c) => write!(f, "{}", c.escape_unicode()), // spec: MSG-007
            c => f.write_char(c),
        })
    }
}

fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'       // soft hyphen, Arabic mark, vowel separator, byte order mark
            | '\u{200b}'..='\u{200f}'                            // zero width, direction marks
            | '\u{2028}'..='\u{202e}'                            // line and paragraph separators, bidirectional embeddings
            | '\u{2060}'..='\u{206f}'                            // invisible operators, bidirectional isolates
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}') // annotations, tags
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn ordinary_text_of_any_language_stays_as_it_is() {
        let text = "Größe 大小 גודל — 100 % \"ok\" 🚇";

        assert_eq!(escape(text).to_string(), text);
    }

    #[test]
    fn what_moves_colours_hides_or_reorders_is_written_out() {
        assert_eq!(escape("a\r\nb\u{1b}[31mc").to_string(), "a\\u{d}\\u{a}b\\u{1b}[31mc");
        assert_eq!(escape("\u{202e}txt.exe\u{2066}\u{9b}").to_string(), "\\u{202e}txt.exe\\u{2066}\\u{9b}");
        assert_eq!(escape("x\u{200b}y\u{feff}\u{e0041}").to_string(), "x\\u{200b}y\\u{feff}\\u{e0041}");
    }

    #[test]
    fn nobody_can_pretend_to_have_been_escaped() {
        assert_eq!(escape("\\u{a}").to_string(), "\\\\u{a}");
    }
}
