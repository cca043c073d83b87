//! `split_clients`

use config::model::http::{self as model, Value};

use super::{Scope, State, Variables};

/// A compiled `split_clients`.
#[derive(Debug)]
pub(super) struct SplitClients {
    input: Value,
    /// Up to which hash each value is taken; `None` takes what is left.
    parts: Vec<(Option<u32>, Value)>,
}

/// A whole, in the model's hundredths of a percent.
const WHOLE: u32 = 10_000;

impl SplitClients {
    pub(super) fn compile(split: &model::SplitClients) -> Self {
        let (mut sum, mut below) = (0_u32, 0_u32);
        let parts = split.parts.iter().map(|(share, value)| {
            sum = share.map_or(WHOLE, |share| sum.saturating_add(share));
            let bound = share.filter(|_| sum < WHOLE).map(|share| {
                let width = u64::from(share) * u64::from(u32::MAX) / u64::from(WHOLE);
                below = below.saturating_add(width as u32);
                below
            });
            (bound, value.clone())
        });
        Self { parts: parts.collect(), input: split.input.clone() }
    }

    pub(super) fn evaluate(
        &self,
        variables: &Variables,
        state: &mut State,
        scope: Scope<'_>,
        out: &mut Vec<u8>,
    ) {
        let mut input = state.scratch();
        variables.evaluate(&self.input, state, scope, &mut input);
        let hash = murmur_hash2(&input);
        state.give_back(input);
        if let Some((_, value)) = self.parts.iter().find(|(below, _)| below.is_none_or(|below| hash < below))
        {
            variables.evaluate(value, state, scope, out);
        }
    }
}

/// MurmurHash2 with seed 0, by which nginx splits; the same client is in the same part behind either.
pub(super) fn murmur_hash2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (index, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}
