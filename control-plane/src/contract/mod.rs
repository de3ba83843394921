//! Tests of the contract as a whole: of every route that the OpenAPI document has, and of every
//! limit that the contract names.

mod limits;
mod walk;
