//! What the host says was bought, held against what was sold, over the deaths of hosts and runners.
//!
//! Of each model: never more is counted than was sold, of any kind of tokens; what is missing is what
//! certain answers cost, each of which may have been lost with whoever read it, and there is an *unknown*
//! request for each of them, with as many tokens; each answer that was begun is counted or unknown; each
//! request that was open when a host died is unknown; and nothing is unknown without such a cause.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::{End, Request};
use super::tokens::Tokens;

/// What `twobox usage` says of a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Requests that ended.
    pub requests: u64,
    /// Their tokens.
    pub tokens: Bill,
    /// How many were not answered, for nothing.
    pub failed: u64,
    /// Of how many nobody knows what they used.
    pub unknown: u64,
    /// The most that these can have used.
    pub unknown_tokens: u64,
}

/// Tokens by what they cost: read, read of a cache, written into one, said.
pub type Bill = [u64; 4];

/// Somebody was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// How much had been asked of models when he was gone.
    pub asked: u64,
    /// The models of the requests that were open: of a host, by its own book. Of a runner its model: whether it
    /// asked at that moment nobody knows.
    pub open: Vec<String>,
    /// Whether it was a host.
    pub host: bool,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Tokens that were sold.
    pub sold: u64,
    /// Of these, tokens that were counted.
    pub bought: u64,
    /// Requests of which nobody knows what they used.
    pub unknown: u64,
    /// The most that these can have used.
    pub unknown_tokens: u64,
    /// What must not be. Empty, or the counts do not hold.
    pub problems: Vec<String>,
}

/// Compares what was sold with what was counted, by the name of the model, once nothing is under way.
pub fn audit(requests: &[Request], counted: &BTreeMap<String, Counted>, deaths: &[Death]) -> Audit {
    let mut audit = Audit::default();
    let model = |request: &Request| request.body["model"].as_str().unwrap_or_default().to_owned();
    let mut models: BTreeSet<String> = requests.iter().map(model).collect();
    models.extend(counted.keys().cloned());
    for name in models {
        let asked: Vec<&Request> = requests.iter().filter(|it| model(it) == name).collect();
        let counted = counted.get(&name).copied().unwrap_or_default();
        let of_model = OfModel { asked: &asked, counted, deaths, name: &name };
        audit.sold += sum(of_model.sold().map(|it| bill(&it.tokens))).iter().sum::<u64>();
        audit.bought += counted.tokens.iter().sum::<u64>();
        audit.unknown += counted.unknown;
        audit.unknown_tokens += counted.unknown_tokens;
        let problems = of_model.problems().into_iter();
        audit.problems.extend(problems.map(|problem| format!("{name}: {problem}: {counted:?}")));
    }
    audit
}

struct OfModel<'a> {
    asked: &'a [&'a Request],
    counted: Counted,
    deaths: &'a [Death],
    name: &'a str,
}

impl<'a> OfModel<'a> {
    fn sold(&self) -> impl Iterator<Item = &'a Request> {
        self.asked.iter().copied().filter(|it| it.end == End::Sold)
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let Counted { requests, tokens, failed, unknown, unknown_tokens } = self.counted;
        let sold = sum(self.sold().map(|it| bill(&it.tokens)));
        problems.extend(
            self.asked
                .iter()
                .filter(|it| it.end == End::Open)
                .map(|it| format!("request {} is under way", it.number)),
        );
        let missing = match missing(sold, tokens) {
            Some(missing) => missing,
            None => {
                problems.push(format!("more was counted than {sold:?}, which was sold"));
                return problems;
            }
        };
        let doubtful = self.doubtful();
        match fewest(&doubtful, missing) {
            Some(lost) if lost as u64 > unknown => {
                problems.push(format!("{lost} answers are missing, which cost {missing:?}"));
            }
            Some(_) if missing.iter().sum::<u64>() > unknown_tokens => {
                problems.push(format!("{missing:?} is missing, more than is unknown"));
            }
            Some(_) => {}
            None => problems.push(format!(
                "{missing:?} is missing of {sold:?}, and no answers that may have been lost cost that: \
                 {doubtful:?}"
            )),
        }
        let begun = self.asked.iter().filter(|it| it.status == 200).count() as u64;
        if begun > requests.saturating_sub(failed) {
            problems.push(format!("{begun} answers were begun, and fewer were counted"));
        }
        let open = self.open(true);
        if open > unknown {
            problems.push(format!("{open} requests were open when hosts died, and fewer unknown"));
        }
        let cut = self.asked.iter().filter(|it| it.end == End::Cut).count();
        let most = open + self.open(false) + (cut + doubtful.len()) as u64;
        if unknown > most {
            problems.push(format!("at most {most} have a reason to be unknown"));
        }
        problems
    }

    /// How many of its requests were open when somebody died, a host or another.
    fn open(&self, host: bool) -> u64 {
        let deaths = self.deaths.iter().filter(|death| death.host == host);
        let open = deaths.flat_map(|death| &death.open).filter(|open| *open == self.name);
        open.count() as u64
    }

    /// What answers cost that were sold, and perhaps not read to the end by somebody who counts: those that
    /// broke off afterwards, and those about the death of whoever was to have them.
    fn doubtful(&self) -> Vec<Bill> {
        let mut numbers: BTreeSet<u64> =
            self.asked.iter().filter(|it| it.trouble.is_some()).map(|it| it.number).collect();
        for death in self.deaths {
            let open = death.open.iter().filter(|open| *open == self.name).count();
            let before = self.asked.iter().rev().filter(|it| it.number <= death.asked).take(open);
            // It may have been on its way.
            let after = self.asked.iter().filter(|it| it.number > death.asked).take(open);
            numbers.extend(before.chain(after).map(|it| it.number));
        }
        let doubtful = self.sold().filter(|it| numbers.contains(&it.number));
        doubtful.map(|it| bill(&it.tokens)).collect()
    }
}

