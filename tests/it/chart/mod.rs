//! The Helm chart: what it refuses, what it renders, and that what it renders fits together and
//! runs.

mod environment;
mod network;
mod objects;
mod queries;
mod renders;
mod restricted;
mod rights;
mod secrets;
