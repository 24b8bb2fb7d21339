//! `rescind agent`.

use clap::Args;

use super::configuration::{AgentFlags, Process, run};
use super::exit::{Exit, Failure};
use crate::app;

#[derive(Debug, Args)]
pub(super) struct Agent {
    #[command(flatten)]
    process: Process,
    #[command(flatten)]
    agent: AgentFlags,
}

impl Agent {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let config = self.process.agent(self.agent)?;
        run(config.log, app::agent(config)).map(|()| Exit::Done)
    }
}
