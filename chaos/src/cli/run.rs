//! `chaos run`.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reports::record::{Outcome, Run, RunFolder, default_run_path};

use super::{FAILED, USAGE};
use crate::runner::{RunEvent, RunOptions, RunResult, run};
use crate::scenario::Scenario;

/// Where nobody watches a terminal, a line this often.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Scenario files; `chaos list` shows those that come with this program.
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,

    /// Folder of the run [default: target/runs/NAME-TIME]. With several scenarios, each gets a folder in it.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Everything random follows from it [default: the scenario's, or drawn].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Use a running toxiproxy-server, such as http://localhost:8474, instead of the embedded proxies.
    #[arg(long, value_name = "URL")]
    toxiproxy: Option<String>,

    /// Serve the embedded proxies' Toxiproxy-compatible API here, for a look with toxiproxy-cli.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "toxiproxy")]
    proxy_api: Option<std::net::SocketAddr>,

    /// Keep the nodes' data also after a pass.
    #[arg(long)]
    keep_data: bool,

    /// One more argument for every node process; may be repeated.
    #[arg(long = "node-arg", value_name = "ARG", allow_hyphen_values = true)]
    node_arguments: Vec<String>,

    /// Print one JSON document a scenario on standard output instead of the summary.
    #[arg(long)]
    json: bool,
}

