//! A fake Discord for tests: a local server with the parts of the REST API and of the gateway (version 10)
//! that serenity uses for interactions.
//!
//! ```no_run
//! # use larder_fake_discord::{Discord, payload::{self, Person, Place}};
//! # use std::time::Duration;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let discord = Discord::start("the.token.of-a-bot").await?;
//! // Start the bot with `HttpBuilder::new("the.token.of-a-bot").proxy(discord.url())`.
//! discord.connected().await;
//! let user = Person { id: 7, name: "nelly".to_owned() };
//! let ping = payload::command(&user, Place::Guild { guild: 1, channel: 42 }, "ping");
//! let answer = discord.interact(ping, Duration::from_secs(60)).await?;
//! assert_eq!(answer.content, "pong");
//! # Ok(())
//! # }
//! ```

mod gateway;
pub mod payload;
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

/// A running server. Dropping it stops it.
pub struct Discord {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: AbortHandle,
}

/// The answer of a bot to an interaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The text.
    pub content: String,
    /// Whether only the user of the interaction sees it.
    pub ephemeral: bool,
    /// The `custom_id`s of its buttons.
    pub buttons: Vec<String>,
}

/// The bot did not answer an interaction in time.
#[derive(Debug)]
pub struct NoAnswer;

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the application did not respond")
    }
}

impl std::error::Error for NoAnswer {}

/// The state that the gateway and the REST API share.
struct Shared {
    address: SocketAddr,
    /// The token of the bot.
    token: String,
    gateway: watch::Sender<Gateway>,
    /// By their tokens.
    interactions: Mutex<HashMap<String, Interaction>>,
    commands: Mutex<BTreeSet<String>>,
    unknown: Mutex<Vec<String>>,
    last_id: AtomicU64,
}

/// An interaction that waits for an answer.
struct Interaction {
    id: String,
    channel: String,
    /// Whether the bot has responded. Discord accepts one response, and then follow-ups.
    acknowledged: bool,
    /// The message of the response.
    message: Value,
    answers: mpsc::UnboundedSender<Answer>,
}

impl Discord {
    /// Starts a server for the bot with this token.
    ///
    /// # Errors
    ///
    /// If no port is free.
    pub async fn start(token: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            address,
            token: token.to_owned(),
            gateway: watch::Sender::new(Gateway::default()),
            interactions: Mutex::default(),
            commands: Mutex::default(),
            unknown: Mutex::default(),
            // Ids grow, also after a restart.
            last_id: AtomicU64::new(payload::snowflake_now()),
        });
        let router = rest::router(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Ok(Self { shared, address, server })
    }

    /// Returns the server's URL, for the `proxy` of serenity's `HttpBuilder`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until the bot has logged in to the gateway.
    pub async fn connected(&self) {
        let mut gateway = self.shared.gateway.subscribe();
        // It cannot fail: this value holds the sender.
        let _ = gateway.wait_for(Gateway::is_connected).await;
    }

    /// Returns the names of the commands that the bot has registered.
    #[must_use]
    pub fn commands(&self) -> BTreeSet<String> {
        lock(&self.shared.commands).clone()
    }

    /// Sends the bot an interaction, with a new id and token, and waits for the answer.
    ///
    /// # Errors
    ///
    /// If the bot does not answer within `limit`.
    pub async fn interact(&self, mut interaction: Value, limit: Duration) -> Result<Answer, NoAnswer> {
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
        let answer = timeout(limit, answers.recv()).await;
        answer.ok().flatten().ok_or(NoAnswer)
    }

    /// Sends the bot any event.
    pub fn dispatch(&self, event: &str, data: Value) {
        self.shared.gateway.send_modify(|gateway| gateway.dispatch(event, data));
    }

    /// Tells the bot to reconnect and resume, as Discord does from time to time.
    pub fn reconnect(&self) {
        self.shared.gateway.send_modify(Gateway::reconnect);
    }

    /// Returns the number of times that the bot has resumed its gateway session.
    #[must_use]
    pub fn resumed(&self) -> u64 {
        self.shared.gateway.borrow().resumed()
    }

    /// Returns the requests that this server does not implement. A test should send none.
    #[must_use]
    pub fn unknown(&self) -> Vec<String> {
        lock(&self.shared.unknown).clone()
    }
}

impl fmt::Debug for Discord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discord").field("address", &self.address).finish_non_exhaustive()
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
