//! The other processes of a trial. Only they use the mounted file systems: a process that waits for a disk must not be
//! the one that serves it.

use std::{
    collections::BTreeMap,
    env,
    io::{self, BufRead, BufReader, PipeWriter, Write},
    process::{Child, Command, Output, Stdio, exit},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::Mutex;

use crate::history::{Event, History, State};

/// The longest time that a process other than a load may take.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest time from the kill of a process to its end.
const LONGEST_KILL: Duration = Duration::from_secs(5);

fn this_program(role: &str) -> Result<Command, String> {
    let program = env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut command = Command::new(program);
    command.arg(role);
    Ok(command)
}

/// A running [`Load`](crate::Load). It is killed on drop.
pub(crate) struct RunningLoad {
    process: Child,
    /// The pipe to which the load writes its events.
    events: Option<PipeWriter>,
    reader: Option<JoinHandle<Result<(), String>>>,
}

impl RunningLoad {
    /// Starts a load, whose events are added to the history.
    pub(crate) fn start(
        url: &str,
        seed: u64,
        flush: bool,
        history: &Arc<Mutex<History>>,
    ) -> Result<Self, String> {
        let failed = |error| format!("cannot start a load: {error}");
        let (output, events) = io::pipe().map_err(failed)?;
        let process = this_program("load")?
            .args([url, &seed.to_string()])
            .args(flush.then_some("--flush"))
            .stdin(Stdio::null())
            .stdout(events.try_clone().map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let history = Arc::clone(history);
        let reader = thread::spawn(move || {
            let mut lines = BufReader::new(output);
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
                // The kill may have cut the last line off.
                let Some(event) = line.strip_suffix('\n') else { break };
                history.lock().push(event.parse::<Event>()?);
                line.clear();
            }
            Ok(())
        });
        Ok(Self { process, events: Some(events), reader: Some(reader) })
    }

    /// Returns a function that adds an event to those of the load. The pipe has the order of the writes, so a request
    /// after the event was made after it.
    pub(crate) fn marker(
        &self,
        event: &Event,
    ) -> Result<impl FnOnce() -> Result<(), String> + Send + 'static, String> {
        let failed = |error| format!("cannot write an event: {error}");
        let mut events = self.events.as_ref().ok_or("the load has ended")?.try_clone().map_err(failed)?;
        let line = format!("{event}\n");
        Ok(move || events.write_all(line.as_bytes()).map_err(failed))
    }

    /// Kills the process. Its events are then in the history.
    ///
    /// # Errors
    ///
    /// If the load had ended by itself.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        if let Ok(Some(status)) = self.process.try_wait() {
            return Err(format!("the load ended by itself: {status}"));
        }
        self.end()
    }

    fn end(&mut self) -> Result<(), String> {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // The reader reads until the last writer has closed the pipe.
        self.events = None;
        match self.reader.take().map(JoinHandle::join) {
            Some(Ok(read)) => read,
            Some(Err(_)) => Err("the reader of events panicked".into()),
            None => Ok(()),
        }
    }
}

impl Drop for RunningLoad {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Opens the store in a [`Look`](crate::Look), and returns the entries in it. `keys` are read also if the listing does
/// not contain them.
///
/// # Errors
///
/// If the store is damaged or fails.
pub(crate) fn look(url: &str, keys: &str) -> Result<BTreeMap<String, State>, String> {
    let output = output("a look", this_program("look")?.arg(url), keys.into())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let entry = |line: &str| {
        let (key, state) = line.split_once(' ').ok_or_else(|| format!("`{line}` is not an entry"))?;
        Ok((key.to_owned(), state.parse()?))
    };
    String::from_utf8_lossy(&output.stdout).lines().map(entry).collect()
}

/// Runs a process to its end, and kills it if it does not end in time.
///
/// # Errors
///
/// If it cannot be run, or does not end in time.
pub(crate) fn output(name: &str, command: &mut Command, input: Vec<u8>) -> Result<Output, String> {
    let failed = |error| format!("cannot run {name}: {error}");
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().map_err(failed)?;
    let id = process.id().to_string();
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || {
        if let Some(mut stdin) = process.stdin.take() {
            // It fails only if the process has ended, whose message says more.
            let _ = stdin.write_all(&input);
        }
        let _ = sender.send(process.wait_with_output());
    });
    ended
        .recv_timeout(LONGEST)
        .unwrap_or_else(|_| {
            let _ = Command::new("sh").args(["-c", "kill -KILL \"$0\"", &id]).status();
            let reason = format!("it did not end in {LONGEST:?}");
            if ended.recv_timeout(LONGEST_KILL).is_err() {
                // It waits in the kernel for a disk. The end of this process fails its requests.
                eprintln!("larder-file-systems: cannot run {name}: {reason}, and cannot be killed");
                exit(1);
            }
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        })
        .map_err(failed)
}
