//! `command`: a program with arguments, never a shell.
//!
//! Invariants: each argument of the tool file becomes exactly one argument of the program, and a value can't turn one
//! into an option; the program leads a process group of its own, and the whole group is dead, and the program reaped,
//! before a call returns, however it ends; it sees only `PATH`, `LANG` and the listed variables; its output is read all
//! the time, kept within a bound, and stopped at another.
//! Deliberately absent: memory and file limits, and a hold on a program that leaves its process group by `setsid`: it
//! can't keep a call from ending, but lives on.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::output::{self, Kept, Open};
use super::variables::Listed;
use super::{Given, Stop, Stopped, ToolContext};
use crate::domain::plan::{ToolKind, ToolPlan};
use crate::domain::template;
use crate::units::{Millis, grouped};

/// The most that a program may write before it is killed, on each of its two streams.
pub const STREAM_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How much of the end of standard error an error shows.
const STDERR_BYTES_MAX: usize = 4 * 1024;
/// How long what is left in the pipes is read after the program has ended. Whoever left the group may hold them open.
const DRAIN_MAX: Duration = Duration::from_millis(250);
/// How long a killed program may take to be gone.
const REAP_MAX: Duration = Duration::from_secs(2);
/// Where programs are looked for when `PATH` is unset.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";
/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// Runs the program, and waits until it and its group have ended.
pub(super) async fn call(tool: &ToolPlan, arguments: &Value, context: &ToolContext, stop: Stop) -> Given {
    let prepared = match prepare(tool, arguments, context) {
        Ok(prepared) => prepared,
        Err(fault) => return Given::never_began(fault),
    };
    perform(prepared, output::limit(tool), stop).await
}

/// Runs a program that no model asked for, by the same rules: its arguments as they are, `stdin` at its standard input.
///
/// # Errors
/// It couldn't be started, failed, or didn't end in time; in words, with the last of what it said.
pub(crate) async fn run_program(
    (command, directory, env): (&[String], &str, &[String]),
    stdin: String,
    context: &ToolContext,
    time_limit: Millis,
) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Err("no program is named".to_owned()) };
    let place = Place { program, directory, env };
    let prepared = place.prepare(arguments.to_vec(), Some(stdin), context);
    let given = perform(prepared, STDERR_BYTES_MAX, Stop { time_limit, cancel: context.cancel.clone() }).await;
    if given.is_error { Err(given.content) } else { Ok(()) }
}

async fn perform(prepared: Prepared, limit: usize, stop: Stop) -> Given {
    let Prepared { program, command, stdin, variables } = prepared;
    let mut group = match Group::start(command) {
        Ok(group) => group,
        Err(error) => return Given::never_began(format!("the program `{program}` can't be started: {error}")),
    };
    let mut streams = Streams::new(limit);
    let end = run(&mut group, &mut streams, stdin.as_deref(), stop).await;
    told(&program, end, streams, limit, &variables)
}

/// How a program ended.
enum End {
    Exited(ExitStatus),
    Stopped(Stopped),
    Flooded,
    Lost(std::io::Error),
}

/// All that a start takes.
struct Prepared {
    program: String,
    command: CommandWrap,
    stdin: Option<String>,
    variables: Listed,
}

fn prepare(tool: &ToolPlan, arguments: &Value, context: &ToolContext) -> Result<Prepared, String> {
    let ToolKind::Command { command, directory, env, stdin } = &tool.kind else {
        return Err(format!("`{}` is no command tool", tool.name));
    };
    let (program, templates) = command.split_first().ok_or_else(|| format!("`{}` names no program", tool.name))?;
    let values = json!({ "args": arguments });
    let rendered = rendered(templates, &values)?;
    let stdin = stdin.as_ref().map(|stdin| template::render(stdin, &values)).transpose();
    let stdin = stdin.map_err(|error| format!("standard input of `{program}`: {error}"))?;
    Ok(Place { program, directory, env }.prepare(rendered, stdin, context))
}

/// Where a program runs, and what it sees.
struct Place<'a> {
    program: &'a String,
    directory: &'a str,
    env: &'a [String],
}

impl Place<'_> {
    fn prepare(&self, arguments: Vec<String>, stdin: Option<String>, context: &ToolContext) -> Prepared {
        let Self { program, directory, env } = *self;
        let variables = context.variables.listed(env);
        let path = context.variables.read("PATH").unwrap_or_else(|| PATH_DEFAULT.to_owned());
        let command = CommandWrap::with_new(located(program, directory), |command| {
            command.args(arguments).current_dir(directory).env_clear().env("PATH", path).env("LANG", "C.UTF-8");
            command.envs(variables.iter());
            command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        });
        Prepared { program: program.clone(), command, stdin, variables }
    }
}

/// A program with a `/` is relative to the tool's directory; another is looked for in `PATH`.
fn located(program: &str, directory: &str) -> std::path::PathBuf {
    if program.contains('/') { Path::new(directory).join(program) } else { program.into() }
}

