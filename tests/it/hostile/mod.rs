//! Hostile clients and pages: real servers, real Chromium, real attacks.

mod egress;
mod files;
mod guard;
mod jail;
mod paths;
mod surfaces;
mod truth;