pub(super) fn main(arguments: RunArgs) -> ExitCode {
    super::start_logging();
    // All files are read before the first run begins: a mistake in the last must not cost the time of the others.
    let mut scenarios = Vec::new();
    let mut wrong = false;
    for path in &arguments.scenarios {
        match Scenario::load(path) {
            Ok(scenario) => scenarios.push((path, scenario)),
            Err(error) => {
                eprintln!("{error}");
                wrong = true;
            }
        }
    }
    if let Some(out) = arguments.out.as_ref().filter(|out| holds_something(out)) {
        eprintln!(
            "error: {} is not empty; name a new folder for the run",
            out.display()
        );
        wrong = true;
    }
    if wrong {
        return ExitCode::from(USAGE);
    }
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let result = runtime.block_on(run_all(&arguments, &scenarios));
    match result {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn holds_something(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// Runs the scenarios one after the other; the most severe outcome counts.
async fn run_all(
    arguments: &RunArgs,
    scenarios: &[(&PathBuf, Scenario)],
) -> Result<Outcome, Box<dyn std::error::Error>> {
    let interrupt = super::watch_for_interrupt()?;
    let mut worst = Outcome::Pass;
    for (path, scenario) in scenarios {
        for warning in scenario.warnings() {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            tell(&warning.render(&path.display().to_string(), &text));
        }
        let options = options(arguments, path, scenario, scenarios.len())?;
        tell(&format!(
            "{}: {} (seed {})",
            scenario.name.value,
            options.folder.display(),
            options.seed
        ));
        let screen = Screen::new(arguments.json);
        let result = run(scenario, &options, interrupt.clone(), &|event| screen.show(event)).await;
        screen.finish();
        // What one scenario has shown is not undone by the next one failing.
        worst = worst.max(match &result {
            Ok(result) => result.verdict.outcome,
            Err(_) => Outcome::Error,
        });
        if let Err(error) = result
            .map_err(Into::into)
            .and_then(|result| present(&result, arguments.json))
        {
            tell(&format!("error: {}: {error}", scenario.name.value));
            worst = worst.max(Outcome::Error);
        }
        if *interrupt.borrow() {
            break;
        }
    }
    Ok(worst)
}

fn options(
    arguments: &RunArgs,
    path: &Path,
    scenario: &Scenario,
    scenarios: usize,
) -> Result<RunOptions, Box<dyn std::error::Error>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let name = scenario.name.value.as_str();
    let folder = match &arguments.out {
        Some(out) if scenarios > 1 => out.join(name),
        Some(out) => out.clone(),
        None => default_run_path(Path::new("target/runs"), name, now.as_millis() as u64)?,
    };
    let seed = arguments
        .seed
        .or(scenario.seed)
        .unwrap_or(now.as_nanos() as u64 % 1_000_000_007);
    let program = std::env::args().next().unwrap_or_else(|| "chaos".to_owned());
    let mut command = vec![program, "run".to_owned(), path.display().to_string()];
    command.extend(["--seed".to_owned(), seed.to_string()]);
    if let Some(url) = &arguments.toxiproxy {
        command.extend(["--toxiproxy".to_owned(), url.clone()]);
    }
    command.extend(
        arguments
            .node_arguments
            .iter()
            .map(|argument| format!("--node-arg={argument}")),
    );
    Ok(RunOptions {
        folder,
        seed,
        command,
        node_command: super::node_command()?,
        node_arguments: arguments.node_arguments.clone(),
        toxiproxy: arguments.toxiproxy.clone(),
        proxy_api: arguments.proxy_api,
        keep_data: arguments.keep_data,
    })
}

/// The result on standard output. Whoever closed it has seen enough.
fn present(result: &RunResult, json: bool) -> Result<(), Box<dyn std::error::Error>> {
    let folder = RunFolder::open(&result.folder)?;
    // A convenience for the next command; a file system without links is no failure.
    let _ = folder.mark_latest();
    let run = Run::read(&folder)?;
    let text = match json {
        true => format!("{}\n", serde_json::to_string(&reports::summary_json(&run))?),
        false => format!(
            "{}report: {}\n",
            reports::summary(&run),
            result.folder.join("report.html").display()
        ),
    };
    match io::stdout()
        .write_all(text.as_bytes())
        .and_then(|()| io::stdout().flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A line on standard error. A run does not end because nobody reads it.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Shows how a run goes: a bar on a terminal, plain lines elsewhere.
struct Screen {
    bar: Option<ProgressBar>,
    last_line: Mutex<Instant>,
}

impl Screen {
    fn new(quiet: bool) -> Screen {
        let bar = (std::io::stderr().is_terminal() && !quiet).then(|| {
            let style = ProgressStyle::with_template("{bar:30} {msg}").expect("the template is a constant");
            ProgressBar::new(0).with_style(style)
        });
        Screen {
            bar,
            last_line: Mutex::new(Instant::now()),
        }
    }

    fn show(&self, event: RunEvent) {
        match event {
            RunEvent::Ready {
                proxy_api: Some(address),
            } => {
                self.line(format!(
                    "  the cluster is up; proxies can be looked at with: toxiproxy-cli -h {address} list"
                ));
            }
            RunEvent::Ready { proxy_api: None } => self.line("  the cluster is up".to_owned()),
            RunEvent::Fault { at, what } => self.line(format!("  {:6.2} s  {what}", at as f64 / 1e9)),
            RunEvent::Settling => self.line("  load over; last look at every key".to_owned()),
            RunEvent::Judging => self.line("  judging".to_owned()),
            RunEvent::Progress {
                elapsed,
                total,
                ok,
                ok_per_second,
            } => {
                let text = format!(
                    "{:.0}/{:.0} s, {ok} ok, {ok_per_second:.0}/s",
                    elapsed.as_secs_f64(),
                    total.as_secs_f64()
                );
                self.progress(elapsed, total, text);
            }
        }
    }

    fn progress(&self, elapsed: Duration, total: Duration, text: String) {
        if let Some(bar) = &self.bar {
            bar.set_length(total.as_millis() as u64);
            bar.set_position(elapsed.as_millis() as u64);
            bar.set_message(text);
            return;
        }
        let mut last = self.last_line.lock().expect("nobody panics while printing");
        if last.elapsed() >= PLAIN_EVERY {
            *last = Instant::now();
            tell(&format!("  {text}"));
        }
    }

    fn line(&self, text: String) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => tell(&text),
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
