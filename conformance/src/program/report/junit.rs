//! The report for JUnit's readers.

use core::time::Duration;

use adit_conformance::Verdict;

use super::{Report, Tally};
use crate::play::Outcome;

impl Report {
    /// Returns the report in JUnit's XML: a suite for each file of scenarios, a case for each scenario.
    pub(crate) fn junit(&self) -> String {
        let mut lines = vec![r#"<?xml version="1.0" encoding="UTF-8"?>"#.to_owned()];
        let all: Vec<&Outcome> = self.outcomes.iter().collect();
        lines.push(format!(r#"<testsuites name="adit-conformance {}" {}>"#, self.role(), counts(&all)));
        for cases in all.chunk_by(|one, other| one.file == other.file) {
            let file = cases.first().map(|case| case.file.as_str()).unwrap_or_default();
            lines.push(format!(r#"  <testsuite name="{}" {}>"#, escaped(file), counts(cases)));
            cases.iter().for_each(|case| case_lines(case, &mut lines));
            lines.push("  </testsuite>".to_owned());
        }
        lines.push("</testsuites>".to_owned());
        lines.join("\n") + "\n"
    }
}

fn case_lines(case: &Outcome, lines: &mut Vec<String>) {
    let (file, what) = (escaped(&case.file), escaped(&case.what));
    let time = seconds(case.took);
    lines.push(format!(r#"    <testcase classname="{file}" name="{what}" time="{time}">"#));
    lines.push("      <properties>".to_owned());
    lines.extend(case.clauses.iter().map(|id| format!(r#"        <property name="clause" value="{}"/>"#, escaped(id))));
    lines.push("      </properties>".to_owned());
    match &case.verdict {
        Verdict::Passed => {}
        Verdict::Failed(failure) => {
            let got = escaped(&failure.got);
            let text = escaped(&failure.to_string());
            lines.push(format!(r#"      <failure message="{got}" type="{}">{text}</failure>"#, case.clauses.join(" ")));
        }
        Verdict::NotImplemented(why) => {
            lines.push(format!(r#"      <skipped message="not implemented: {}"/>"#, escaped(why)));
        }
        Verdict::Skipped(why) => lines.push(format!(r#"      <skipped message="{}"/>"#, escaped(why))),
    }
    lines.push("    </testcase>".to_owned());
}

fn counts(cases: &[&Outcome]) -> String {
    let mut tally = Tally::default();
    cases.iter().for_each(|case| tally.count(&case.verdict));
    format!(
        r#"tests="{}" failures="{}" errors="0" skipped="{}" time="{}""#,
        cases.len(),
        tally.failed,
        tally.not_implemented + tally.skipped,
        seconds(cases.iter().map(|case| case.took).sum()),
    )
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

/// Text as it may stand in XML; what may not stand there at all is replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push_str(&format!("&#{};", u32::from(letter))),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn what_a_peer_said_stays_text() {
        assert_eq!(escaped("<a b=\"&\">\n\u{1b}[2J"), "&lt;a b=&quot;&amp;&quot;&gt;&#10;\u{fffd}[2J");
    }
}
