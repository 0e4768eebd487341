//! The network of Adit: the edge server that gives upstreams their endpoints.

pub mod certificates;
pub mod cli;
pub mod config;
pub mod errors;
mod name;
pub mod router;
pub mod store;

pub use errors::{Actor, Entry, Fault};
pub use name::{EndpointName, NameError, NameMap, NamePattern};
