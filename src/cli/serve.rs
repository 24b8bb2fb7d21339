//! `rescind serve`.

use clap::Args;

use super::configuration::{Process, ServerFlags, run};
use super::exit::{Exit, Failure};
use crate::app;

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    process: Process,
    #[command(flatten)]
    server: ServerFlags,
}

impl Serve {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let config = self.process.server(self.server)?;
        run(config.log, app::serve(config)).map(|()| Exit::Done)
    }
}