fn bill(tokens: &Tokens) -> Bill {
    [tokens.input, tokens.cache_read, tokens.cache_write, tokens.output]
}

fn sum(bills: impl Iterator<Item = Bill>) -> Bill {
    bills.fold(Bill::default(), |sum, bill| std::array::from_fn(|at| sum[at] + bill[at]))
}

/// What of `whole` is not in `part`; `None` if that is more of anything.
fn missing(whole: Bill, part: Bill) -> Option<Bill> {
    let mut missing = Bill::default();
    for at in 0..missing.len() {
        missing[at] = whole[at].checked_sub(part[at])?;
    }
    Some(missing)
}

/// How few of `bills` make exactly `wanted`; `None` if none do.
fn fewest(bills: &[Bill], wanted: Bill) -> Option<usize> {
    let mut reached = BTreeMap::from([(Bill::default(), 0)]);
    for bill in bills {
        let more: Vec<_> = reached
            .iter()
            .map(|(sum, count)| (std::array::from_fn(|at| sum[at] + bill[at]), count + 1))
            .filter(|(sum, _)| missing(wanted, *sum).is_some())
            .collect();
        for (sum, count) in more {
            let best = reached.entry(sum).or_insert(count);
            *best = count.min(*best);
        }
    }
    reached.get(&wanted).copied()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::models::Trouble;
    use serde_json::json;

    fn request(number: u64, end: End, output: u64) -> Request {
        Request {
            number,
            method: "POST".to_owned(),
            path: "/v1/messages".to_owned(),
            query: None,
            headers: BTreeMap::new(),
            digest: String::new(),
            body: json!({"model": "m"}),
            status: if end == End::Free { 529 } else { 200 },
            fault: None,
            tokens: Tokens { input: 100, output, ..Tokens::default() },
            end,
            trouble: None,
            came: Instant::now(),
        }
    }

    fn counted(answers: u64, output: u64, unknown: u64) -> Counted {
        Counted {
            requests: answers + unknown,
            tokens: [100 * answers, 0, 0, output],
            failed: 0,
            unknown,
            unknown_tokens: 1000 * unknown,
        }
    }

    fn found(requests: &[Request], counted: Counted, deaths: &[Death]) -> String {
        audit(requests, &BTreeMap::from([("m".to_owned(), counted)]), deaths).problems.join("; ")
    }

    fn died(host: bool, asked: u64) -> Death {
        Death { asked, open: vec!["m".to_owned()], host }
    }

    #[test]
    fn what_was_sold_is_counted_or_unknown_for_a_reason() {
        let three = [1, 2, 3].map(|number| request(number, End::Sold, number));
        let with_cut = [request(1, End::Sold, 1), request(2, End::Cut, 2)];
        let broken = [
            request(1, End::Sold, 1),
            Request { trouble: Some(Trouble::Cut(9)), ..request(2, End::Sold, 2) },
        ];
        let (host, runner) = ([died(true, 3)], [died(false, 3)]);
        let cases = [
            ("all", found(&three, counted(3, 6, 0), &[]), ""),
            ("one lost at a death", found(&three, counted(2, 3, 1), &host), ""),
            ("one lost with its runner", found(&three, counted(2, 3, 1), &runner), ""),
            ("open, and never sent", found(&three, counted(3, 6, 1), &host), ""),
            ("cut", found(&with_cut, counted(1, 1, 1), &[]), ""),
            ("cut behind its costs", found(&broken, counted(1, 1, 1), &[]), ""),
            ("too much", found(&three, counted(3, 7, 0), &[]), "more was counted"),
            ("absent", found(&three, counted(2, 3, 0), &runner), "1 answers are missing"),
            ("another one is missing", found(&three, counted(2, 5, 1), &host), "no answers"),
            ("lost without a reason", found(&three, counted(2, 3, 1), &[]), "no answers"),
            ("not kept", found(&three, counted(3, 6, 0), &host), "were open when hosts died"),
            ("cut, and not counted", found(&with_cut, counted(1, 1, 0), &[]), "were begun"),
            ("unknown without a reason", found(&three, counted(3, 6, 1), &[]), "at most 0 have"),
        ];
        for (case, found, expected) in cases {
            let fits =
                if expected.is_empty() { found.is_empty() } else { found.contains(expected) };
            assert!(fits, "{case}: {found}");
        }
        let open = [request(1, End::Open, 1)];
        assert!(found(&open, counted(0, 0, 1), &[]).contains("is under way"));
    }
}
