//! What a request costs, and the most that it can: pure. Money is whole nano-USD, and a price whole
//! pico-USD for a token, so that nothing is lost in sums.

use twobox_store::usage::{Limit, Tokens};

/// What a model costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prices {
    input: PicoUsd,
    output: PicoUsd,
    cache_read: PicoUsd,
    cache_write: PicoUsd,
}

/// The price of a token. A USD for a million tokens is a million of these.
type PicoUsd = u64;

const NANO_IN_USD: f64 = 1e9;

impl Prices {
    /// Prices in USD for a million tokens, of which none is negative.
    pub fn of_usd(input: f64, output: f64, cache_read: f64, cache_write: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "it stops at the ends")]
        #[expect(clippy::cast_sign_loss, reason = "it stops at the ends")]
        let pico = |usd: f64| (usd * 1e6).round() as PicoUsd;
        Self {
            input: pico(input),
            output: pico(output),
            cache_read: pico(cache_read),
            cache_write: pico(cache_write),
        }
    }

    /// What so many tokens cost, in nano-USD, rounded up.
    pub fn cost(&self, tokens: &Tokens) -> i64 {
        let parts = [
            (tokens.input, self.input),
            (tokens.output, self.output),
            (tokens.cache_read, self.cache_read),
            (tokens.cache_write, self.cache_write),
        ];
        let pico: u128 =
            parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(*price)).sum();
        i64::try_from(pico.div_ceil(1000)).unwrap_or(i64::MAX)
    }

    /// The most that a request can cost, in nano-USD, which may use so many tokens: whatever it reads may
    /// be the dearest kind of input, and of what it reads and writes together there is most of what costs more.
    pub fn most(&self, most: &Most) -> i64 {
        let dearest = self.input.max(self.cache_write).max(self.cache_read);
        let together = most.together.unwrap_or(u64::MAX);
        let (input, output) = match self.output >= dearest {
            true => {
                let output = most.output.min(together);
                (most.input.min(together - output), output)
            }
            false => {
                let input = most.input.min(together);
                (input, most.output.min(together - input))
            }
        };
        let tokens = Tokens { input, output, ..Tokens::default() };
        Self { input: dearest, ..*self }.cost(&tokens)
    }
}

/// The most tokens that a request can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// Read by the model.
    pub input: u64,
    /// Written by it.
    pub output: u64,
    /// Both together, if there is less room for them than for each.
    pub together: Option<u64>,
}

/// What a person wrote of how much a model reads and writes. What is only taken for usual bounds nothing, and
/// is not here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// A request and one answer together.
    pub context_tokens: Option<u32>,
    /// One answer.
    pub max_output_tokens: Option<u32>,
}

/// As many tokens as any model reads: what bounds a request to one of which the settings say nothing.
const CONTEXT_MAX: u64 = 1_000_000;

impl Most {
    /// Of a request with a body of so many bytes, which allows `answers` of `max_output` tokens each, to a model
    /// of which `known` is known. A token of a text is a byte at least, so there are no more of them than bytes.
    /// The request goes on as it is: an answer may be as long as it says, whatever the settings do. They speak
    /// where it is silent.
    pub fn of(body_bytes: u64, max_output: Option<u64>, answers: u64, known: Bounds) -> Self {
        let context = known.context_tokens.map(u64::from);
        let input = body_bytes.min(context.unwrap_or(CONTEXT_MAX));
        let (answer, together) = match (max_output, known.max_output_tokens) {
            (Some(said), _) => (said, None),
            (None, Some(written)) => (u64::from(written), context),
            (None, None) => (context.unwrap_or(CONTEXT_MAX), context),
        };
        let together = together.map(|context| context.saturating_mul(answers));
        Self { input, output: answer.saturating_mul(answers), together }
    }

    /// All of them.
    pub fn tokens(&self) -> i64 {
        let sum = self.input.saturating_add(self.output);
        i64::try_from(sum.min(self.together.unwrap_or(u64::MAX))).unwrap_or(i64::MAX)
    }
}

/// Nano-USD in USD, to a hundredth of a cent, rounded up.
pub fn usd(nano: i64) -> String {
    let parts = nano.max(0).cast_unsigned().div_ceil(100_000);
    format!("{}.{:04}", parts / 10_000, parts % 10_000)
}

/// An amount of USD in nano-USD.
#[expect(clippy::cast_possible_truncation, reason = "it stops at the ends")]
pub fn nano(usd: f64) -> i64 {
    (usd * NANO_IN_USD).round() as i64
}

