//! How much is written, and what is left alone.
