//! The connection below a request: where it was accepted, and how a handler breaks it.

use std::{future, net::IpAddr};

use axum::response::Response;
use tokio::sync::mpsc;

/// A handler's access to the connection that its request came over.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    /// The number of the connection, counted from 1.
    pub(crate) connection: usize,
    /// The address of this machine that the client connected to.
    pub(crate) ip: IpAddr,
    commands: mpsc::UnboundedSender<WireCommand>,
}

/// How the listener is to end a connection.
#[derive(Debug)]
pub(crate) enum WireCommand {
    Reset,
    Garbage,
}

impl Wire {
    /// The access, and the receiver of its commands, which the listener carries out.
    pub(crate) fn new(connection: usize, ip: IpAddr) -> (Self, mpsc::UnboundedReceiver<WireCommand>) {
        let (commands, received) = mpsc::unbounded_channel();
        (Self { connection, ip, commands }, received)
    }

    /// Never returns: the connection ends under the request.
    pub(crate) async fn reset(&self) -> Response {
        self.command(WireCommand::Reset).await
    }

    /// Never returns: the connection ends under the request.
    pub(crate) async fn garbage(&self) -> Response {
        self.command(WireCommand::Garbage).await
    }

    async fn command(&self, command: WireCommand) -> Response {
        // The listener holds the receiver for as long as the request runs, so the command arrives.
        let _ = self.commands.send(command);
        future::pending().await
    }
}