/// A limit for a day, as a person writes it.
pub fn limit(usd_per_day: Option<f64>, tokens_per_day: Option<u64>) -> Limit {
    Limit {
        nano_usd: usd_per_day.map(nano),
        tokens: tokens_per_day.map(|tokens| i64::try_from(tokens).unwrap_or(i64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_costs_the_sum_of_its_tokens_rounded_up() {
        let prices = Prices::of_usd(3.0, 15.0, 0.3, 3.75);
        let tokens = |input, cache_read, cache_write, output| Tokens {
            input,
            cache_read,
            cache_write,
            output,
        };
        let cases = [
            (tokens(0, 0, 0, 0), 0),
            (tokens(1_000_000, 0, 0, 0), 3_000_000_000),
            (tokens(10, 1000, 100, 5), 30_000 + 300_000 + 375_000 + 75_000),
            (tokens(0, 1, 0, 0), 300),
            (tokens(u64::MAX, u64::MAX, u64::MAX, u64::MAX), i64::MAX),
        ];
        for (tokens, cost) in cases {
            assert_eq!(prices.cost(&tokens), cost, "{tokens:?}");
        }
        let cheap = Prices::of_usd(0.000_1, 0.0, 0.0, 0.0); // 100 pico-USD a token
        assert_eq!(cheap.cost(&tokens(1, 0, 0, 0)), 1, "never less than it is");
        assert_eq!(cheap.cost(&tokens(20, 0, 0, 0)), 2);
    }

    #[test]
    fn no_request_costs_more_than_its_most() {
        let prices = Prices::of_usd(3.0, 15.0, 0.3, 3.75);
        let known = |context_tokens, max_output_tokens| Bounds {
            context_tokens: Some(context_tokens),
            max_output_tokens,
        };
        let most = Most::of(5000, None, 1, known(4000, Some(100)));
        assert_eq!((most.input, most.output, most.tokens()), (4000, 100, 4000));
        assert_eq!(prices.most(&most), 3900 * 3750 + 100 * 15_000, "the dearer, and what is left");
        let all_written = Tokens { cache_write: 3900, output: 100, ..Tokens::default() };
        assert_eq!(prices.cost(&all_written), prices.most(&most));
        let dear_to_read = Prices::of_usd(20.0, 15.0, 0.3, 3.75);
        assert_eq!(dear_to_read.most(&most), 4000 * 20_000, "nothing is left for an answer");
        let most = |bytes, output, answers, known| {
            let most = Most::of(bytes, output, answers, known);
            (most.input, most.output, most.tokens())
        };
        assert_eq!(most(50, Some(1), 1, known(4000, None)), (50, 1, 51));
        assert_eq!(most(50, Some(7), 3, known(4000, None)), (50, 21, 71), "each may be as long");
        assert_eq!(most(50, None, 1, known(4000, None)), (50, 4000, 4000), "the context bounds it");
        assert_eq!(most(50, None, 1, known(4000, Some(300))), (50, 300, 350), "a person does");
        assert_eq!(most(50, Some(900), 1, known(4000, Some(300))), (50, 900, 950), "it says more");
        assert_eq!(most(50, Some(9000), 2, known(4000, None)), (50, 18_000, 18_050));
        assert_eq!(most(9000, Some(100), 1, known(4000, None)), (4000, 100, 4100), "beside it");
        assert_eq!(most(9000, None, 2, known(4000, Some(300))), (4000, 600, 4600));
        let unknown = Bounds::default();
        let unbounded = most(2_000_000, None, 2, unknown);
        assert_eq!(unbounded, (1_000_000, 2_000_000, 3_000_000), "nothing bounds it");
        let answer_alone = Bounds { max_output_tokens: Some(300), ..unknown };
        assert_eq!(most(9_000_000, None, 1, answer_alone), (1_000_000, 300, 1_000_300));
        assert_eq!(most(50, Some(u64::MAX), 2, unknown), (50, u64::MAX, i64::MAX));
    }

    #[test]
    fn a_budget_is_counted_in_nano_usd_and_none_is_no_zero() {
        assert_eq!(
            limit(Some(0.5), Some(7)),
            Limit { nano_usd: Some(500_000_000), tokens: Some(7) }
        );
        assert_eq!(limit(None, None), Limit { nano_usd: None, tokens: None });
        assert_eq!(
            limit(Some(0.0), Some(u64::MAX)),
            Limit { nano_usd: Some(0), tokens: Some(i64::MAX) }
        );
    }
}