/// Renders each argument. After a literal `--` nothing is an option any more.
fn rendered(templates: &[String], values: &Value) -> Result<Vec<String>, String> {
    let mut options_ended = false;
    let mut rendered = Vec::with_capacity(templates.len());
    for (index, written) in templates.iter().enumerate() {
        let argument = template::render(written, values).map_err(|error| format!("argument {}: {error}", index + 1))?;
        if argument.contains('\0') {
            return Err(format!("argument {} (`{written}`) has a NUL byte, which no argument can have", index + 1));
        }
        if argument.starts_with('-') && !written.starts_with('-') && !options_ended {
            return Err(format!("argument {} (`{written}`) begins with `-` and would be an option", index + 1));
        }
        options_ended |= written == "--";
        rendered.push(argument);
    }
    Ok(rendered)
}

/// A running program and its group. Dropped before its end, it kills the group.
struct Group {
    child: Box<dyn ChildWrapper>,
    ended: bool,
}

impl Group {
    fn start(mut command: CommandWrap) -> std::io::Result<Self> {
        let child = command.wrap(ProcessGroup::leader()).wrap(KillOnDrop).spawn()?;
        Ok(Self { child, ended: false })
    }

    /// Waits for the program, not for what it left behind.
    async fn leader_end(&mut self) -> End {
        match self.child.inner_mut().wait().await {
            Ok(status) => End::Exited(status),
            Err(error) => End::Lost(error),
        }
    }

    /// Kills whatever is left of the group and reaps it.
    async fn finish(&mut self) {
        self.kill();
        // Past this bound the runtime reaps it in the background; a process that the kernel can't end can't hold us up.
        self.ended = timeout(REAP_MAX, self.child.wait()).await.is_ok();
    }

    /// The group's number stays taken while a member lives, so nobody else is hit.
    fn kill(&mut self) {
        if let Err(error) = self.child.start_kill() {
            tracing::trace!(%error, "nothing of the group is left to kill");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
        }
    }
}

/// What a program has written so far.
struct Streams {
    stdout: Kept,
    stderr: Kept,
}

impl Streams {
    fn new(limit: usize) -> Self {
        Self { stdout: Kept::new(limit), stderr: Kept::new(STDERR_BYTES_MAX) }
    }
}

/// Feeds and reads the program until it ends, is stopped or floods; then ends the group and reads what is left.
async fn run(group: &mut Group, streams: &mut Streams, stdin: Option<&str>, stop: Stop) -> End {
    let pipes = (group.child.stdin().take(), group.child.stdout().take(), group.child.stderr().take());
    let copied = async {
        // The first flood ends all three, before a closed pipe ends the program by itself.
        tokio::try_join!(drain(pipes.1, &mut streams.stdout), drain(pipes.2, &mut streams.stderr), feed(pipes.0, stdin),)
    };
    tokio::pin!(copied);
    let mut copying = true;
    let stopped = stop.wait();
    tokio::pin!(stopped);
    let end = loop {
        tokio::select! {
            biased;
            stopped = &mut stopped => break End::Stopped(stopped),
            end = group.leader_end() => break end,
            read = &mut copied, if copying => {
                copying = false;
                if read.is_err() {
                    break End::Flooded;
                }
            }
        }
    };
    group.finish().await;
    if copying && timeout(DRAIN_MAX, copied).await.is_err() {
        tracing::debug!("a process outside its group holds the output of a tool open");
    }
    end
}

/// A stream gave more than [`STREAM_BYTES_MAX`].
struct Flood;

async fn drain(stream: Option<impl AsyncRead + Unpin>, kept: &mut Kept) -> Result<(), Flood> {
    let Some(mut stream) = stream else { return Ok(()) };
    let mut piece = vec![0; READ_BYTES];
    // A stream that can't be read any more has ended.
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        kept.push(&piece[..length]);
        if kept.total() > STREAM_BYTES_MAX {
            return Err(Flood);
        }
    }
    Ok(())
}

async fn feed(stream: Option<impl AsyncWrite + Unpin>, text: Option<&str>) -> Result<(), Flood> {
    let (Some(mut stream), Some(text)) = (stream, text) else { return Ok(()) };
    if let Err(error) = stream.write_all(text.as_bytes()).await {
        tracing::trace!(%error, "the program didn't read all of its standard input");
    }
    Ok(())
}

/// What the model is told.
fn told(program: &str, end: End, streams: Streams, limit: usize, variables: &Listed) -> Given {
    let clean = |text: String, open: Open| variables.redact(text, open);
    let why = match end {
        End::Exited(status) if status.success() => {
            let (content, cut_bytes) = streams.stdout.text(limit, clean);
            return Given { cut_bytes, ..Given::result(content) };
        }
        End::Exited(status) => failed(program, status),
        End::Stopped(stopped) => format!("`{program}` {}", stopped.words()),
        End::Flooded => format!("`{program}` wrote more than {} bytes and was stopped", grouped(STREAM_BYTES_MAX)),
        End::Lost(error) => format!("`{program}` was lost: {error}"),
    };
    let stderr = streams.stderr.tail_text(STDERR_BYTES_MAX, clean);
    let last = if stderr.trim().is_empty() { streams.stdout.tail_text(STDERR_BYTES_MAX, clean) } else { stderr };
    if last.trim().is_empty() { Given::error(why) } else { Given::error(format!("{why}:\n{}", last.trim_end())) }
}

fn failed(program: &str, status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("`{program}` failed with exit code {code}"),
        (None, Some(signal)) => format!("`{program}` was killed by signal {signal}"),
        (None, None) => format!("`{program}` failed"),
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
