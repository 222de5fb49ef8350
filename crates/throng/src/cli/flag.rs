//! An option of the command line that is there or not.

use clap::{Arg, ArgAction};

/// `--name`, without a value.
pub(super) fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}
