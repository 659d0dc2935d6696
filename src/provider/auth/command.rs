//! Keys and tokens that a program prints.

use std::process::Stdio;

use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};
use tokio::io::AsyncReadExt as _;

use super::{KEY_COMMAND_BYTES_MAX, KEY_COMMAND_TIME_MAX, Secret};

/// The first line that a program prints.
pub(super) async fn first_line(command: &[String]) -> Result<Secret, String> {
    let printed = tokio::time::timeout(KEY_COMMAND_TIME_MAX.duration(), run(command))
        .await
        .map_err(|_| format!("took longer than {KEY_COMMAND_TIME_MAX}"))??;
    match printed.lines().next().map_or("", str::trim) {
        "" => Err("printed no key on its first line".to_owned()),
        key => Ok(Secret::from(key)),
    }
}

/// A running program; dropped before its end, it is killed with what it started.
struct Running {
    child: Box<dyn ChildWrapper>,
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended && self.child.start_kill().is_err() {
            tracing::debug!("the key command ended by itself");
        }
    }
}

/// Runs a program without a shell and gives what it prints.
async fn run(command: &[String]) -> Result<String, String> {
    let (program, arguments) = command.split_first().ok_or("names no program")?;
    let mut wrapped = CommandWrap::with_new(program, |command| {
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    });
    wrapped.wrap(ProcessGroup::leader()).wrap(KillOnDrop);
    let child = wrapped.spawn().map_err(|error| format!("can't be started: {error}"))?;
    let mut running = Running { child, ended: false };
    let printed = read_bounded(&mut running.child).await?;
    let status = running.child.wait().await.map_err(|error| format!("can't be waited for: {error}"))?;
    running.ended = true;
    if !status.success() {
        return Err(format!("ended with {status}"));
    }
    String::from_utf8(printed).map_err(|_| "printed what is no UTF-8".to_owned())
}

async fn read_bounded(child: &mut Box<dyn ChildWrapper>) -> Result<Vec<u8>, String> {
    let stdout = child.stdout().take().ok_or("has no standard output")?;
    let mut printed = Vec::new();
    let read = stdout.take(KEY_COMMAND_BYTES_MAX + 1).read_to_end(&mut printed).await;
    let count = read.map_err(|error| format!("can't be read: {error}"))?;
    if u64::try_from(count).unwrap_or(u64::MAX) > KEY_COMMAND_BYTES_MAX {
        return Err(format!("printed more than {KEY_COMMAND_BYTES_MAX} bytes"));
    }
    Ok(printed)
}
