//! Trouble on purpose: for every invocation a seed decides whether it crashes, runs out of time, is
//! throttled, or is delivered twice, as happens to a function on Lambda sooner or later. Pure; it
//! refuses to know how a strike is carried out.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// What strikes an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Strike {
    /// The process is killed in the middle of the invocation.
    Crash,
    /// The function does its work, but the answer counts as one that came too late, and the process
    /// is killed as Lambda kills it at the timeout. The rest of the time is not waited for.
    Timeout,
    /// The invocation is refused before it reaches the function; that is no attempt.
    Throttle,
    /// After a success the same batch is delivered once more before anything else is.
    Duplicate,
}

/// How often each kind is to strike: probabilities from 0 to 1, together at most 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Probabilities {
    crash: f64,
    timeout: f64,
    throttle: f64,
    duplicate: f64,
}

impl Probabilities {
    /// The probabilities in the order of the kinds, each with its kind.
    fn each(self) -> [(Strike, f64); 4] {
        [
            (Strike::Crash, self.crash),
            (Strike::Timeout, self.timeout),
            (Strike::Throttle, self.throttle),
            (Strike::Duplicate, self.duplicate),
        ]
    }
}

impl FromStr for Probabilities {
    type Err = String;

    fn from_str(text: &str) -> Result<Probabilities, String> {
        let mut probabilities = Probabilities::default();
        let mut named = Vec::new();
        for part in text.split(',') {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| format!("`{part}` is not of the form KIND=PROBABILITY"))?;
            let name = name.trim();
            let place = match name {
                "crash" => &mut probabilities.crash,
                "timeout" => &mut probabilities.timeout,
                "throttle" => &mut probabilities.throttle,
                "duplicate" => &mut probabilities.duplicate,
                _ => {
                    return Err(format!(
                        "`{name}` is no kind of trouble; there are crash, timeout, throttle, duplicate"
                    ));
                }
            };
            if named.contains(&name) {
                return Err(format!("`{name}` is given twice"));
            }
            named.push(name);
            *place = match value.trim().parse::<f64>() {
                Ok(probability) if (0.0..=1.0).contains(&probability) => probability,
                _ => {
                    return Err(format!(
                        "{name}={value} is not allowed: it must be a number from 0 to 1"
                    ));
                }
            };
        }
        let sum: f64 = probabilities.each().iter().map(|(_, probability)| probability).sum();
        // The slack is for sums such as 0.7 + 0.1 + 0.1 + 0.1, which binary fractions miss by a
        // hair.
        if sum > 1.0 + 1e-9 {
            return Err(format!(
                "the probabilities add up to {sum}, and at most one of them strikes an invocation"
            ));
        }
        if probabilities.throttle >= 1.0 {
            return Err("throttle=1 would let no invocation through, ever".to_owned());
        }
        Ok(probabilities)
    }
}

impl fmt::Display for Probabilities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Probabilities { crash, timeout, throttle, duplicate } = self;
        write!(
            formatter,
            "crash={crash},timeout={timeout},throttle={throttle},duplicate={duplicate}"
        )
    }
}

/// How often each kind struck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Strikes {
    /// The seed that makes them strike alike again.
    pub(crate) seed: u64,
    /// Processes killed in the middle of an invocation.
    pub(crate) crashes: u64,
    /// Answers that counted as too late.
    pub(crate) timeouts: u64,
    /// Invocations refused.
    pub(crate) throttles: u64,
    /// Batches that succeeded and were delivered once more.
    pub(crate) duplicates: u64,
}

/// Decides what strikes, invocation by invocation. With one shard and one lane the same seed
/// strikes the same invocations again; where several run at once, it is as often, though which is
/// next is up to the machine.
#[derive(Debug)]
pub(crate) struct Chaos {
    probabilities: Probabilities,
    seed: u64,
    decided: AtomicU64,
    struck: [AtomicU64; 4],
}

impl Chaos {
    /// Trouble of this kind, the same for the same seed.
    pub(crate) fn new(probabilities: Probabilities, seed: u64) -> Chaos {
        Chaos { probabilities, seed, decided: AtomicU64::new(0), struck: Default::default() }
    }

