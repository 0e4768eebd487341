//! Several parts one after another.

use super::{Broken, Compressor, Events, Inflater, Replacer};

/// A part of a [`Pipeline`].
#[derive(Debug)]
pub enum Stage {
    /// Inflates.
    Inflate(Inflater),
    /// Replaces.
    Replace(Box<Replacer>),
    /// Replaces in events.
    Events(Events),
    /// Compresses.
    Compress(Compressor),
}

/// What is done to one body: each part takes what the one before gives.
#[derive(Debug, Default)]
pub struct Pipeline {
    stages: Vec<Stage>,
    /// Whether each piece goes out as soon as it came, whatever follows.
    prompt: bool,
    broken: Option<Broken>,
}

/// What goes through the parts at once: what one makes of it is all in memory.
pub const SLICE: usize = 16 << 10;
/// The most that a part may make of that.
const MAX_MADE: usize = 4 << 20;

impl Pipeline {
    /// Returns a pipeline of these parts. A `prompt` one gives out each piece that it takes, as far as its parts can.
    pub fn new(stages: Vec<Stage>, prompt: bool) -> Self {
        Self { stages, prompt, broken: None }
    }

    /// Returns whether nothing is done.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Returns whether something is replaced.
    pub fn replaces(&self) -> bool {
        self.stages.iter().any(|stage| matches!(stage, Stage::Replace(_) | Stage::Events(_)))
    }

    /// Returns whether it ends in something compressed.
    pub fn compresses(&self) -> bool {
        matches!(self.stages.last(), Some(Stage::Compress(_)))
    }

    /// Adds the parts of another one.
    pub fn append(&mut self, other: Self) {
        self.stages.extend(other.stages);
        self.prompt |= other.prompt;
    }

    /// Takes octets, and appends what is ready. What [`SLICE`] octets become is bounded: who gives more at once may get very much.
    ///
    /// # Errors
    /// Why the body is broken off; it stays so.
    pub fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        self.check()?;
        for slice in octets.chunks(SLICE) {
            self.run(slice, Then::More, out)?;
        }
        if self.prompt { self.pause(out) } else { Ok(()) }
    }

    /// Appends what can be given out: nothing more comes for a while.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn pause(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        self.check()?;
        self.run(&[], Then::Pause, out)
    }

    /// Ends the body, and appends the rest.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        self.check()?;
        self.run(&[], Then::End, out)
    }

    fn check(&self) -> Result<(), Broken> {
        self.broken.map_or(Ok(()), Err)
    }

    /// Passes octets through the parts; each gives what it has to the next one.
    fn run(&mut self, octets: &[u8], then: Then, out: &mut Vec<u8>) -> Result<(), Broken> {
        let mut current = octets.to_vec();
        for stage in &mut self.stages {
            let mut made = Vec::new();
            let done = stage.push(&current, &mut made).and_then(|()| match then {
                Then::More => Ok(()),
                Then::Pause => {
                    stage.pause(&mut made);
                    Ok(())
                }
                Then::End => stage.finish(&mut made),
            });
            if let Err(broken) = done.and(if made.len() > MAX_MADE { Err(Broken::Growth) } else { Ok(()) }) {
                return Err(*self.broken.insert(broken));
            }
            current = made;
        }
        out.append(&mut current);
        Ok(())
    }
}

/// What comes after octets.
#[derive(Clone, Copy, Debug)]
enum Then {
    More,
    Pause,
    End,
}

impl Stage {
    fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        match self {
            Self::Inflate(inflater) => inflater.push(octets, out),
            Self::Replace(replacer) => replacer.push(octets, out),
            Self::Events(events) => events.push(octets, out),
            Self::Compress(compressor) => {
                compressor.push(octets, out);
                Ok(())
            }
        }
    }

    /// Gives out what can be given out; the others keep nothing that could be.
    fn pause(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Compress(compressor) => compressor.pause(out),
            Self::Inflate(_) | Self::Replace(_) | Self::Events(_) => {}
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        match self {
            Self::Inflate(inflater) => inflater.finish(out),
            Self::Replace(replacer) => replacer.finish(out),
            Self::Events(events) => events.finish(out),
            Self::Compress(compressor) => {
                compressor.finish(out);
                Ok(())
            }
        }
    }
}
