//! Hostile clients and pages: real servers, real Chromium, real attacks.

mod egress;
mod files;
mod guard;
mod paths;
mod surfaces;
mod truth;
