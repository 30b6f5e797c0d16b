//! Which display the command line's wishes and surroundings come to.

use std::time::Duration;

use crate::screen::{Display, DisplayMode, Surroundings, Wishes};

/// The display for a run that starts operations for `total`.
pub(super) fn display(wishes: Wishes, total: Duration) -> Display {
    Display::new(DisplayMode::choose(wishes, Surroundings::look()), total)
}
