//! The gateway: a WebSocket that carries events to the bot.

use std::sync::Arc;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use serde_json::{Value, json};
use tokio::select;

use crate::{APPLICATION, Shared, payload};

/// The close code after a message that the bot may not send then.
const UNKNOWN_OPCODE: u16 = 4001;
const AUTHENTICATION_FAILED: u16 = 4004;

/// The events for the bot. They are kept, so that a bot that resumes receives those that it has missed.
#[derive(Default)]
pub(crate) struct Gateway {
    events: Vec<Value>,
    session: Option<String>,
    /// The number of connections so far, and the one that is open.
    connections: u64,
    connected: Option<u64>,
    /// The number of times that the bot was told to reconnect, and that it resumed.
    reconnects: u64,
    resumed: u64,
}

impl Gateway {
    pub(crate) const fn is_connected(&self) -> bool {
        self.connected.is_some()
    }

    pub(crate) const fn resumed(&self) -> u64 {
        self.resumed
    }

    pub(crate) fn dispatch(&mut self, event: &str, data: Value) {
        let number = self.events.len() + 1;
        self.events.push(json!({"op": 0, "s": number, "t": event, "d": data}));
    }

    pub(crate) const fn reconnect(&mut self) {
        self.connected = None;
        self.reconnects += 1;
    }

    const fn connect(&mut self) -> u64 {
        self.connections += 1;
        self.connections
    }

    fn disconnect(&mut self, connection: u64) {
        // The bot may already use another connection.
        self.connected = self.connected.filter(|connected| *connected != connection);
    }

    /// Begins a new session with this event.
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
pub(crate) async fn connection(shared: Arc<Shared>, mut socket: WebSocket) {
    let mut number = 0;
    shared.gateway.send_modify(|gateway| number = gateway.connect());
    let mut connection = Connection { shared: &shared, number, sent: None };
    // An error means that the bot has disconnected.
    if let Ok(Some(code)) = connection.serve(&mut socket).await {
        let frame = CloseFrame { code, reason: "".into() };
        let _ = socket.send(Message::Close(Some(frame))).await;
    }
    shared.gateway.send_modify(|gateway| gateway.disconnect(number));
}

struct Connection<'s> {
    shared: &'s Shared,
    number: u64,
    /// The number of the last event sent; `None` before the bot has logged in.
    sent: Option<usize>,
}

impl Connection<'_> {
    /// Serves the bot until it disconnects, or until it must be disconnected with the returned code.
    async fn serve(&mut self, socket: &mut WebSocket) -> Result<Option<u16>, axum::Error> {
        let mut gateway = self.shared.gateway.subscribe();
        let reconnects = gateway.borrow().reconnects;
        send(socket, &json!({"op": 10, "d": {"heartbeat_interval": 41_250}})).await?;
        loop {
            select! {
                received = socket.recv() => match received.transpose()? {
                    Some(Message::Text(text)) => {
                        let message = serde_json::from_str(&text).unwrap_or_default();
                        if let Some(code) = self.receive(socket, &message).await? {
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

    async fn receive(&mut self, socket: &mut WebSocket, message: &Value) -> Result<Option<u16>, axum::Error> {
        match message["op"].as_u64() {
            Some(1) => send(socket, &json!({"op": 11})).await?,
            Some(2) if !self.is_valid(&message["d"]["token"]) => return Ok(Some(AUTHENTICATION_FAILED)),
            Some(2) => {
                let ready = self.ready();
                self.shared.gateway.send_modify(|gateway| gateway.identify(self.number, ready));
                self.sent = Some(0);
            }
            Some(6) if !self.is_valid(&message["d"]["token"]) => return Ok(Some(AUTHENTICATION_FAILED)),
            Some(6) => {
                let mut resumed = false;
                self.shared.gateway.send_modify(|gateway| {
                    resumed = gateway.resume(self.number, &message["d"]["session_id"]);
                });
                if resumed {
                    self.sent = message["d"]["seq"].as_u64().and_then(|number| number.try_into().ok());
                } else {
                    send(socket, &json!({"op": 9, "d": false})).await?;
                }
            }
            _ => return Ok(Some(UNKNOWN_OPCODE)),
        }
        Ok(None)
    }

    fn is_valid(&self, token: &Value) -> bool {
        token.as_str().is_some_and(|token| self.shared.is_token(token))
    }

    /// <https://discord.com/developers/docs/events/gateway-events#ready>
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

async fn send(socket: &mut WebSocket, message: &Value) -> Result<(), axum::Error> {
    socket.send(Message::text(message.to_string())).await
}
