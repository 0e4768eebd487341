//! The Adit protocol as data: clauses, registry, schema, vectors and scenarios, read from the files beside this crate.
//!
//! The specification itself is `spec/README.md`. Nothing here knows the types of an implementation: a [`Player`] speaks with
//! whatever is a [`Subject`].

mod application;
mod clauses;
mod digests;
#[cfg(feature = "program")]
pub mod identity;
mod player;
mod registry;
mod scenario;
mod schema;
#[cfg(feature = "program")]
pub mod socket;
mod states;
mod subject;
mod trace;
mod vectors;
mod verdict;

pub use application::Bound;
pub use clauses::{Clause, citations, clauses, is_clause};
pub use digests::{Digests, Reviewed, report};
pub use player::Player;
pub use registry::{CodeEntry, Extensions, FrameType, Limit, Registry, Timer, ViolationEntry};
pub use scenario::{Fault, FrameSpec, Scenario, Side, Step};
pub use schema::Schema;
pub use states::{State, States};
pub use subject::{Hope, Lack, Subject};
pub use trace::{Place, PlaceRole, members, places};
pub use vectors::{FrameVectors, Heard, Malformed, MessageVectors, Misframed, ValidFrames, ValidMessage, octets};
pub use verdict::{Failure, Verdict};
