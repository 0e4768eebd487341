//! Policies at work: their files are read here, and their rules run for connections, requests and answers. What rules ask of the
//! world is done by [`World`].

mod file;
mod keys;
mod offline;
mod path;
mod run;
mod world;

pub use file::{PolicyFault, load};
pub use offline::{End, Scene, Shown, ShownRequest, ShownResponse, show};
pub use path::{Ambiguous, normal};
pub(crate) use run::{MAX_FORWARDS, admit, connection, fault, go_on, is_over_budget, json, run, verdicts, wall};
pub use world::World;
