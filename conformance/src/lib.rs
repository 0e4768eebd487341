//! The Adit protocol as data: clauses, registry, schema and vectors, read from the files beside this crate.
//!
//! The specification itself is `spec/README.md`. Nothing here knows the types of an implementation.

mod clauses;
mod digests;
mod registry;
mod scenario;
mod schema;
mod trace;
mod vectors;

pub use clauses::{Clause, citations, clauses, is_clause};
pub use digests::{Digests, Reviewed, report};
pub use registry::{CodeEntry, Extensions, FrameType, Limit, Registry, Timer, ViolationEntry};
pub use scenario::{FrameSpec, Hope, Player, Scenario, Side, Step, Subject};
pub use schema::Schema;
pub use trace::{Place, PlaceRole, members, places};
pub use vectors::{FrameVectors, Heard, Malformed, MessageVectors, Misframed, ValidFrames, ValidMessage, octets};
