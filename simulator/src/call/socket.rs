//! A session over a WebSocket: the same events as over a data channel, and the audio in events.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use serde_json::Value;
use tokio::{
    sync::oneshot,
    time::{self, MissedTickBehavior},
};

use super::{audio::FRAME_MS, conversation::Conversation, server_event::ServerEvents};
use crate::refusal::Refusal;

/// Runs a session until either side ends it. Sending to the other end of `close`, or dropping it, closes the socket.
pub(crate) async fn run(mut socket: WebSocket, session: Value, limit: Duration, mut close: oneshot::Receiver<()>) {
    let mut conversation = Conversation::with_audio_in_events(session);
    conversation.start();
    let mut steps = time::interval(Duration::from_millis(FRAME_MS));
    steps.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let limit_reached = time::sleep(limit);
    tokio::pin!(limit_reached);
    let mut open = true;
    while send(&mut socket, &mut conversation.events).await && open {
        tokio::select! {
            _ = &mut close => open = false,
            () = &mut limit_reached => {
                conversation.expire(limit);
                open = false;
            }
            message = socket.recv() => open = match message {
                Some(Ok(Message::Text(event))) => conversation.handle(event.as_bytes()),
                Some(Ok(Message::Binary(event))) => conversation.handle(&event),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => true,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
            _ = steps.tick() => {
                conversation.next_frame();
            }
        }
    }
    let _ = socket.send(Message::Close(None)).await;
}

/// Sends one `error` event and closes the socket.
pub(crate) async fn refuse(mut socket: WebSocket, refusal: &Refusal) {
    let mut events = ServerEvents::default();
    events.error(refusal, &Value::Null);
    if send(&mut socket, &mut events).await {
        let _ = socket.send(Message::Close(None)).await;
    }
}

/// Sends the waiting events. Returns whether the client is still there.
async fn send(socket: &mut WebSocket, events: &mut ServerEvents) -> bool {
    while let Some(event) = events.next() {
        if socket.send(Message::text(event.to_string())).await.is_err() {
            return false;
        }
    }
    true
}
