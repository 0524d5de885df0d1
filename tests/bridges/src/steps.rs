//! A storage whose operations a test counts and steps through.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use larder_core::{
    Bytes, Condition, DeleteOptions, Error, Expiry, Info, Key, ReadOptions, Record, Result, Storage, Store,
    TouchOptions, Version, Versions, WriteOptions, Written, async_trait,
};
use larder_memory::MemoryStorage;

/// A storage in memory that yields before each operation. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    memory: MemoryStorage,
    /// Whether the versions are the content, as in Redis.
    content: bool,
    calls: Arc<Mutex<Vec<&'static str>>>,
}

impl Steps {
    /// Returns a storage with these versions.
    #[must_use]
    pub fn with_versions(versions: Versions) -> Self {
        Self { content: versions == Versions::Content, ..Self::default() }
    }

    fn version(&self, value: &Bytes, version: Option<Version>) -> Option<Version> {
        if self.content { Some(Version::from_content(value.clone())) } else { version }
    }

    /// Returns the condition for the storage in memory.
    async fn condition(&self, key: &Key, condition: &Condition) -> Result<Condition> {
        let Condition::At(version) = condition else { return Ok(condition.clone()) };
        if !self.content {
            return Ok(condition.clone());
        }
        let current = self.memory.read(key, &ReadOptions::new()).await?;
        let unchanged = current.filter(|current| version.as_content() == Some(&current.value));
        unchanged.and_then(|current| current.version).map(Condition::At).ok_or_else(Error::conflict)
    }

    /// Returns the storage itself, without steps.
    #[must_use]
    pub fn storage(&self) -> Store {
        Store::new(self.memory.clone())
    }

    /// Returns the operations since the last call of this method.
    pub fn take_calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    async fn step(&self, call: &'static str) {
        let mut waits = true;
        std::future::poll_fn(|context| {
            context.waker().wake_by_ref();
            if std::mem::take(&mut waits) { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        self.calls.lock().unwrap().push(call);
    }
}

#[async_trait]
impl Storage for Steps {
    fn info(&self) -> Info {
        let info = self.memory.info();
        if self.content { info.with_versions(Versions::Content) } else { info }
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        self.step("read").await;
        let record = self.memory.read(key, options).await?;
        Ok(record.map(|mut record| {
            record.version = self.version(&record.value, record.version.take());
            record
        }))
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.step(match options.condition {
            Condition::Any => "write",
            Condition::Absent => "write if absent",
            _ => "write if present",
        })
        .await;
        let condition = self.condition(key, &options.condition).await?;
        let options = options.clone().condition(condition);
        let mut written = self.memory.write(key, value.clone(), &options).await?;
        written.version = self.version(&value, written.version);
        Ok(written)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.step(if options.condition == Condition::Any { "delete" } else { "delete if present" }).await;
        let condition = self.condition(key, &options.condition).await?;
        self.memory.delete(key, &DeleteOptions::new().condition(condition)).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        self.step("touch").await;
        let condition = self.condition(key, &options.condition).await?;
        self.memory.touch(key, expiry, &options.clone().condition(condition)).await
    }
}

/// A task of a schedule. Each poll runs one operation of a [`Steps`] storage.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs tasks in every order of their operations. `start` returns the tasks, and the check of their result.
/// Returns the number of orders.
pub fn in_every_order(start: impl Fn() -> (Vec<Task>, Task)) -> usize {
    // For each step, the chosen task and the number of tasks that could be chosen.
    let mut choices: Vec<(usize, usize)> = Vec::new();
    for orders in 1.. {
        let mut step = 0;
        run(start(), |tasks| {
            if step == choices.len() {
                choices.push((0, tasks));
            }
            step += 1;
            choices[step - 1].0
        });
        while choices.pop_if(|(chosen, tasks)| *chosen + 1 == *tasks).is_some() {}
        match choices.last_mut() {
            Some((chosen, _)) => *chosen += 1,
            None => return orders,
        }
    }
    unreachable!("the orders end")
}

/// Runs tasks in this many random orders of their operations, the same ones each time. In some of them, a task runs for
/// many operations while the others wait.
pub fn in_random_orders(orders: usize, start: impl Fn() -> (Vec<Task>, Task)) {
    let mut random = fastrand::Rng::with_seed(1);
    for order in 0..orders {
        let changes = [1.0, 0.3, 0.1, 0.03][order % 4];
        let mut chosen = 0;
        run(start(), |tasks| {
            if chosen >= tasks || random.f64() < changes {
                chosen = random.usize(..tasks);
            }
            chosen
        });
    }
}

/// Runs the tasks. `choose` returns which of the given number of tasks runs next.
fn run((mut tasks, check): (Vec<Task>, Task), mut choose: impl FnMut(usize) -> usize) {
    while !tasks.is_empty() {
        let chosen = choose(tasks.len());
        if poll(&mut tasks[chosen]) {
            drop(tasks.remove(chosen));
        }
    }
    finish(check);
}

/// Runs one operation of the task. Returns whether the task has ended.
fn poll(task: &mut Task) -> bool {
    task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Runs the task to its end.
pub fn finish(mut task: Task) {
    while !poll(&mut task) {}
}

/// Ends the task after this number of polls, as the end of its process does.
pub fn interrupted(mut task: Task, mut polls: usize) -> Task {
    Box::pin(std::future::poll_fn(move |_| {
        if polls == 0 || poll(&mut task) {
            return Poll::Ready(());
        }
        polls -= 1;
        Poll::Pending
    }))
}
