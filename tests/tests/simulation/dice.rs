//! What is left to chance: a seed decides, or an explorer that tries everything, of which only so many
//! things may go wrong in one play.

/// What decides.
#[derive(Debug, Clone)]
pub(crate) enum Dice {
    Seed(fastrand::Rng),
    Script(Script),
}

/// Choices that are given, and what was asked beyond them, which is answered with the first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    given: Vec<usize>,
    /// Of each question, how many answers it had.
    sizes: Vec<usize>,
    /// How many more things may go wrong.
    faults: usize,
}

impl Script {
    pub(crate) fn new(given: Vec<usize>, faults: usize) -> Self {
        Self { given, sizes: Vec::new(), faults }
    }

    pub(crate) fn faults(&self) -> usize {
        self.faults
    }

    fn ask(&mut self, answers: usize) -> usize {
        let answer = self.given.get(self.sizes.len()).copied().unwrap_or(0);
        self.sizes.push(answers);
        answer
    }

    /// The next choices to try, if there are any that were not tried.
    pub(crate) fn next(self) -> Option<Vec<usize>> {
        let Self { mut given, sizes, .. } = self;
        given.resize(sizes.len(), 0);
        while let Some(last) = given.pop() {
            if last + 1 < sizes[given.len()] {
                given.push(last + 1);
                return Some(given);
            }
        }
        None
    }
}

impl Dice {
    /// Something that goes wrong `of_256` times in 256.
    pub(crate) fn fault(&mut self, of_256: u8) -> bool {
        match self {
            Self::Seed(rng) => rng.u8(..) < of_256,
            Self::Script(script) if script.faults == 0 => false,
            Self::Script(script) => {
                let happens = script.ask(2) == 1;
                script.faults -= usize::from(happens);
                happens
            }
        }
    }

    /// One of `weights`, each as often as it weighs. An explorer takes the last for what is meant to
    /// happen, and the others for what may go wrong.
    pub(crate) fn weighted(&mut self, weights: &[u32]) -> usize {
        match self {
            Self::Seed(rng) => {
                let mut at = rng.u32(..weights.iter().sum::<u32>());
                let heavier = |weight: &u32| {
                    let here = at < *weight;
                    at = at.saturating_sub(*weight);
                    here
                };
                weights.iter().position(heavier).expect("less than all together")
            }
            Self::Script(script) if script.faults == 0 => weights.len() - 1,
            Self::Script(script) => {
                let answer = script.ask(weights.len());
                script.faults -= usize::from(answer > 0);
                weights.len() - 1 - answer
            }
        }
    }

    /// One of `count`, each of which may happen.
    pub(crate) fn pick(&mut self, count: usize) -> usize {
        match self {
            Self::Seed(rng) => rng.usize(..count),
            Self::Script(script) => script.ask(count),
        }
    }

    /// Something that an explorer leaves out.
    pub(crate) fn seldom(&mut self, of_256: u8) -> bool {
        match self {
            Self::Seed(rng) => rng.u8(..) < of_256,
            Self::Script(_) => false,
        }
    }

    /// The dice of a play by a seed.
    pub(crate) fn seeded(&mut self) -> &mut fastrand::Rng {
        match self {
            Self::Seed(rng) => rng,
            Self::Script(_) => unreachable!("an explorer chooses what happens itself"),
        }
    }
}
