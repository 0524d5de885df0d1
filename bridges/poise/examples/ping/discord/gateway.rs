//! The gateway: a WebSocket over which events come to the bot.

use std::sync::Arc;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use serde_json::{Value, json};
use tokio::select;

use super::{APPLICATION, Shared, payload};

/// Closes with it: the bot has sent what it cannot send then.
const UNKNOWN_OPCODE: u16 = 4001;
const AUTHENTICATION_FAILED: u16 = 4004;

/// What the bot is sent, and has been. Events stay, so that a bot that has lost its connection gets what it
/// has missed.
#[derive(Default)]
pub(super) struct Gateway {
    events: Vec<Value>,
    session: Option<String>,
    /// How many connections there were, and which of them is the bot's now.
    connections: u64,
    connected: Option<u64>,
    /// How often the bot was told to connect again, and has.
    reconnects: u64,
    resumed: u64,
}

impl Gateway {
    pub(super) const fn is_connected(&self) -> bool {
        self.connected.is_some()
    }

    pub(super) const fn resumed(&self) -> u64 {
        self.resumed
    }

    pub(super) fn dispatch(&mut self, event: &str, data: Value) {
        let number = self.events.len() + 1;
        self.events.push(json!({"op": 0, "s": number, "t": event, "d": data}));
    }

    pub(super) const fn reconnect(&mut self) {
        self.connected = None;
        self.reconnects += 1;
    }

    const fn connect(&mut self) -> u64 {
        self.connections += 1;
        self.connections
    }

    fn disconnect(&mut self, connection: u64) {
        // The bot may be back already, in another.
        self.connected = self.connected.filter(|connected| *connected != connection);
    }

    /// A new session, which begins with this event.
    fn identify(&mut self, connection: u64, ready: Value) {
        self.session = ready["session_id"].as_str().map(str::to_owned);
        self.events.clear();
        self.dispatch("READY", ready);
        self.connected = Some(connection);
    }

    fn resume(&mut self, connection: u64, session: &Value) -> bool {
        if session.as_str() != self.session.as_deref() {
            return false;
        }
        self.dispatch("RESUMED", json!({}));
        self.connected = Some(connection);
        self.resumed += 1;
        true
    }
}

/// One connection of the bot.
pub(super) async fn connection(shared: Arc<Shared>, mut socket: WebSocket) {
    let mut number = 0;
    shared.gateway.send_modify(|gateway| number = gateway.connect());
    let mut connection = Connection { shared: &shared, number, sent: None };
    // An error means that the bot is gone; it connects again if it wants to.
    if let Ok(Some(code)) = connection.serve(&mut socket).await {
        let frame = CloseFrame { code, reason: "".into() };
        let _ = socket.send(Message::Close(Some(frame))).await;
    }
    shared.gateway.send_modify(|gateway| gateway.disconnect(number));
}

struct Connection<'s> {
    shared: &'s Shared,
    number: u64,
    /// The number of the event that was sent last; none before the bot has logged in.
    sent: Option<usize>,
}

impl Connection<'_> {
    /// Until the bot goes, or is to go with this code.
    async fn serve(&mut self, socket: &mut WebSocket) -> Result<Option<u16>, axum::Error> {
        let mut gateway = self.shared.gateway.subscribe();
        let reconnects = gateway.borrow().reconnects;
        send(socket, &json!({"op": 10, "d": {"heartbeat_interval": 41_250}})).await?;
        loop {
            select! {
                received = socket.recv() => match received.transpose()? {
                    Some(Message::Text(text)) => {
                        let said = serde_json::from_str(&text).unwrap_or_default();
                        if let Some(code) = self.hear(socket, &said).await? {
                            return Ok(Some(code));
                        }
                    }
                    Some(Message::Close(_)) | None => return Ok(None),
                    Some(_) => {}
                },
                _ = gateway.changed() => {}
            }
            if gateway.borrow().reconnects > reconnects {
                send(socket, &json!({"op": 7, "d": null})).await?;
                return Ok(None);
            }
            self.send_events(socket).await?;
        }
    }

    async fn hear(&mut self, socket: &mut WebSocket, said: &Value) -> Result<Option<u16>, axum::Error> {
        match said["op"].as_u64() {
            Some(1) => send(socket, &json!({"op": 11})).await?,
            Some(2) if !self.knows(&said["d"]["token"]) => return Ok(Some(AUTHENTICATION_FAILED)),
            Some(2) => {
                let ready = self.ready();
                self.shared.gateway.send_modify(|gateway| gateway.identify(self.number, ready));
                self.sent = Some(0);
            }
            Some(6) if !self.knows(&said["d"]["token"]) => return Ok(Some(AUTHENTICATION_FAILED)),
            Some(6) => {
                let mut resumed = false;
                self.shared.gateway.send_modify(|gateway| {
                    resumed = gateway.resume(self.number, &said["d"]["session_id"]);
                });
                if resumed {
                    self.sent = said["d"]["seq"].as_u64().and_then(|number| number.try_into().ok());
                } else {
                    send(socket, &json!({"op": 9, "d": false})).await?;
                }
            }
            _ => return Ok(Some(UNKNOWN_OPCODE)),
        }
        Ok(None)
    }

    fn knows(&self, token: &Value) -> bool {
        token.as_str().is_some_and(|token| self.shared.is_token(token))
    }

    /// As Discord's documentation has it.
    fn ready(&self) -> Value {
        json!({
            "v": 10,
            "user": payload::bot(),
            "guilds": [],
            "session_id": format!("session-{}", self.shared.new_id()),
            "resume_gateway_url": self.shared.gateway_url(),
            "shard": [0, 1],
            "application": {"id": APPLICATION, "flags": 0},
        })
    }

    async fn send_events(&mut self, socket: &mut WebSocket) -> Result<(), axum::Error> {
        let Some(sent) = self.sent else { return Ok(()) };
        let events = self.shared.gateway.borrow().events.get(sent..).unwrap_or_default().to_vec();
        self.sent = Some(sent + events.len());
        for event in events {
            send(socket, &event).await?;
        }
        Ok(())
    }
}

async fn send(socket: &mut WebSocket, said: &Value) -> Result<(), axum::Error> {
    socket.send(Message::text(said.to_string())).await
}
