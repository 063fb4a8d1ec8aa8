//! The backend through the state machine, against a model of the kernel that refuses what the real one refuses.

mod behaviour;
mod cluster;
mod kernel;
mod plans;
mod sequences;
