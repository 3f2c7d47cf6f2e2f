//! What ends a turn that does not end by itself, and how much may be asked in it, of models and of people: a
//! pure function of what runs, and of the time.

use std::time::Duration;

use serde_json::Value;
use twobox_shared::bounds::{self, Bound};
use twobox_shared::clock::Monotonic;
use twobox_shared::content::Failure;

use crate::ask::{ARGUMENTS_MAX, Asking};

/// The most bytes that an agent is told before its conversation: its instructions and what Twobox says besides.
/// Some programs are given it as one argument, and no system takes more than 128 KiB of one.
pub(crate) const SYSTEM_MAX: usize = 119 << 10;

/// The most bytes that are read of an agent's instructions: enough to tell by how much they are too long.
pub(crate) const INSTRUCTIONS_READ: usize = 1 << 20;

/// How many things people may be asked in one turn.
const ASKED_MAX: u32 = 50;

/// What a person can be expected to read about a tool.
const ARGUMENTS: Bound = Bound { most: ARGUMENTS_MAX, ..bounds::TOOL_ARGUMENTS };

/// Refuses a `system` text that is longer than [`SYSTEM_MAX`].
///
/// # Errors
/// What is too long, and what to do: the agent is broken until somebody has changed its definition.
pub(crate) fn fits_system(system: &str) -> Result<(), Failure> {
    let length = system.len();
    if length <= SYSTEM_MAX {
        return Ok(());
    }
    let least = if length >= INSTRUCTIONS_READ { "at least " } else { "" };
    let detail = format!(
        "what this agent is told before its conversations has {least}{length} bytes, and at most {SYSTEM_MAX} are \
         taken: shorten AGENTS.md (or CLAUDE.md) in its definition, or have fewer skills. What is only needed \
         now and then can be a skill's text"
    );
    Err(Failure::permanent(Failure::AGENT_BROKEN, detail))
}

/// The limits of one turn.
#[derive(Debug)]
pub(super) struct Limits {
    span: Duration,
    deadline: Monotonic,
    run_end: Option<Monotonic>,
    tool: Option<Tool>,
    grace_end: Option<Monotonic>,
    max_turns: u32,
    turns: u32,
    asked: u32,
}

/// The tool that runs.
#[derive(Debug)]
struct Tool {
    name: String,
    span: Duration,
    end: Monotonic,
}

impl Limits {
    /// For a turn that begins `now`, takes up to `span` and up to `max_turns` model turns.
    pub(super) fn new(now: Monotonic, span: Duration, max_turns: u32) -> Self {
        let deadline = now + span;
        let (run_end, tool, grace_end) = (None, None, None);
        Self { span, deadline, run_end, tool, grace_end, max_turns, turns: 0, asked: 0 }
    }

    /// The same for a turn of a scheduled run, which has limits of its own: fewer model turns, and
    /// the time until `end`.
    pub(super) fn of_run(self, max_turns: Option<u32>, end: Option<Monotonic>) -> Self {
        let max_turns = max_turns.map_or(self.max_turns, |turns| turns.min(self.max_turns));
        Self { max_turns, run_end: end, ..self }
    }

    /// How many model turns it may take.
    pub(super) fn max_turns(&self) -> u32 {
        self.max_turns
    }

    /// When the turn has to be over.
    pub(super) fn deadline(&self) -> Monotonic {
        self.run_end.map_or(self.deadline, |end| end.min(self.deadline))
    }

    /// How many model turns were taken.
    pub(super) fn turns(&self) -> u32 {
        self.turns
    }

    /// A tool begins `now` and takes up to `span`.
    pub(super) fn tool_started(&mut self, name: String, now: Monotonic, span: Duration) {
        self.tool = Some(Tool { name, span, end: now + span });
    }

    /// The tool that runs, and for how long it may.
    pub(super) fn tool(&self) -> Option<(String, Duration)> {
        self.tool.as_ref().map(|tool| (tool.name.clone(), tool.span))
    }

    /// No tool runs any more. Returns whether one did.
    pub(super) fn tool_ended(&mut self) -> bool {
        self.tool.take().is_some()
    }

    /// The process was told to leave, and has until `end`. The first word counts.
    pub(super) fn begin_grace(&mut self, end: Monotonic) {
        self.grace_end.get_or_insert(end);
    }

    /// Whether the process was told to leave.
    pub(super) fn is_leaving(&self) -> bool {
        self.grace_end.is_some()
    }

