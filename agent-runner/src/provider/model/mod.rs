//! `model`: has a model answer, by the way that the host gives.

mod api;
mod client;
mod conversation;

pub(crate) use client::Heard;

use twobox_shared::agent_config::{AgentConfig, Model as Settings};
use twobox_shared::content::Failure;

use super::{Done, Prompt, Provider, TurnHandle};
use crate::args::Options;

/// An agent whose turns a model answers.
pub(crate) struct Model;

impl Model {
    pub(crate) fn new(_: &Settings, _: &AgentConfig, _: &Options) -> Self {
        Self
    }
}

impl Provider for Model {
    fn turn(&mut self, _: &Prompt, _: &TurnHandle) -> Result<Done, Failure> {
        let detail = "this build of the runner cannot ask models";
        Err(Failure::permanent(Failure::AGENT_BROKEN, detail))
    }
}
