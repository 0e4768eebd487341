//! The network of Adit: the edge server that gives upstreams their endpoints.

pub mod admin;
pub mod admission;
mod bounded;
pub mod certificates;
pub mod cli;
pub mod config;
pub mod crl;
pub mod departures;
pub mod edge;
pub mod endpoints;
pub mod errors;
pub mod fetch;
pub mod http;
pub mod ingress;
#[cfg(test)]
mod injection;
pub mod log;
pub mod metrics;
mod name;
mod patience;
pub mod policy;
pub mod pressure;
pub mod public;
mod random;
pub mod router;
pub mod seeing;
pub mod serve;
pub mod store;
pub mod tls;
pub mod view;
pub mod withheld;

pub use edge::{Caller, Carried, Edge, Phase};
pub use errors::{Actor, Entry, Fault};
pub use name::{EndpointName, NameError, NameMap, NamePattern};
