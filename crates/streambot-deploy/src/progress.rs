//! What the person at the terminal is told on standard error while a verb works: steps with their
//! times. On a terminal the step at work turns; elsewhere each is one plain line. It refuses to
//! know what the steps do; results are `cli.rs`'s, on standard output.

use std::fmt::Display;
use std::future::Future;
use std::io::IsTerminal as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::error::Result;

/// How the process tells its progress, from [`begin`] on.
static TOLD: OnceLock<Told> = OnceLock::new();

struct Told {
    started: Instant,
    quiet: bool,
    /// The lines that turn, where standard error is a terminal.
    terminal: Option<MultiProgress>,
}

fn told() -> &'static Told {
    TOLD.get_or_init(|| Told::new(false))
}

impl Told {
    fn new(quiet: bool) -> Self {
        let terminal = (!quiet && std::io::stderr().is_terminal()).then(MultiProgress::new);
        Self { started: Instant::now(), quiet, terminal }
    }

    fn line(&self, text: &str) {
        match &self.terminal {
            Some(terminal) => {
                let _ = terminal.println(text);
            }
            None => eprintln!("{text}"),
        }
    }
}

/// Starts the clock. With `quiet`, only warnings and errors are told. A second call changes
/// nothing.
pub(crate) fn begin(quiet: bool) {
    let _ = TOLD.set(Told::new(quiet));
}

/// Tells one line, with the time since the start.
pub(crate) fn say(text: impl Display) {
    let told = told();
    if !told.quiet {
        told.line(&format!("{} {text}", since(told.started)));
    }
}

/// Tells what may go wrong, even when quiet.
pub(crate) fn warn(text: impl Display) {
    told().line(&format!("warning: {text}"));
}

/// Does `work` under a line that says so: `text` is what is being done, such as "reading stack
/// `quakes-staging`".
///
/// # Errors
/// Those of `work`.
pub(crate) async fn step<T>(
    text: impl Display,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(terminal) = &told().terminal else {
        say(text);
        return work.await;
    };
    let started = Instant::now();
    let spinner = terminal.add(ProgressBar::new_spinner().with_message(text.to_string()));
    spinner.set_style(style("  {spinner} {msg} {elapsed:.dim}"));
    spinner.enable_steady_tick(Duration::from_millis(100));
    let done = work.await;
    spinner.finish_and_clear();
    terminal.remove(&spinner);
    let mark = if done.is_ok() { "\u{1b}[32m✓\u{1b}[0m" } else { "\u{1b}[31m✗\u{1b}[0m" };
    told().line(&format!("  {mark} {text} \u{1b}[2m{}\u{1b}[0m", seconds(started.elapsed())));
    done
}

/// Tells lines that are part of a conversation, without the time: what a question is about. Even
/// when quiet.
pub(crate) fn show(lines: &[String]) {
    for line in lines {
        told().line(line);
    }
}

/// Whether only warnings and errors are told.
pub(crate) fn quiet() -> bool {
    told().quiet
}

/// Whether what is told is read on a terminal, which shows colours and lines that change.
pub(crate) fn on_terminal() -> bool {
    told().terminal.is_some()
}

/// A line that changes in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// What the line is about, the same while its text changes.
    pub(crate) key: String,
    pub(crate) indent: usize,
    /// What stands before the text; while there is nothing, it turns.
    pub(crate) mark: Option<String>,
    pub(crate) text: String,
}

/// Lines that change in place on a terminal, and stay there as they were last when this is dropped.
/// Elsewhere they are not shown.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    shown: Vec<(Line, ProgressBar)>,
}

impl Lines {
    /// Shows these lines instead of those before. A line that was shown may not go.
    pub(crate) fn set(&mut self, lines: Vec<Line>) {
        let Some(terminal) = &told().terminal else { return };
        for (index, line) in lines.into_iter().enumerate() {
            let known = self.shown.get(index).is_some_and(|(shown, _)| shown.key == line.key);
            if !known {
                let bar = ProgressBar::new_spinner();
                let bar = match index.checked_sub(1).and_then(|before| self.shown.get(before)) {
                    Some((_, before)) => terminal.insert_after(before, bar),
                    None => terminal.insert(0, bar),
                };
                bar.enable_steady_tick(Duration::from_millis(100));
                self.shown.insert(
                    index,
                    (Line { mark: Some(String::new()), text: String::new(), ..line.clone() }, bar),
                );
            }
            let (shown, bar) = &mut self.shown[index];
            if *shown != line {
                bar.set_style(style(match line.mark {
                    Some(_) => "{prefix} {wide_msg}",
                    None => "{prefix}{spinner} {wide_msg}",
                }));
                bar.set_prefix(format!(
                    "{:indent$}{}",
                    "",
                    line.mark.as_deref().unwrap_or_default(),
                    indent = line.indent
                ));
                bar.set_message(line.text.clone());
                *shown = line;
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let Some(terminal) = &told().terminal else { return };
        for (_, bar) in &self.shown {
            bar.finish_and_clear();
            terminal.remove(bar);
        }
        for (line, _) in &self.shown {
            let mark = line.mark.as_deref().unwrap_or("…");
            told().line(&format!("{:indent$}{mark} {}", "", line.text, indent = line.indent));
        }
    }
}

/// A bar for an upload of so many bytes; it shows itself on a terminal only, and goes when it is
/// dropped.
pub(crate) fn upload_bar(bytes: u64) -> Bar {
    let bar = match &told().terminal {
        Some(terminal) => terminal.add(ProgressBar::new(bytes)),
        None => ProgressBar::hidden(),
    };
    bar.set_style(style("    {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}"));
    Bar(bar)
}

/// A bar that fills.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// How many bytes are on their way by now.
    pub(crate) fn set(&self, bytes: u64) {
        self.0.set_position(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn since(started: Instant) -> String {
    format!("[{:>5.1} s]", started.elapsed().as_secs_f64())
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
