//! What a scenario speaks with.

use serde_json::Value;

/// One side of the protocol, as a scenario meets it.
pub trait Subject {
    /// Lets octets arrive.
    fn hear(&mut self, octets: &[u8]);
    /// Takes the octets that it has to say.
    fn say(&mut self) -> Vec<u8>;
    /// Lets time pass and returns the octets that it says meanwhile.
    fn wait(&mut self, millis: u64) -> Vec<u8>;
    /// Ends the transport's input.
    fn cut(&mut self);
    /// Returns whether it has closed the transport.
    fn is_closed(&self) -> bool;
    /// Waits for octets where time is real; a subject that has said everything already returns none.
    fn more(&mut self, hope: Hope) -> Vec<u8> {
        let _ = hope;
        Vec::new()
    }
    /// Returns why it has not got something that a scenario requires.
    fn lacks(&self, requirement: &str) -> Option<String> {
        let _ = requirement;
        None
    }
    /// Returns whether its application is one of its own, and not that of the scenarios: it may refuse what it is asked for.
    fn has_own_application(&self) -> bool {
        false
    }
    /// Goes on over another transport; an agent dials by itself.
    ///
    /// # Errors
    /// Why it has no other transport.
    fn redial(&mut self) -> Result<(), Lack> {
        Err(Lack::Unable("a second transport".to_owned()))
    }
    /// Lets its application do something.
    ///
    /// # Errors
    /// Why the application cannot do that.
    fn act(&mut self, act: &Value) -> Result<(), Lack> {
        Err(Lack::Unable(format!("the act {act}")))
    }
    /// Waits for what its application is told next; `None` when nothing comes.
    ///
    /// # Errors
    /// Why nobody can know what the application is told.
    fn event(&mut self) -> Result<Option<Value>, Lack> {
        Err(Lack::Unable("events of the application".to_owned()))
    }
}

/// What a player waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hope {
    /// Octets, or the end of the transport: a second or more is worth waiting.
    Something,
    /// That nothing comes: as long as it is worth to see that.
    Nothing,
}

/// Why a subject did not do what it was asked for beside the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It is not able to, and says so: what it is not able to do.
    Unable(String),
    /// It should have: what happened.
    Broken(String),
}