    /// What strikes the next invocation.
    pub(crate) fn next(&self) -> Option<Strike> {
        let drawn = fraction(self.seed, self.decided.fetch_add(1, Ordering::Relaxed));
        let mut below = 0.0;
        for (strike, probability) in self.probabilities.each() {
            below += probability;
            if drawn < below {
                return Some(strike);
            }
        }
        None
    }

    /// Counts a strike that took effect: a duplicate does so only where the batch succeeded.
    pub(crate) fn count(&self, strike: Strike) {
        self.struck[strike as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What was asked for, as it is given on the command line.
    pub(crate) fn description(&self) -> String {
        format!("{} --seed {}", self.probabilities, self.seed)
    }

    /// How often each kind struck so far.
    pub(crate) fn strikes(&self) -> Strikes {
        let [crashes, timeouts, throttles, duplicates] =
            [0, 1, 2, 3].map(|kind: usize| self.struck[kind].load(Ordering::Relaxed));
        Strikes { seed: self.seed, crashes, timeouts, throttles, duplicates }
    }
}

/// A number from 0 to below 1 for each place in a seed's sequence: SplitMix64,
/// <https://prng.di.unimi.it/splitmix64.c>.
fn fraction(seed: u64, place: u64) -> f64 {
    let mut bits = seed.wrapping_add(place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    // 53 bits are what a float holds exactly.
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn drawn(chaos: &Chaos, times: usize) -> Vec<Option<Strike>> {
        (0..times).map(|_| chaos.next()).collect()
    }

    #[test]
    fn a_seed_strikes_the_same_again_and_another_seed_does_not() {
        let probabilities: Probabilities =
            "crash=0.2,timeout=0.1,throttle=0.2,duplicate=0.1".parse().unwrap();
        let first = drawn(&Chaos::new(probabilities, 7), 200);
        assert_eq!(first, drawn(&Chaos::new(probabilities, 7), 200));
        assert_ne!(first, drawn(&Chaos::new(probabilities, 8), 200));
    }

    #[test]
    fn each_kind_strikes_as_often_as_it_is_told_and_is_counted() {
        let chaos =
            Chaos::new("crash=0.02,timeout=0.01,throttle=0.05,duplicate=0.3".parse().unwrap(), 1);
        let drawn = drawn(&chaos, 100_000);
        drawn.iter().flatten().for_each(|strike| chaos.count(*strike));
        let strikes = chaos.strikes();
        for (strike, expected, counted) in [
            (Strike::Crash, 2_000_usize, strikes.crashes),
            (Strike::Timeout, 1_000, strikes.timeouts),
            (Strike::Throttle, 5_000, strikes.throttles),
            (Strike::Duplicate, 30_000, strikes.duplicates),
        ] {
            let struck = drawn.iter().filter(|drawn| **drawn == Some(strike)).count();
            assert_eq!(struck as u64, counted);
            assert!(
                struck.abs_diff(expected) < expected / 5,
                "{strike:?}: {struck}, not about {expected}"
            );
        }
    }

    #[test]
    fn what_is_left_out_never_strikes_and_what_is_certain_always_does() {
        assert_eq!(drawn(&Chaos::new("crash=0".parse().unwrap(), 3), 1_000), vec![None; 1_000]);
        assert_eq!(
            drawn(&Chaos::new("duplicate=1".parse().unwrap(), 3), 100),
            vec![Some(Strike::Duplicate); 100]
        );
    }

    #[test]
    fn what_is_no_probability_is_named() {
        for (text, expected) in [
            ("", "`` is not of the form"),
            ("crash", "`crash` is not of the form KIND=PROBABILITY"),
            ("crash=2", "crash=2 is not allowed: it must be a number from 0 to 1"),
            ("crash=-0.1", "from 0 to 1"),
            ("crash=NaN", "from 0 to 1"),
            ("crash=often", "from 0 to 1"),
            ("flood=0.1", "`flood` is no kind of trouble"),
            ("crash=0.1,crash=0.2", "`crash` is given twice"),
            ("crash=0.6,timeout=0.6", "add up to 1.2"),
            ("throttle=1", "no invocation through"),
        ] {
            let error = text.parse::<Probabilities>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        "crash=0.7,timeout=0.1,throttle=0.1,duplicate=0.1".parse::<Probabilities>().unwrap();
    }
}
