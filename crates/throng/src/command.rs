//! Commands of a site's own: `boxoffice import FILE` beside `boxoffice worker`.

use std::{future::Future, pin::Pin};

use clap::{ArgMatches, Args};

use crate::{Ctx, Result};

/// A command of the site. Its fields are the arguments, its doc comment is the help.
///
/// ```
/// use throng::{Command, Ctx, Result};
///
/// /// Counts to a number.
/// #[derive(clap::Args)]
/// #[command(after_help = "Example:\n  shop count 3")]
/// struct Count {
///     /// How far to count
///     to: u32,
/// }
///
/// impl Command for Count {
///     const NAME: &'static str = "count";
///
///     async fn run(self, cx: Ctx) -> Result {
///         for number in 1..=self.to {
///             println!("{number}");
///         }
///         Ok(())
///     }
/// }
///
/// let app = throng::App::new("shop").command::<Count>();
/// ```
///
/// It runs with every room open, after migrations, beside whatever else runs. What it returns as an
/// error is printed, and the exit code is 1.
pub trait Command: Args + Send + 'static {
    /// The word on the command line.
    const NAME: &'static str;

    /// Does what it says.
    fn run(self, cx: Ctx) -> impl Future<Output = Result> + Send;
}

/// A registered command, without its type.
pub(crate) struct Own {
    pub(crate) name: &'static str,
    pub(crate) spec: clap::Command,
    pub(crate) read: fn(&ArgMatches) -> Result<Ready, clap::Error>,
}

/// A command with its arguments, ready to run.
pub(crate) type Ready = Box<dyn FnOnce(Ctx) -> Pin<Box<dyn Future<Output = Result> + Send>> + Send>;

impl Own {
    pub(crate) fn of<C: Command>() -> Self {
        Self {
            name: C::NAME,
            spec: C::augment_args(clap::Command::new(C::NAME)),
            read: |matches| {
                let command = C::from_arg_matches(matches)?;
                Ok(Box::new(move |cx| Box::pin(command.run(cx))))
            },
        }
    }
}