    /// Counts model turns; says so when they are more than allowed.
    ///
    /// # Errors
    /// Why the turn ends.
    pub(super) fn count(&mut self, turns: u32) -> Result<(), Failure> {
        self.turns = self.turns.saturating_add(turns);
        let (taken, allowed) = (self.turns, self.max_turns);
        if taken <= allowed {
            return Ok(());
        }
        let detail = format!("it took {taken} model turns, {allowed} are allowed");
        Err(Failure::permanent(Failure::TURN_LIMIT, detail))
    }

    /// Counts something that people are asked.
    ///
    /// # Errors
    /// A sentence for the agent: it is not asked.
    pub(super) fn ask(&mut self, asking: &Asking) -> Result<(), String> {
        let fits = match asking {
            Asking::Permission { tool, arguments } => bounds::TOOL
                .check("the name of the tool", tool.len())
                .and_then(|()| ARGUMENTS.check("what it is given", arguments.len())),
            Asking::Question { question, choices } => bounds::QUESTION
                .check("`question`", question.len())
                .and_then(|()| bounds::QUESTION.check("`choices`", choices.len())),
        };
        fits.map_err(|too_much| format!("Nobody was asked: {too_much}."))?;
        self.ask_one()
    }

    /// As [`Limits::ask`], for a request to the host that asks people, and that nobody waits for. What is in it is
    /// the host's to judge, as in every request.
    ///
    /// # Errors
    /// A sentence for the agent: it is not asked.
    pub(super) fn ask_later(&mut self, request: &Value) -> Result<(), String> {
        match request["action"].as_str() {
            Some("ask" | "ask_permission") => self.ask_one(),
            _ => Ok(()),
        }
    }

    fn ask_one(&mut self) -> Result<(), String> {
        if self.asked >= ASKED_MAX {
            return Err(format!(
                "Nobody was asked: people were asked {ASKED_MAX} things in this turn, which is the most."
            ));
        }
        self.asked += 1;
        Ok(())
    }

    /// The next instant at which a limit may be reached.
    pub(super) fn next(&self) -> Monotonic {
        let tool = self.tool.as_ref().map(|tool| tool.end);
        let earlier = [self.grace_end, tool].into_iter().flatten();
        earlier.fold(self.deadline(), Monotonic::min)
    }

