//! A stand-in for Discord on this machine: the part of its REST API and of its gateway (version 10) that
//! serenity uses for interactions.

mod gateway;
pub(crate) mod payload;
mod rest;

use std::{
    collections::{BTreeSet, HashMap},
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::AbortHandle,
    time::timeout,
};

use self::gateway::Gateway;

/// The id of the bot and of its application.
const APPLICATION: &str = "775799577604522054";

/// It runs until it is dropped.
pub(crate) struct Discord {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: AbortHandle,
}

/// What a bot has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) content: String,
    /// Whether only the one who asked sees it.
    pub(crate) ephemeral: bool,
    /// The `custom_id`s of the buttons under it.
    pub(crate) buttons: Vec<String>,
}

/// "The application did not respond", as Discord tells the user.
#[derive(Debug)]
pub(crate) struct NoAnswer;

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the application did not respond")
    }
}

/// What the gateway and the REST API both know.
struct Shared {
    address: SocketAddr,
    /// Of the bot, which it logs in with.
    token: String,
    gateway: watch::Sender<Gateway>,
    /// Each by its token.
    interactions: Mutex<HashMap<String, Interaction>>,
    commands: Mutex<BTreeSet<String>>,
    unknown: Mutex<Vec<String>>,
    last_id: AtomicU64,
}

/// An interaction that the bot answers, or not.
struct Interaction {
    id: String,
    channel: String,
    /// Discord takes one response, and then follow-ups.
    acknowledged: bool,
    /// The message that the response has made or, if it was deferred, will be edited to.
    message: Value,
    answers: mpsc::UnboundedSender<Answer>,
}

impl Discord {
    /// Starts it, for the bot that has this token.
    pub(crate) async fn start(token: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            address,
            token: token.to_owned(),
            gateway: watch::Sender::new(Gateway::default()),
            interactions: Mutex::default(),
            commands: Mutex::default(),
            unknown: Mutex::default(),
            // Ids are unique and grow, also after a restart.
            last_id: AtomicU64::new(payload::snowflake_now()),
        });
        let router = rest::router(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Ok(Self { shared, address, server })
    }

    /// Where it is, for the `proxy` of serenity's `HttpBuilder`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until the bot has logged in at the gateway.
    pub(crate) async fn connected(&self) {
        let mut gateway = self.shared.gateway.subscribe();
        // The sender is ours: it does not go away.
        let _ = gateway.wait_for(Gateway::is_connected).await;
    }

    /// The names of the commands that the bot has registered.
    pub(crate) fn commands(&self) -> BTreeSet<String> {
        lock(&self.shared.commands).clone()
    }

    /// Sends the bot an interaction (with an id and a token of its own), and waits so long for the answer.
    pub(crate) async fn interact(
        &self,
        mut interaction: Value,
        patience: Duration,
    ) -> Result<Answer, NoAnswer> {
        let id = self.shared.new_id();
        let token = payload::interaction_token(&id);
        let (sender, mut answers) = mpsc::unbounded_channel();
        let channel = interaction["channel_id"].as_str().unwrap_or("0").to_owned();
        let begun = Interaction {
            id: id.clone(),
            channel,
            acknowledged: false,
            message: Value::Null,
            answers: sender,
        };
        lock(&self.shared.interactions).insert(token.clone(), begun);
        interaction["id"] = json!(id);
        interaction["token"] = json!(token);
        self.dispatch("INTERACTION_CREATE", interaction);
        let answer = timeout(patience, answers.recv()).await;
        answer.ok().flatten().ok_or(NoAnswer)
    }

    /// Sends the bot an event, whatever it is.
    pub(crate) fn dispatch(&self, event: &str, data: Value) {
        self.shared.gateway.send_modify(|gateway| gateway.dispatch(event, data));
    }

    /// Tells the bot to connect again and go on, as Discord does every now and then.
    pub(crate) fn reconnect(&self) {
        self.shared.gateway.send_modify(Gateway::reconnect);
    }

    /// How often the bot has gone on with what it had begun.
    pub(crate) fn resumed(&self) -> u64 {
        self.shared.gateway.borrow().resumed()
    }

    /// The requests for what this stand-in does not have. There should be none.
    pub(crate) fn unknown(&self) -> Vec<String> {
        lock(&self.shared.unknown).clone()
    }
}

impl Drop for Discord {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn new_id(&self) -> String {
        self.last_id.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
