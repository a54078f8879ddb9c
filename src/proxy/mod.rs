//! The data plane.

pub mod inspect;
