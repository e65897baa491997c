//! What the driver and the Criterion benches share.

pub mod decoders;
