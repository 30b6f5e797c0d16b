//! Which display a run gets: what the user wishes, and what the surroundings allow.

use std::env;
use std::io::{self, IsTerminal};

use clap::ValueEnum;

/// `--screen`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ScreenMode {
    /// The live screen where somebody can see it.
    #[default]
    Auto,
    /// The live screen wherever standard error is a terminal.
    On,
    /// A bar or plain lines.
    Off,
}

/// `--color`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorMode {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always, `NO_COLOR` or not.
    Always,
    /// Never.
    Never,
}

/// What the user wishes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `--screen`.
    pub screen: ScreenMode,
    /// `--color`.
    pub color: ColorMode,
    /// `--quiet`.
    pub quiet: bool,
    /// `--json`: somebody reads the output by program.
    pub json: bool,
}

/// What the process finds around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surroundings {
    /// Standard output is a terminal.
    pub stdout_is_terminal: bool,
    /// Standard error is a terminal.
    pub stderr_is_terminal: bool,
    /// `TERM` is `dumb` or empty: no cursor can be moved.
    pub dumb: bool,
    /// `CI` is set, and neither empty nor `false`.
    pub ci: bool,
    /// `NO_COLOR` is set and not empty (no-color.org).
    pub no_color: bool,
}

impl Surroundings {
    /// Looks around.
    pub fn look() -> Surroundings {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        Surroundings {
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal: io::stderr().is_terminal(),
            dumb: variable("TERM").is_none_or(|term| term == "dumb"),
            ci: variable("CI").is_some_and(|ci| ci != "false"),
            no_color: variable("NO_COLOR").is_some(),
        }
    }

    /// Whether something written to this kind of place should be coloured.
    pub fn color(&self, mode: ColorMode, is_terminal: bool) -> bool {
        match mode {
            ColorMode::Always => true,
            ColorMode::Never => false,
            ColorMode::Auto => is_terminal && !self.no_color && !self.dumb,
        }
    }
}

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisplayMode {
    /// Not at all.
    Silent,
    /// On the live screen.
    Screen {
        /// With colours.
        color: bool,
    },
    /// As a bar that is drawn over.
    Bar,
    /// As a line now and then.
    Lines,
}

impl DisplayMode {
    /// The best display that is wished for and possible. `--quiet` wins over everything. `--screen on` overrules `CI`,
    /// `--json` and a standard output that is no terminal, but cannot draw where standard error is no terminal, or a dumb
    /// one.
    pub fn choose(wishes: Wishes, around: Surroundings) -> DisplayMode {
        if wishes.quiet {
            return DisplayMode::Silent;
        }
        if !around.stderr_is_terminal {
            return DisplayMode::Lines;
        }
        let convenient = around.stdout_is_terminal && !around.ci && !wishes.json;
        let screen = match wishes.screen {
            ScreenMode::Off => false,
            ScreenMode::On => !around.dumb,
            ScreenMode::Auto => !around.dumb && convenient,
        };
        match screen {
            true => DisplayMode::Screen {
                color: around.color(wishes.color, true),
            },
            false if around.dumb => DisplayMode::Lines,
            false => DisplayMode::Bar,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMINAL: Surroundings = Surroundings {
        stdout_is_terminal: true,
        stderr_is_terminal: true,
        dumb: false,
        ci: false,
        no_color: false,
    };

    const SCREEN: DisplayMode = DisplayMode::Screen { color: true };

    fn check(screen: ScreenMode, change: impl FnOnce(&mut Wishes, &mut Surroundings), expected: DisplayMode) {
        let mut wishes = Wishes {
            screen,
            ..Wishes::default()
        };
        let mut around = TERMINAL;
        change(&mut wishes, &mut around);
        assert_eq!(
            DisplayMode::choose(wishes, around),
            expected,
            "{wishes:?} {around:?}"
        );
    }

    #[test]
    fn the_screen_is_on_only_where_somebody_sees_it() {
        use DisplayMode::*;
        use ScreenMode::*;
        check(Auto, |_, _| {}, SCREEN);
        check(Auto, |wishes, _| wishes.quiet = true, Silent);
        check(Auto, |wishes, _| wishes.json = true, Bar);
        check(Auto, |_, around| around.ci = true, Bar);
        check(Auto, |_, around| around.dumb = true, Lines);
        check(Auto, |_, around| around.stdout_is_terminal = false, Bar);
        check(Auto, |_, around| around.stderr_is_terminal = false, Lines);
        check(Off, |_, _| {}, Bar);
        check(Off, |_, around| around.dumb = true, Lines);
        check(On, |_, _| {}, SCREEN);
        check(
            On,
            |wishes, around| (wishes.json, around.ci, around.stdout_is_terminal) = (true, true, false),
            SCREEN,
        );
        check(On, |_, around| around.dumb = true, Lines);
        check(On, |_, around| around.stderr_is_terminal = false, Lines);
        check(On, |wishes, _| wishes.quiet = true, Silent);
    }

    #[test]
    fn colours_follow_the_flag_then_the_variable_then_the_terminal() {
        let no_color = Surroundings {
            no_color: true,
            ..TERMINAL
        };
        assert!(TERMINAL.color(ColorMode::Auto, true) && !TERMINAL.color(ColorMode::Auto, false));
        assert!(!no_color.color(ColorMode::Auto, true));
        assert!(no_color.color(ColorMode::Always, false) && !TERMINAL.color(ColorMode::Never, true));
        let plain = DisplayMode::Screen { color: false };
        check(ScreenMode::Auto, |_, around| around.no_color = true, plain);
        check(
            ScreenMode::Auto,
            |wishes, _| wishes.color = ColorMode::Never,
            plain,
        );
    }
}