    /// Why the turn has to end at `now`; `None` while it may go on.
    pub(super) fn reached(&self, now: Monotonic) -> Option<Failure> {
        if self.run_end.is_some_and(|end| now >= end) {
            return Some(Failure::permanent(Failure::TIMEOUT, "the time of the run was over"));
        }
        if let Some(Tool { name, span, end }) = &self.tool
            && now >= *end
        {
            let detail = format!("the tool {name} ran for longer than {} ms", span.as_millis());
            return Some(Failure::retryable(Failure::TIMEOUT, detail));
        }
        if now >= self.deadline {
            let during = match &self.tool {
                Some(tool) => format!(", in the tool {}", tool.name),
                None => String::new(),
            };
            let detail = format!("the turn took longer than {} s{during}", self.span.as_secs());
            return Some(Failure::retryable(Failure::TIMEOUT, detail));
        }
        self.grace_end
            .is_some_and(|end| now >= end)
            .then(|| Failure::retryable(Failure::RELEASED, "the runner was told to leave"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn whichever_limit_comes_first_ends_the_turn() {
        type Events = fn(&mut Limits, Monotonic);
        let cases: [(&str, Events, u32, &str, &str); 5] = [
            ("nothing", |_, _| {}, 10, Failure::TIMEOUT, "longer than 10 s"),
            (
                "a short tool",
                |it, now| it.tool_started("Bash".to_owned(), now, SECOND),
                1,
                Failure::TIMEOUT,
                "Bash ran for longer than 1000 ms",
            ),
            (
                "a long tool",
                |it, now| it.tool_started("Bash".to_owned(), now, SECOND * 60),
                10,
                Failure::TIMEOUT,
                "in the tool Bash",
            ),
            (
                "a tool that ended",
                |it, now| {
                    it.tool_started("Bash".to_owned(), now, SECOND);
                    assert!(it.tool_ended() && !it.tool_ended());
                },
                10,
                Failure::TIMEOUT,
                "longer than 10 s",
            ),
            (
                "told to leave, and then again",
                |it, now| {
                    it.begin_grace(now + SECOND * 2);
                    it.begin_grace(now + SECOND * 5);
                    assert!(it.is_leaving());
                },
                2,
                Failure::RELEASED,
                "told to leave",
            ),
        ];
        for (case, happens, seconds, reason, detail) in cases {
            let now = Monotonic::default();
            let mut limits = Limits::new(now, SECOND * 10, 3);
            happens(&mut limits, now);
            let end = now + SECOND * seconds;
            assert_eq!(limits.next(), end, "{case}");
            let before = now + (SECOND * seconds - Duration::from_millis(1));
            assert_eq!(limits.reached(before), None, "{case}");
            let failure = limits.reached(end).unwrap();
            assert_eq!(failure.reason, reason, "{case}");
            assert!(failure.detail.contains(detail) && failure.retryable, "{case}: {failure:?}");
        }
    }

    #[test]
    fn a_run_has_limits_of_its_own_and_never_more_than_the_agent() {
        let now = Monotonic::default();
        let agent = || Limits::new(now, SECOND * 10, 3);
        let run = agent().of_run(Some(2), Some(now + SECOND));
        assert_eq!((run.max_turns(), run.deadline(), run.next()), (2, now + SECOND, now + SECOND));
        let over = run.reached(now + SECOND).unwrap();
        assert_eq!((over.reason.as_str(), over.retryable), (Failure::TIMEOUT, false));
        let wide = agent().of_run(Some(9), Some(now + SECOND * 60));
        assert_eq!((wide.max_turns(), wide.deadline()), (3, now + SECOND * 10));
        assert!(wide.reached(now + SECOND * 10).unwrap().retryable, "its turn was too long");
        let none = agent().of_run(None, None);
        assert_eq!((none.max_turns(), none.deadline()), (3, now + SECOND * 10));
    }

    #[test]
    fn people_are_asked_so_much_and_so_often() {
        let mut limits = Limits::new(Monotonic::default(), SECOND, 3);
        let permission = |tool: usize, arguments: usize| Asking::Permission {
            tool: "t".repeat(tool),
            arguments: "a".repeat(arguments),
        };
        let question = |question: usize, choices: usize| Asking::Question {
            question: "q".repeat(question),
            choices: "c".repeat(choices),
        };
        let (tool, text) = (bounds::TOOL.most, bounds::QUESTION.most);
        for (asking, what) in [
            (permission(tool + 1, 1), "the name of the tool has 129 bytes, at most 128"),
            (permission(1, ARGUMENTS_MAX + 1), "what it is given has 8001 bytes, at most 8000"),
            (question(text + 1, 1), "`question` has 2049 bytes, at most 2048"),
            (question(1, text + 1), "`choices` has 2049 bytes, at most 2048"),
        ] {
            let why = limits.ask(&asking).unwrap_err();
            assert!(why.starts_with("Nobody was asked: ") && why.contains(what), "{why}");
        }
        for asking in [permission(tool, ARGUMENTS_MAX), question(text, text)] {
            limits.ask(&asking).unwrap();
        }
        let (later, task) = (json!({"action": "ask"}), json!({"action": "list_tasks"}));
        for _ in (2..ASKED_MAX).step_by(2) {
            limits.ask(&question(1, 3)).unwrap();
            limits.ask_later(&later).unwrap();
        }
        assert!(limits.ask(&question(1, 3)).unwrap_err().contains("50 things"));
        assert!(limits.ask_later(&later).is_err() && limits.ask_later(&task).is_ok());
    }

    #[test]
    fn what_an_agent_is_told_before_all_has_a_bound_that_says_what_to_do() {
        assert_eq!(fits_system(&"x".repeat(SYSTEM_MAX)), Ok(()));
        let failure = fits_system(&"x".repeat(SYSTEM_MAX + 1)).unwrap_err();
        assert_eq!(failure.reason, Failure::AGENT_BROKEN);
        let said = ["has 121857 bytes, and at most 121856", "shorten AGENTS.md"];
        assert!(said.iter().all(|it| failure.detail.contains(it)), "{}", failure.detail);
        let cut = fits_system(&"x".repeat(INSTRUCTIONS_READ)).unwrap_err();
        assert!(cut.detail.contains("has at least 1048576 bytes"), "{}", cut.detail);
    }

    #[test]
    fn model_turns_are_counted_up_to_the_allowed_number() {
        let mut limits = Limits::new(Monotonic::default(), SECOND, 3);
        assert_eq!((limits.count(2), limits.count(1)), (Ok(()), Ok(())));
        let failure = limits.count(u32::MAX).unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.retryable), (Failure::TURN_LIMIT, false));
        assert_eq!(limits.turns(), u32::MAX, "without an overflow");
    }
}
