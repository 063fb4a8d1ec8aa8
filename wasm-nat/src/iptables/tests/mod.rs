//! Tests of the backend as a whole: packets, sequences of changes, and takeovers. Parts are tested beside their code.

mod behaviour;
mod cluster;
mod model;
mod plans;
mod sequences;
