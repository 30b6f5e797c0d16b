//! `loadgen compare --target A --target B`: trials of both in turns, each on a store of its own.
//!
//! Every trial starts what has no endpoints afresh and stops it again, so no trial meets what another left behind. Trial
//! number n of both sides has the same seed, so both sides are asked the same operations at the same times. Nothing is put on
//! disk before the trials begin.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Parser;
use reports::record::{DEFAULT_RUNS_ROOT, Run, default_run_path};
use serde_json::Value;

use super::CommandError;
use super::args::{Cli, Command, RunArgs};
use super::identity::{drawn_seed, unix_time_ms};
use super::interrupt::Interrupts;
use super::probing::block_on;
use super::recording::{configuration, record_error};
use super::run_command::{config, measure};
use crate::compare::{Side, SideName, Trial, interleave};

/// The recorded runs of both sides.
pub(super) type Folders = (Vec<PathBuf>, Vec<PathBuf>);

/// Two targets and how their trials are made.
pub(super) struct Sides {
    base: LiveSide,
    new: LiveSide,
}

impl Sides {
    /// Two targets, whose trials have the options of `loadgen run` that follow `--`.
    pub(super) fn of(targets: &[String], options: &[String]) -> Result<Sides, CommandError> {
        let [base, new] = targets else {
            return Err(CommandError::usage(
                "name two targets: --target raft:// --target etcd://",
            ));
        };
        let usual = super::compare_command::TRIAL.map(str::to_owned);
        let options = if options.is_empty() { &usual } else { options };
        let seed = drawn_seed(unix_time_ms());
        Ok(Sides {
            base: LiveSide::new("base", base, options, seed)?,
            new: LiveSide::new("new", new, options, seed)?,
        })
    }

    /// What the manifests of both will say was asked for, as far as it is known before anything is started.
    pub(super) fn configurations(&self) -> [&Value; 2] {
        [&self.base.configuration, &self.new.configuration]
    }
}

/// Makes `trials` trials of each of two targets.
pub(super) fn trials(sides: Sides, trials: usize) -> Result<Folders, CommandError> {
    let Sides { mut base, mut new } = sides;
    let root = default_run_path(Path::new(DEFAULT_RUNS_ROOT), "compare", unix_time_ms());
    base.root = root.map_err(record_error)?;
    new.root.clone_from(&base.root);
    block_on(async {
        let interrupts = Rc::new(Interrupts::listen()?);
        base.interrupts = Some(Rc::clone(&interrupts));
        new.interrupts = Some(interrupts);
        let watch = |side, number| {
            let name = match side {
                SideName::Base => "base",
                SideName::New => "new",
            };
            // Somebody who closed standard error does not want to know.
            let _ = writeln!(io::stderr(), "trial {} of {trials}, {name}", number + 1);
        };
        interleave(&mut base, &mut new, trials, watch).await
    })?;
    Ok((base.folders, new.folders))
}

/// One side: how its runs are made, and where they are.
struct LiveSide {
    name: &'static str,
    args: RunArgs,
    configuration: Value,
    /// Where the folders of its trials are; empty before they begin.
    root: PathBuf,
    folders: Vec<PathBuf>,
    seed: u64,
    /// The same for all trials of both sides, once they begin.
    interrupts: Option<Rc<Interrupts>>,
}

impl LiveSide {
    fn new(
        name: &'static str,
        target: &str,
        options: &[String],
        seed: u64,
    ) -> Result<LiveSide, CommandError> {
        let words = ["loadgen", "run", "--target", target].map(str::to_owned);
        let cli = Cli::try_parse_from(words.iter().chain(options)).map_err(|error| {
            CommandError::usage(format!(
                "the options after `--` are those of `loadgen run`: {error}"
            ))
        })?;
        let Command::Run(mut args) = cli.command else {
            return Err(CommandError::usage(
                "the options after `--` are those of `loadgen run`",
            ));
        };
        if args.output.out.is_some() {
            return Err(CommandError::usage(
                "the trials have folders of their own: leave out --out",
            ));
        }
        args.output.no_report = true;
        args.output.no_history = true;
        args.output.quiet = true;
        let target = args.target.endpoints().map_err(CommandError::usage)?;
        let configuration = configuration(&args, &args.output, &config(&args, 0)?, &target.to_string());
        Ok(LiveSide {
            name,
            configuration,
            seed: args.load.seed.unwrap_or(seed),
            args: *args,
            root: PathBuf::new(),
            folders: Vec::new(),
            interrupts: None,
        })
    }
}

impl Side for LiveSide {
    type Error = CommandError;

    async fn trial(&mut self, number: usize) -> Result<Trial, CommandError> {
        let interrupts = match &self.interrupts {
            Some(interrupts) => Rc::clone(interrupts),
            None => Rc::new(Interrupts::listen()?),
        };
        if interrupts.happened() {
            return Err(interrupted());
        }
        let folder = self.root.join(format!("{:02}-{}", number + 1, self.name));
        self.args.output.out = Some(folder.clone());
        self.args.output.name = format!("{}-{}", self.name, number + 1);
        self.args.load.seed = Some(self.seed.wrapping_add(number as u64));
        let now_ms = unix_time_ms();
        let config = config(&self.args, now_ms)?;
        let measured = measure(&self.args, config, now_ms, interrupts.stop()).await?;
        if measured.outcome.stopped {
            return Err(interrupted());
        }
        let run = Run::read(&measured.folder).map_err(record_error)?;
        self.folders.push(folder);
        Trial::of(&self.args.output.name, &run).map_err(CommandError::environment)
    }
}

fn interrupted() -> CommandError {
    CommandError {
        code: super::INTERRUPTED,
        text: "interrupted before there was a comparison; the trials so far are recorded".into(),
    }
}
