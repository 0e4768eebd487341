//! A program that runs the side that is tested, and its application.

use core::time::Duration;
use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Instant,
};

use adit_conformance::Lack;
use serde_json::{Value, json};

/// A program that runs the side that is tested; it ends with this value.
pub(crate) struct Shim {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<Word>,
    events: VecDeque<Value>,
}

/// What a shim says.
pub(crate) enum Word {
    /// It is ready; a network says where it listens.
    Ready(Value),
    /// It did what it was asked for.
    Done,
    /// Its application was told something.
    Event(Value),
    /// It cannot do something: what.
    NotImplemented(String),
    /// It failed, or said something else: what.
    Broken(String),
    /// It has ended.
    Gone,
}

impl Shim {
    pub(crate) fn start(command: &str, variables: &[(&str, String)], verbose: bool) -> io::Result<Self> {
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("exec {command}"))
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(if verbose { Stdio::inherit() } else { Stdio::null() })
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (say, lines) = channel();
        thread::spawn(move || {
            for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok) {
                if !line.trim().is_empty() && say.send(Word::read(&line)).is_err() {
                    return;
                }
            }
            let _ = say.send(Word::Gone); // nobody listens to a shim that was ended
        });
        Ok(Self { child, input, lines, events: VecDeque::new() })
    }

    /// Returns what it says within this time, events aside.
    pub(crate) fn word(&mut self, patience: Duration) -> Option<Word> {
        let until = Instant::now() + patience;
        loop {
            let word = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())).ok()?;
            let Word::Event(event) = word else { return Some(word) };
            self.events.push_back(event);
        }
    }

    /// Returns whether the program runs.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Lets the application do something.
    pub(crate) fn act(&mut self, act: &Value, patience: Duration) -> Result<(), Lack> {
        let line = json!({ "act": act });
        let said = self.input.as_mut().map(|input| writeln!(input, "{line}").and_then(|()| input.flush()));
        if let Some(Err(error)) = said {
            return Err(Lack::Broken(format!("the shim does not listen: {error}")));
        }
        match self.word(patience) {
            Some(Word::Done) => Ok(()),
            other => Err(lack(other)),
        }
    }

    /// Returns what the application is told within this time.
    pub(crate) fn event(&mut self, patience: Duration) -> Result<Option<Value>, Lack> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        match self.lines.recv_timeout(patience) {
            Ok(Word::Event(event)) => Ok(Some(event)),
            Ok(word) => Err(lack(Some(word))),
            Err(_) => Ok(None),
        }
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
    }
}

impl Word {
    fn read(line: &str) -> Self {
        let Ok(word) = serde_json::from_str::<Value>(line) else {
            return Self::Broken(format!("the shim says {line:?}"));
        };
        if let Some(ready) = word.get("ready") {
            return Self::Ready(ready.clone());
        }
        if let Some(why) = word.get("not_implemented").and_then(Value::as_str) {
            return Self::NotImplemented(why.to_owned());
        }
        if let Some(why) = word.get("failed").and_then(Value::as_str) {
            return Self::Broken(why.to_owned());
        }
        if word.get("done").is_some() {
            return Self::Done;
        }
        if word.get("event").is_some() {
            return Self::Event(word);
        }
        Self::Broken(format!("the shim says {line:?}"))
    }
}

/// What a word means where another was due.
pub(crate) fn lack(word: Option<Word>) -> Lack {
    Lack::Broken(match word {
        Some(Word::NotImplemented(what)) => return Lack::Unable(what),
        Some(Word::Broken(why)) => why,
        Some(Word::Gone) => "the shim has ended".to_owned(),
        Some(Word::Ready(_)) => "the shim says that it is ready".to_owned(),
        Some(Word::Done) => "the shim says that it is done".to_owned(),
        Some(Word::Event(event)) => event.to_string(),
        None => "the shim says nothing".to_owned(),
    })
}
