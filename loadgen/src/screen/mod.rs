//! The live screen: how a run stands, drawn on the terminal while it runs, or a bar, or plain lines where there is none.
//!
//! Promises: costs the caller one small copy and one message per report, and drops the message when the thread that draws
//! is behind; redraws at most four times a second, on a thread of its own; gives the terminal back as it was however the
//! run ends, by a panic or a signal too; switches itself off where nobody could see it ([`DisplayMode::choose`]). Writes
//! to standard error only, so that results can be piped. Never decides anything about the run: the key that stops it
//! sends this process the signal that Ctrl-C would.
//!
//! Keys: `q`, Ctrl-C stop the run; `p` holds the display still. When the run is being stopped the screen gives way to
//! plain lines, so that what is said about stopping can be read.

mod display;
mod history;
mod live;
mod mode;
mod snapshot;
mod terminal;
mod text;
mod view;

pub use display::Display;
pub use mode::{ColorMode, DisplayMode, ScreenMode, Surroundings, Wishes};
pub use snapshot::{EndpointRow, LagRow, LatencyRow, OperationRow, OutcomeRow, Snapshot};
