//! The order of what is measured in a round.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// The numbers below `count` in an order that is another one in each round, and the same in each run: what is measured
/// first, or after something large, is always something else.
pub fn shuffled(round: usize, count: usize) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..count).collect();
    indices.sort_by_key(|index| {
        let mut hasher = DefaultHasher::new();
        (round, index).hash(&mut hasher);
        hasher.finish()
    });
    indices
}
