//! What was asked, and what was sold.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::script::Trouble;
use super::tokens::Tokens;

/// A request as it came.
#[derive(Debug, Clone, Serialize)]
pub struct Request {
    /// The first is 1.
    pub number: u64,
    /// Its method.
    pub method: String,
    /// Its path, without what is asked.
    pub path: String,
    /// What stands behind `?`.
    pub query: Option<String>,
    /// Its headers, with names in lower case. Of those that stand there twice, the last.
    pub headers: BTreeMap<String, String>,
    /// The SHA-256 of its body.
    pub digest: String,
    /// Its body; `null` if that is no JSON.
    pub body: Value,
    /// The status of the answer.
    pub status: u16,
    /// Why it was refused.
    pub fault: Option<String>,
    /// What the answer costs as a whole.
    pub tokens: Tokens,
    /// How the answer went.
    pub end: End,
    /// What was made to happen on its way.
    pub trouble: Option<Trouble>,
    /// When all of it was there.
    #[serde(skip)]
    pub came: Instant,
}

/// How an answer went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Not all was sent yet.
    Open,
    /// Its costs were told: they were handed to the connection, which had room for them.
    Sold,
    /// It began, and its costs were never told.
    Cut,
    /// It was a refusal, or costs nothing.
    Free,
}

/// What was sold of a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Answers.
    pub answers: u64,
    /// Their tokens.
    #[serde(flatten)]
    pub tokens: Tokens,
}

/// By model.
pub type Sold = BTreeMap<String, Tally>;

/// Everything that was asked, in order.
#[derive(Debug, Default)]
pub struct Ledger {
    requests: Vec<Request>,
}

impl Ledger {
    /// Everything that was asked.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// The number of the next request.
    pub fn next(&self) -> u64 {
        self.requests.len() as u64 + 1
    }

    /// Writes a request down.
    pub fn add(&mut self, request: Request) {
        self.requests.push(request);
    }

    /// An answer has ended. What it was before it cannot become again.
    pub fn end(&mut self, number: u64, end: End) {
        let index = usize::try_from(number - 1).expect("it is the number of a request");
        let request = &mut self.requests[index];
        if request.end == End::Open {
            request.end = end;
        }
    }

    /// The answers that ended so, by the model that was asked.
    pub fn total(&self, end: End) -> Sold {
        let mut sold = Sold::new();
        for request in self.requests.iter().filter(|request| request.end == end) {
            let model = request.body["model"].as_str().unwrap_or_default();
            let tally = sold.entry(model.to_owned()).or_default();
            tally.answers += 1;
            tally.tokens.add(&request.tokens);
        }
        sold
    }
}
