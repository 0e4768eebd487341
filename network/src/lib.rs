//! The network of Adit: the edge server that gives upstreams their endpoints.

pub mod admission;
pub mod certificates;
pub mod cli;
pub mod config;
pub mod edge;
pub mod errors;
pub mod http;
pub mod metrics;
mod name;
pub mod router;
pub mod store;

pub use edge::{Caller, Carried, Edge, Phase};
pub use errors::{Actor, Entry, Fault};
pub use name::{EndpointName, NameError, NameMap, NamePattern};
