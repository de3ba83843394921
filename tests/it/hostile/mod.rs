//! Hostile clients and pages: real servers, real Chromium, real attacks.

mod bounds;
mod egress;
mod files;
mod guard;
mod jail;
mod limits;
mod memory;
mod paths;
mod socket;
mod surfaces;
mod trap;
mod truth;
